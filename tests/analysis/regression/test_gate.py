"""A comparison as a gate in CI: what fails, and the files that say why."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import pytest

from slm_energy.analysis.render.study_comparison import files
from tests.analysis.regression.test_comparison import (
    COSTS,
    ENERGY,
    LATENCY,
    WORSE,
    calm,
    compared,
)

SCHEMA = Path(__file__).parents[3] / "docs" / "reference" / "comparison.schema.json"


def without(frame, cell, metric):
    """A study in which a cell has no value of a metric."""
    frame = frame.copy()
    frame.loc[frame["cell"] == cell, metric] = float("nan")
    return frame


@pytest.mark.parametrize(
    ("fail_on", "code"),
    [(["regression"], 1), (["inconclusive", "missing"], 0), ([], 0)],
)
def test_a_regression_fails_where_it_is_named(study, fail_on, code):
    result = compared(calm(study, COSTS, 1), calm(study, WORSE, 2), fail_on=fail_on)
    assert result.exit_code == code


@pytest.mark.parametrize("fail_on", ["missing", "inconclusive"])
def test_a_value_that_the_second_study_lacks_is_missing(study, fail_on):
    a, b = calm(study, COSTS, 1), calm(study, COSTS, 2)
    result = compared(a, without(b, "torch-cpu", ENERGY), fail_on=[fail_on])
    assert result.missing == ("energy per output token of torch",)
    assert result.exit_code == (1 if fail_on == "missing" else 0)
    assert compared(without(a, "torch-cpu", ENERGY), b).missing == ()


def test_a_cell_whose_trials_all_failed_is_missing_in_every_metric(study):
    a, b = calm(study, COSTS, 1), calm(study, COSTS, 2)
    b.loc[b["cell"] == "torch-cpu", "outcome"] = "failed"
    result = compared(a, b, metrics=[ENERGY, LATENCY])
    assert result.missing == (
        "energy per output token of torch",
        "end-to-end latency p50 of torch",
    )


def test_the_files_say_which_cell_failed_and_why(study):
    a, b = calm(study, COSTS, 1), calm(study, WORSE, 2)
    made = files(compared(a, b, metrics=[ENERGY, LATENCY]))
    text = made["comparison.md"].decode()
    assert text.startswith("# new against old\n")
    assert "- Regression: onnx, energy per output token +20 %." in text
    assert "| onnx |" in text

    root = ElementTree.fromstring(made["junit.xml"])
    energy, _ = root
    assert (energy.get("name"), energy.get("tests"), energy.get("failures")) == (ENERGY, "2", "1")
    [failed] = [case for case in energy if case.find("failure") is not None]
    assert failed.get("name") == "onnx"
    assert failed.find("failure").get("message").startswith("ratio 1.2")


def test_a_refusal_is_an_error_and_in_every_file(study):
    a, b = calm(study, COSTS, 1), calm(study, WORSE, 2)
    b["version.torch"] = "9"
    made = files(compared(a, b))
    assert "No verdict: old and new differ in" in made["comparison.md"].decode()
    [suite] = ElementTree.fromstring(made["junit.xml"])
    assert suite.get("errors") == "1"
    assert json.loads(made["comparison.json"])["exit_code"] == 2


def test_the_json_has_the_documented_form(study):
    a, b = calm(study, COSTS, 1), calm(study, WORSE, 2, rounds=1)
    schema = json.loads(SCHEMA.read_text())
    for result in (compared(a, b, allow=["all"]), compared(a, calm(study, WORSE, 2))):
        jsonschema.validate(json.loads(files(result)["comparison.json"]), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"a": "old"}, schema)


def test_the_documented_form_is_that_of_the_code():

    tool = SCHEMA.parents[2] / "tools" / "comparison_schema.py"
    made = runpy.run_path(str(tool))["reference"]()
    assert SCHEMA.read_text() == made, "run: python tools/comparison_schema.py"
