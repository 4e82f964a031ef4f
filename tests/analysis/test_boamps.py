"""BoAmps reports have what Boavizta's schemas require, and the study's own figures."""

from __future__ import annotations

import dataclasses
import json

import pytest

from slm_energy.analysis import build, options
from slm_energy.analysis.boamps import boamps
from slm_energy.analysis.footprint import with_footprint
from slm_energy.analysis.result.report import Report
from slm_energy.config.groups import RunConfig
from slm_energy.record import Record
from slm_energy.running.trial import derive
from tests.analysis.conftest import make_study, with_requests
from tests.captures import a_capture
from tests.conftest import a_cell, a_trial


def a_report(kind: str = "energy", **carbon: object) -> Report:
    frame = with_requests(make_study({"torch/cpu": 0.03}, kind=kind))
    for name in ("per_request", "per_output_token") if kind == "energy" else ():
        joules = frame[f"{kind}/{name}_j"]
        frame[f"{kind}/{name}_low_with_gain_j"] = joules * 0.95
        frame[f"{kind}/{name}_high_with_gain_j"] = joules * 1.05
    frame[f"{kind}/total_j"] = 36.0
    frame[f"{kind}/baseline_total_j"] = 18.0
    for name, value in {
        "time/serve_s": 4.0,
        "time/baseline_s": 2.0,
        "tokens/requests": 8.0,
        "tokens/input": 40.0,
        "tokens/output": 32.0,
        "utilization/cpu_mean_pct": 75.0,
        "quality/pass_at_1": 0.25,
    }.items():
        frame[name] = value
    asked = {"study": "toy", "carbon": {"location": "FRA"} | carbon}
    return with_footprint(build(frame, options(asked)))


@pytest.fixture
def record(config: RunConfig) -> Record:
    environment = {
        "python": "3.11.7",
        "platform": "Linux-6",
        "processor": "Zeta 9",
        "processors_usable": 8,
        "memory_gib": 64,
    }
    model = dataclasses.replace(config.model, source="org/model", name="m", revision="c" * 40)
    cell = a_cell(config, "torch-cpu", model=model)
    cell = dataclasses.replace(cell, versions={"python": "3", "torch": "2.13", "onnx": "absent"})
    return derive(
        a_trial(config, cell=cell), a_capture(environment=environment), 1_700_000_000_000_000_000
    )


def only(report: Report, record: Record) -> dict[str, dict]:
    made = boamps(report, [record])
    assert list(made) == ["boamps/torch-cpu.json"]
    return json.loads(made["boamps/torch-cpu.json"])


def test_what_the_schemas_require_is_there(record: Record) -> None:
    made = only(a_report(), record)
    assert {"header", "task", "measures", "infrastructure", "environment", "quality"} <= set(made)
    assert made["header"]["reportDatetime"]
    task = made["task"]
    assert {"taskStage", "taskFamily", "algorithms", "dataset"} <= set(task)
    assert [part["dataUsage"] for part in task["dataset"]] == ["input", "output"]
    assert {part["dataType"] for part in task["dataset"]} == {"token"}
    assert made["infrastructure"]["infraType"] in (
        "publicCloud", "privateCloud", "onPremise", "other",
    )  # fmt: skip
    for component in made["infrastructure"]["components"]:
        assert isinstance(component["nbComponent"], int)
        assert component["componentType"] in ("cpu", "gpu", "ram")
    assert made["environment"]["country"] == "France"


def test_figures_are_sums_over_the_valid_trials(record: Record) -> None:
    made = only(a_report(), record)
    [measure] = made["measures"]
    assert measure["powerConsumption"] == pytest.approx(5 * 36 / 3.6e6)
    assert measure["powerCalibrationMeasurement"] == pytest.approx(5 * 18 / 3.6e6)
    assert measure["measurementDuration"] == pytest.approx(20)
    assert measure["durationCalibrationMeasurement"] == pytest.approx(10)
    assert measure["averageUtilizationCpu"] == pytest.approx(0.75)
    assert measure["measurementMethod"] == "slm_energy"
    task = made["task"]
    assert task["nbRequest"] == 40
    assert [part["dataQuantity"] for part in task["dataset"]] == [200, 160]
    assert task["measuredAccuracy"] == 0.25
    [model] = task["algorithms"]
    assert model["foundationModelUri"] == f"https://huggingface.co/org/model/tree/{'c' * 40}"
    assert model["frameworkVersion"] == "torch 2.13"
    assert made["environment"]["powerSourceCarbonIntensity"] == 56.039
    assert made["quality"] == "high"


def test_an_estimate_is_codecarbons_and_has_no_quality(record: Record) -> None:
    made = only(a_report("energy_estimated"), record)
    assert made["measures"][0]["measurementMethod"] == "codecarbon"
    assert "version" not in made["measures"][0]
    assert "quality" not in made


def test_without_a_place_or_joules_there_is_none(record: Record) -> None:
    assert boamps(a_report(location=None), [record]) == {}
    frame = make_study({"torch/cpu": 0.03})
    asked = options({"study": "toy", "carbon": {"location": "FRA"}})
    assert boamps(with_footprint(build(frame, asked)), [record]) == {}
