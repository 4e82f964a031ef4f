"""One study against another, as an object."""

from __future__ import annotations

import pytest

from slm_energy import StudyComparison, SweepResult, compare, run
from slm_energy.errors import AnalysisError, ConfigError, TrackingError
from tests.api.conftest import Words

GRID = ("-m", "engine.options.token_s=0.0005,0.001", "study.rounds=3")
METRIC = "latency/e2e_p50_s"


@pytest.fixture(scope="module")
def later(finished: SweepResult, words: Words) -> SweepResult:
    return run(words("later", *GRID), quiet=True)


@pytest.fixture(scope="module")
def compared(finished: SweepResult, later: SweepResult) -> StudyComparison:
    return compare(
        "finished", "later", tracking=finished.tracking, metrics=[METRIC], margin=0.5, allow=["all"]
    )


def test_every_cell_is_judged(compared: StudyComparison) -> None:
    assert compared.cells["metric"].tolist() == [METRIC, METRIC]
    assert compared.cells["verdict"].isin(["equivalent", "inconclusive"]).all()
    assert not compared.regressed
    assert repr(compared) == "later against finished: no regression"


def test_it_renders_itself(compared: StudyComparison) -> None:
    assert "no regression" in compared._repr_html_()
    assert compared.cells["cell"][0] in compared._repr_html_()
    assert compared.cells["cell"][0].split(" / ")[-1] in str(compared)


def test_a_study_may_be_in_another_store(finished: SweepResult, later: SweepResult) -> None:
    sides = (f"{study}@{finished.tracking}" for study in ("finished", "later"))
    judged = compare(*sides, metrics=[METRIC], margin=0.5, allow=["all"])
    assert len(judged.cells) == 2


def test_studies_that_differ_are_refused_with_the_option_that_allows_it(
    finished: SweepResult, words: Words
) -> None:
    run(words("apart", "workload.new_tokens=5"), quiet=True)
    with pytest.raises(AnalysisError, match=r"allow=|no cell is in both"):
        compare("finished", "apart", tracking=finished.tracking, metrics=[METRIC])


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        (("finished", "finished"), {}, "finished and finished are the same study"),
        (("finished", "later"), {"margn": 1}, "margn=1: no such option"),
        (("finished", "later"), {"margin": 9}, "margin=9.0 is out of range"),
        (("finished", "later"), {"allow": ["luck"]}, "allow=luck: no such group"),
    ],
)
def test_options_that_are_not_valid_are_one_clear_error(
    finished: SweepResult,
    names: tuple[str, str],
    options: dict[str, object],
    message: str,
) -> None:
    with pytest.raises(ConfigError, match=message):
        compare(*names, tracking=finished.tracking, **options)


def test_a_study_or_store_that_does_not_exist_is_an_error(finished: SweepResult) -> None:
    with pytest.raises(TrackingError, match="study='none' is not in"):
        compare("finished", "none", tracking=finished.tracking)
    with pytest.raises(TrackingError, match="no store in"):
        compare("finished", "later@nowhere", tracking=finished.tracking)
