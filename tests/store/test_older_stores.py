"""Stores, offline folders and caches that version 0.1.0 wrote before the package's layout changed.

`tests/data/before.tar.xz` holds them; `tests/data/README.md` says how they were made.
"""

from __future__ import annotations

import json
import platform
import re
import shutil
import sqlite3
from pathlib import Path

import pandas as pd
import pytest

from slm_energy import analysis, cache
from slm_energy.analysis.checklist import ENTRIES, checklist
from slm_energy.config.groups import TrackingConfig
from slm_energy.running.checklist import study_facts
from slm_energy.running.report import study_report
from slm_energy.store.tracking import Store
from tests.conftest import Command

DATA = Path(__file__).parents[1] / "data"
CELLS = 2
ROUNDS = {"before": 3, "kept": 2}


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """A folder with what was written then; its artifacts are where the database says they are."""
    shutil.unpack_archive(DATA / "before.tar.xz", tmp_path)
    database = sqlite3.connect(tmp_path / "mlruns" / "mlflow.db")
    with database:
        for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
            database.execute(
                f"UPDATE {table} SET {column} = replace({column}, 'file:///before/', ?)",
                [f"file://{tmp_path}/"],
            )
    database.close()
    return tmp_path


@pytest.fixture
def store(older: Path) -> Store:
    return Store(TrackingConfig(name="local", folder=str(older / "mlruns")))


def values(node: object, path: str = "") -> dict[str, object]:
    """The leaves of a JSON document, by path."""
    if isinstance(node, dict):
        pairs = list(node.items())
    elif isinstance(node, list):
        pairs = list(enumerate(node))
    else:
        return {path: node}
    leaves: dict[str, object] = {}
    for key, child in pairs:
        leaves |= values(child, f"{path}/{key}")
    return leaves


@pytest.mark.parametrize("study", ["before", "kept"])
def test_every_trial_is_read(store: Store, study: str) -> None:
    frame = store.frame(study)
    assert len(frame) == CELLS * ROUNDS[study]
    assert set(frame["outcome"]) == {"valid"}


REDEFINED = re.compile(
    "/diagnostics/drifts/|/points/[0-9]+/(score|outlier)$|/effects/effects/[0-9]+/(p$|levels/)"
    "|/power/|/more_rounds$|/(delta|a12)_(low|high)$"
)
"""What schema 2 of a report computes in another way than schema 1; see `result.report.SCHEMA`."""


def test_the_report_has_the_figures_that_it_had(store: Store) -> None:
    sweep = store.last_sweep("before")
    assert sweep is not None
    expected = json.loads(store.attached(sweep, "comparisons.json"))
    options = analysis.options({"study": "before"})
    report = json.loads(analysis.build(store.frame("before"), options).to_json())
    for key in ("cells", "audit", "metrics", "pareto", "trials"):
        now = values(report[key])
        then = {p: v for p, v in values(expected[key]).items() if not REDEFINED.search(p)}
        assert now.keys() >= then.keys()  # later versions add figures
        for path, value in then.items():
            close = pytest.approx(value, rel=1e-9) if isinstance(value, float) else value
            assert now[path] == close, f"{key}{path}"


def test_what_was_summed_is_read_from_the_files_of_older_trials(store: Store) -> None:
    frame = store.frame("before")
    assert set(frame["measured"]) == {"processor package and DRAM of 1 socket"}
    [text] = frame["scope"].unique()
    assert "package-0" in text


def test_what_was_summed_is_unknown_where_those_files_are_lost(older: Path, store: Store) -> None:
    for file in older.glob("mlruns/**/energy.json"):
        file.unlink()
    words = {"cpu_package, dram (devices not recorded)"}
    assert set(store.frame("before")["measured"]) == words


def test_the_same_command_has_nothing_left_to_do(
    older: Path, slm_energy: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cells' Python, bundled weights and tasks were others, and a file had the name bundled."""
    monkeypatch.setattr(platform, "python_version", lambda: "3.11.7")
    monkeypatch.setattr("slm_energy.models.source.identity", lambda model: "f2be8397f604b031")
    monkeypatch.setattr("slm_energy.machine.machine_id", lambda: "machine-before")
    monkeypatch.setattr("slm_energy.running.resume.machine_id", lambda: "machine-before")
    tasks = (f"workload.source={DATA / 'before_tasks.jsonl'}", "workload.name=bundled")
    grid = ("-m", "engine.options.export_s=0.01,0.02", "study.name=kept", "study.rounds=2", *tasks)
    done = slm_energy("plan", *grid)
    assert done.returncode == 0, done.stderr
    assert "4 trials: 4 done" in done.stdout


def test_records_that_wait_are_sent(older: Path, slm_energy: Command) -> None:
    done = slm_energy("sync", "offline", quick=False)
    assert done.returncode == 0, done.stderr
    frame: pd.DataFrame = Store(TrackingConfig(name="local")).frame("away")
    assert len(frame) == CELLS
    assert (frame["energy/total_j"] > 0).all()


def test_entries_of_the_cache_are_used(older: Path) -> None:
    entries = cache.entries(older / "cache")
    assert len(entries) == CELLS
    assert all(entry.state == "whole" and cache.intact(entry.path) for entry in entries)


def test_the_checklist_is_answered_from_older_records(store: Store) -> None:
    result = study_report(store, {"study": "before"}).result
    made = {item.name: item for item in checklist(study_facts(store, result))}
    assert len(made) == len(ENTRIES)
    assert made["Energy sensors"].answer.study.startswith("rapl/intel-rapl")
    assert made["Code"].answer.remedy.startswith("run a round again")
