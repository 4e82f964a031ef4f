"""Reports as objects: of a stored study, and of a table that was measured elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from slm_energy import StudyReport, SweepResult, load_trials, report
from slm_energy.errors import AnalysisError, ConfigError, TrackingError

PAPER = Path(__file__).parents[1] / "data" / "paper_series.csv"


@pytest.fixture(scope="module")
def built(finished: SweepResult) -> StudyReport:
    metrics = ["latency/e2e_p50_s", "throughput/output_tokens_per_s"]
    return report(finished.study, tracking=finished.tracking, metrics=metrics)


def test_a_pair_is_a_row_with_ratio_interval_and_verdict(
    built: StudyReport, finished: SweepResult
) -> None:
    assert built.pairs["metric"].tolist() == ["latency/e2e_p50_s", "throughput/output_tokens_per_s"]
    row = built.pairs.iloc[0]
    trials = load_trials(finished.study, finished.tracking)
    logs = np.log(trials.groupby("cell")["latency/e2e_p50_s"].mean())
    assert row["ratio"] == pytest.approx(np.exp(logs[row["a_cell"]] - logs[row["b_cell"]]), rel=0.1)
    assert row["low"] < row["ratio"] < row["high"] < 1
    assert row["verdict"] == "saves"
    assert (row["a"], row["b"]) == (
        "scripted / cpu / token_s=0.0005",
        "scripted / cpu / token_s=0.001",
    )


def test_a_cell_is_a_row_per_metric(built: StudyReport) -> None:
    assert built.cells.groupby("metric").size().tolist() == [2, 2]
    assert (built.cells["trials"] == 3).all()
    assert set(built.cells["cell"]) == set(built.pairs.loc[0, ["a_cell", "b_cell"]])
    assert built.cells["instrument_low"].dtype == float, "an unknown figure is NaN"


def test_it_renders_itself(built: StudyReport) -> None:
    assert built.findings
    page = built._repr_html_()
    assert built.findings[0] in page
    assert "<style" not in page, "it takes the notebook's own style"
    assert "<script" not in page
    assert built.html.startswith("<!doctype html>")
    assert repr(built).endswith("2 cells, 3 rounds, 6 of 6 trials valid")
    assert max(map(len, str(built).splitlines())) <= 100


def test_it_is_saved_to_a_folder(built: StudyReport, tmp_path: Path) -> None:
    page = built.save(tmp_path / "out")
    assert page.read_text(encoding="utf-8") == built.html
    assert len(pd.read_parquet(tmp_path / "out" / "trials.parquet")) == 6
    with pytest.raises(ConfigError, match="cannot write: "):
        built.save(page)


def test_a_table_measured_elsewhere_is_reported_too(tmp_path: Path) -> None:
    rows = [
        {"engine": engine, "latency/e2e_p50_s": value * (1 + repetition / 1000)}
        for engine, value in (("ours", 1.0), ("theirs", 2.0))
        for repetition in range(5)
    ]
    path = tmp_path / "table.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    columns = {"factors": {"engine": "engine"}}
    built = report(data=path, families=[], columns=columns)
    assert built.result.study == "table"
    assert built.pairs["ratio"].item() == pytest.approx(0.5)
    assert "table.csv" in " ".join(built.result.notes)
    assert report("named", data=path, families=[], columns=columns).result.study == "named"


def test_the_columns_of_a_table_may_be_named_by_a_file_of_conf() -> None:
    built = report(data=PAPER, columns="paper_series")
    assert built.findings
    assert built.grids
    assert built.grids[0].title in built._repr_html_()
    assert built.grids[0].title in str(built)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"report\(\) needs study=NAME, or data=FILE"),
        ({"study": "finished", "margn": 1}, "margn=1: no such option; there are: .*margin"),
        ({"study": "finished", "margin": 9}, "margin=9.0 is out of range"),
        ({"study": "finished", "metrics": "latency"}, "metrics='latency' is not valid"),
        ({"study": "finished", "out": "x"}, r"out='x': call \.save\(FOLDER\)"),
        ({"study": "finished", "columns": "tidy"}, "columns='tidy': it belongs to data=FILE"),
    ],
)
def test_options_that_are_not_valid_are_one_clear_error(
    finished: SweepResult, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        report(tracking=finished.tracking, **options)  # type: ignore[arg-type]


def test_a_study_or_store_that_does_not_exist_is_an_error(
    finished: SweepResult, tmp_path: Path
) -> None:
    with pytest.raises(TrackingError, match="study='none' is not in"):
        report("none", tracking=finished.tracking)
    with pytest.raises(TrackingError, match="no store in"):
        report("none", tracking=tmp_path)
    with pytest.raises(AnalysisError, match=r"none\.csv"):
        report(data=tmp_path / "none.csv")
