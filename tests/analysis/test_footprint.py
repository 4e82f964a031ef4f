"""Joules become gCO2e and money, with their interval and what they rest on."""

import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from slm_energy.analysis import build, options
from slm_energy.analysis.external import analyse
from slm_energy.analysis.footprint import with_footprint
from slm_energy.analysis.render.files import files
from slm_energy.analysis.render.markdown import to_markdown
from slm_energy.analysis.result.footprint import FootprintRow
from slm_energy.analysis.result.report import Report
from slm_energy.config.compose import compose
from slm_energy.errors import ConfigError
from slm_energy.serialization import from_plain
from tests.analysis.conftest import make_study, with_requests
from tests.analysis.scored import scored_report

FRANCE = 56.039  # gCO2e per kWh, in the tables of CodeCarbon 3.3
COSTS = {"torch/cpu": 0.030, "onnx/cpu": 0.021}


def study(kind: str = "energy", *, rounds: int = 5, gain: float | None = 0.05) -> pd.DataFrame:
    """Requests of 100 tokens; the sensors' gain is known to a share."""
    frame = with_requests(make_study(COSTS, rounds, kind=kind), tokens=100)
    for name in ("per_output_token", "per_request") if gain is not None else ():
        joules = frame[f"{kind}/{name}_j"]
        frame[f"{kind}/{name}_low_with_gain_j"] = joules * (1 - gain)
        frame[f"{kind}/{name}_high_with_gain_j"] = joules * (1 + gain)
    return frame


def converted(frame: pd.DataFrame, **keys: object) -> Report:
    asked = {"carbon": {"location": "FRA", "pue": 1.2}, "price_per_kwh": 0.25} | keys
    return with_footprint(build(frame, options({"study": "toy", **asked})))


def rows(report: Report) -> dict[tuple[str, str], FootprintRow]:
    assert report.footprint is not None
    return {(row.cell, row.per): row for row in report.footprint.rows}


def test_grams_and_money_are_joules_times_pue_factor_and_price() -> None:
    report = converted(study())
    [energy] = report.deciding
    mean = {row.cell: row for row in energy.descriptive}["onnx-cpu"]
    row = rows(report)["onnx-cpu", "million output tokens"]
    kwh = 1e6 * mean.mean / 3.6e6 * 1.2
    assert row.kwh.value == pytest.approx(kwh)
    assert row.g_co2e is not None
    assert row.cost is not None
    assert row.g_co2e.value == pytest.approx(kwh * FRANCE)
    assert row.cost.value == pytest.approx(kwh * 0.25)
    request = rows(report)["onnx-cpu", "1,000 requests"]
    assert request.kwh.value == pytest.approx(kwh / 1e6 * 1000 * 100)


def test_the_interval_is_that_of_trials_widened_by_the_sensors_with_their_gain() -> None:
    report = converted(study())
    mean = {row.cell: row for row in report.deciding[0].descriptive}["torch-cpu"]
    kwh = rows(report)["torch-cpu", "million output tokens"].kwh
    assert mean.low is not None
    assert mean.high is not None
    assert kwh.low is not None
    assert kwh.high is not None
    assert kwh.low / kwh.value == pytest.approx(mean.low / mean.mean * 0.95)
    assert kwh.high / kwh.value == pytest.approx(mean.high / mean.mean * 1.05)
    assert "cover the spread over trials and the sensors with their gain." in report.all_notes[-1]


def test_an_interval_without_the_gain_says_so() -> None:
    report = converted(study(gain=None))
    mean = report.deciding[0].descriptive[0]
    kwh = rows(report)[mean.cell, "million output tokens"].kwh
    assert mean.low is not None
    assert kwh.low == pytest.approx(kwh.value * mean.low / mean.mean)
    assert (
        "trials alone: how far the joules themselves may be off is not known"
        in report.all_notes[-1]
    )


def test_one_trial_has_no_interval() -> None:
    report = converted(study(rounds=1))
    assert {row.kwh.low for row in rows(report).values()} == {None}
    assert "There are no intervals" in report.all_notes[-1]


def test_per_solved_task_comes_from_the_solved_tasks() -> None:
    scored = scored_report()
    asked = options({"study": "toy", "carbon": {"location": "FRA"}, "price_per_kwh": 0.2})
    report = with_footprint(dataclasses.replace(scored, options=asked))
    row = rows(report)["onnx-cpu", "1,000 solved tasks"]
    assert row.metric.name == "energy/per_solved_j"
    assert row.kwh.value == pytest.approx(12.3 * 1000 / 3.6e6)
    assert row.cost is not None
    assert row.cost.value == pytest.approx(row.kwh.value * 0.2)


def test_estimates_stay_labelled_and_meet_no_measured_ones() -> None:
    estimated = study("energy_estimated", gain=None).replace({"cpu": "tpu"})
    estimated["cell"] = estimated["cell"].str.replace("cpu", "tpu")
    estimated["run_id"] = "e" + estimated["run_id"]
    report = converted(pd.concat([study(), estimated], ignore_index=True))
    titles = [line for line in to_markdown(report).splitlines() if line.startswith("## C")]
    assert titles == [
        "## Carbon, gCO2e, 95 % intervals: France 2023, 56.0 gCO2e/kWh, PUE 1.2",
        "## Carbon, gCO2e (estimated), 95 % intervals: France 2023, 56.0 gCO2e/kWh, PUE 1.2",
        "## Cost of electricity, 95 % intervals: 0.25 per kWh, PUE 1.2",
        "## Cost of electricity (estimated), 95 % intervals: 0.25 per kWh, PUE 1.2",
    ]
    assert {row.metric.estimated for row in rows(report).values() if "tpu" in row.cell} == {True}
    assert "the sensors: energy/per_output_token_j, energy/per_request_j." in report.all_notes[-1]


def test_the_note_says_what_the_figures_rest_on() -> None:
    note = converted(study()).all_notes[-1]
    assert "56.0 gCO2e per kWh, France, mean of 2023 (CodeCarbon" in note
    assert "which names no source" in note
    assert "times the PUE of 1.2" in note
    assert "Not included: loading, idle time, the network, the making of the hardware." in note
    alone = converted(study(), carbon={"location": None}).all_notes[-1]
    assert "gCO2e" not in alone
    assert "cooling and other losses of a data centre" in alone


def test_no_verdict_and_no_finding_is_about_them() -> None:
    plain = build(study(), options({"study": "toy"}))
    report = converted(study())
    assert with_footprint(plain) is plain
    assert report.findings == plain.findings
    assert report.methods == plain.methods
    assert [result.metric for result in report.metrics] == [r.metric for r in plain.metrics]
    assert report.recommendations == plain.recommendations


def test_files_carry_them() -> None:
    report = converted(study())
    made = files(report).contents
    assert from_plain(Report, json.loads(made["comparisons.json"])) == report
    frame = pd.read_csv(io.BytesIO(made["footprint.csv"]))
    assert list(frame["label"].unique()) == ["onnx", "torch"]
    assert np.allclose(frame["g_co2e"], frame["kwh"] * FRANCE)
    assert np.allclose(frame["cost_high"], frame["kwh_high"] * 0.25)
    page = made["report.html"].decode()
    assert '<section id="footprint"' in page
    assert "France 2023, 56.0 gCO2e/kWh, PUE 1.2" in page
    assert page.count("Factor and price are taken as exact.") == 1
    assert rb"\caption{Cost of electricity, 95 \% intervals" in made["tables/footprint-4.tex"]
    plain = files(build(study(), options({"study": "toy"}))).contents
    assert not [name for name in plain if "footprint" in name]
    assert b'id="footprint"' not in plain["report.html"]


def test_a_table_measured_elsewhere_is_converted_too(tmp_path: Path) -> None:
    table = tmp_path / "theirs.csv"
    lines = ["model,engine,provider,repetition,energy/per_request_j"]
    lines += [f"m,{e},cpu,{n},{j + n / 10}" for e, j in (("a", 5), ("b", 7)) for n in (1, 2, 3)]
    table.write_text("\n".join(lines))
    words = ["study=null", f"data={table}", "columns=guess", "carbon.location=POL"]
    asked = compose("analysis", words, keys=["study"])
    del asked["tracking"], asked["out"]
    report = analyse(asked).report
    assert {row.per for row in rows(report).values()} == {"1,000 requests"}
    assert any("as their authors declare them" in note for note in report.all_notes)


def test_nothing_to_convert_is_said() -> None:
    frame = make_study(COSTS).drop(columns=["energy/per_output_token_j"])
    report = converted(frame, metrics=["latency/e2e_p50_s"])
    assert report.footprint is not None
    assert report.footprint.rows == ()
    assert "Nothing is converted to carbon or money" in report.all_notes[-1]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"carbon": {"location": "france"}}, "carbon.location=france: .*did you mean FRA"),
        ({"carbon": {"pue": 0.5}}, "carbon.pue=0.5 is out of range: at least 1"),
        ({"price_per_kwh": -1}, "price_per_kwh=-1.* is out of range"),
    ],
)
def test_a_wrong_key_is_one_line(keys: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        options({"study": "toy", **keys})
