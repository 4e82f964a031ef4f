"""`plan` and `run`: the words of the command line, from Python."""

from __future__ import annotations

import asyncio
import shlex
import threading
from pathlib import Path

import pytest
from mlflow import MlflowClient

from slm_energy import SweepResult, load_trials, plan, run
from slm_energy.errors import ConfigError, SlmEnergyError
from tests.api.conftest import Words

TWO_CELLS = ("-m", "engine.options.token_s=0.0005,0.001", "study.rounds=2")


def test_a_plan_lists_cells_and_trials_and_makes_nothing(words: Words, tmp_path: Path) -> None:
    shown = plan(words("planned", *TWO_CELLS, f"tracking.folder={tmp_path / 'none'}"))
    assert shown.study == "planned"
    assert shown.trials["round"].tolist() == [1, 1, 2, 2]
    assert set(shown.trials["status"]) == {"to do"}
    assert shown.cells[["done", "to do", "given up"]].to_numpy().tolist() == [[0, 2, 0], [0, 2, 0]]
    assert shown.expected_s is None
    assert "4 trials, 4 to do, expected time unknown" in repr(shown)
    assert "token_s=0.001" in str(shown)
    assert "token_s=0.001" in shown._repr_html_()
    assert not (tmp_path / "none").exists()


def test_a_plan_knows_what_is_done(finished: SweepResult, words: Words) -> None:
    grid = ["-m", "engine.options.token_s=0.0005,0.001", "study.rounds=4", "measurement=auto"]
    shown = plan(words("finished", *grid))
    assert shown.trials["status"].value_counts().to_dict() == {"done": 6, "to do": 2}
    assert shown.expected_s is not None
    assert shown.trials["expected_s"].notna().all()


def test_a_plan_says_what_is_left_out_and_why(
    words: Words, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    excluded = "study.exclude=[{engine.options.token_s: 0.001, reason: too slow}]"
    shown = plan(words("left_out", *TWO_CELLS, excluded))
    assert shown.cells["note"].tolist() == ["", "excluded: too slow"]
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    missing = plan(words("missing", "engine.python=transformers5"))
    assert missing.trials.empty
    assert missing.cells["note"].item().startswith("unsupported: engine.python=transformers5")
    assert "slm-energy env create transformers5" in missing._repr_html_()


def test_words_may_be_one_string_as_in_a_shell(words: Words) -> None:
    several = words("text", *TWO_CELLS, "study.exclude=[{engine.options.token_s: 0.001}]")
    assert plan(shlex.join(several)) == plan(several)
    with pytest.raises(ConfigError, match="cannot be split into words: No closing quotation"):
        plan("study.name='text")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--cfg", "job"], "this only prints; use it on the command line"),
        (["engine=foo"], "engine=foo"),
        (["study.rounds=0"], "study.rounds=0 is out of range"),
    ],
)
def test_words_that_are_not_valid_are_one_clear_error(
    words: Words, more: list[str], message: str
) -> None:
    for call in (plan, run):
        with pytest.raises(ConfigError, match=message):
            call(words("bad", *more))


def test_a_run_stores_its_report_as_the_command_line_does(finished: SweepResult) -> None:
    assert finished.outcomes == {"valid": 6}
    assert finished.all_valid
    assert not finished.interrupted
    assert len(finished.trials) == 6
    assert finished.report is not None
    assert finished.report.findings[0] in finished._repr_html_()
    assert repr(finished) == "Study finished: 6 valid"
    client = MlflowClient(f"sqlite:///{finished.tracking}/mlflow.db")
    assert finished.summary.parent is not None
    stored = {file.path for file in client.list_artifacts(finished.summary.parent)}
    assert {"plan.json", "report.html", "comparisons.json"} <= stored


def test_the_same_words_resume(words: Words, capsys: pytest.CaptureFixture[str]) -> None:
    first = run(words("resumed", *TWO_CELLS[:2]), quiet=True)
    assert capsys.readouterr().out == ""
    assert first.outcomes == {"valid": 2}
    again = run(words("resumed", *TWO_CELLS))
    assert again.outcomes == {"valid": 2}
    assert capsys.readouterr().out.count("valid ") == 2
    assert "2 valid; 2 done before" in repr(again)
    over = run(words("resumed", *TWO_CELLS), quiet=True)
    assert "nothing was left to run; 4 done before" in repr(over)
    assert over.trials.empty
    assert over.all_valid
    assert len(load_trials("resumed", over.tracking)) == 4


def test_a_trial_that_failed_is_shown_with_its_reason(words: Words) -> None:
    result = run(words("broken", "engine.options.fail=load", "study.attempts=1"), quiet=True)
    assert result.outcomes == {"failed": 1}
    assert not result.all_valid
    assert result.report is None
    assert "the script says that loading fails" in result.trials["reasons"].item()
    assert "the script says that loading fails" in result._repr_html_()


def test_without_a_store_there_is_no_report(words: Words, tmp_path: Path) -> None:
    result = run(words("offline", "tracking=offline", f"tracking.folder={tmp_path}"), quiet=True)
    assert result.outcomes == {"valid": 1}
    assert result.report is None
    with pytest.raises(SlmEnergyError, match="no store in"):
        load_trials(result.study, result.tracking)


def test_it_runs_inside_a_running_event_loop(words: Words) -> None:
    async def cell_of_a_notebook() -> SweepResult:
        return run(words("looped"), quiet=True)

    assert asyncio.run(cell_of_a_notebook()).outcomes == {"valid": 1}


def test_outside_the_main_thread_it_is_refused_before_anything_starts(
    words: Words, tmp_path: Path
) -> None:
    errors: list[SlmEnergyError] = []

    def call() -> None:
        try:
            run(words("threaded", f"tracking.folder={tmp_path / 'none'}"))
        except SlmEnergyError as error:
            errors.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    [error] = errors
    assert "main thread only: call it there, or start `python -m slm_energy`" in str(error)
    assert not (tmp_path / "none").exists()
