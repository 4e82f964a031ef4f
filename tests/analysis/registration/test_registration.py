"""A registration: what it declares, that an edit shows, and what a study departs from."""

from __future__ import annotations

import dataclasses
import json

import pytest
import yaml

from slm_energy.analysis import build, options
from slm_energy.analysis.registration import (
    Registration,
    RegistrationFile,
    checked,
    read,
    register,
    to_text,
)
from slm_energy.analysis.render.files import files
from slm_energy.analysis.result.report import Report
from slm_energy.config.groups import LoadConfig
from slm_energy.errors import ConfigError
from slm_energy.planning.freeze import Frozen
from slm_energy.planning.plan import Excluded, make_plan
from slm_energy.serialization import from_plain
from tests.analysis.conftest import make_study
from tests.conftest import a_cell

ENERGY, LATENCY = "energy/per_output_token_j", "latency/e2e_p50_s"
COSTS = {"torch/cpu": 0.03, "onnx/cpu": 0.012}
FROZEN = Frozen(facts={"study.seed": "0", "version.torch": "2.1"}, cells=(), git=None)
KEYS = {"metrics": [ENERGY, LATENCY], "draws": 999}
BEFORE, AFTER = "2025-12-31T09:00:00+00:00", "2026-06-01T09:00:00+00:00"


@pytest.fixture
def declare(config):
    """Register two cells for five rounds."""

    def declared(written=BEFORE, study=None, stated=(), **keys) -> Registration:
        cells = [
            a_cell(
                config,
                f"{name}-cpu",
                engine=dataclasses.replace(config.engine, name=name),
            )
            for name in ("torch", "onnx")
        ]
        settings = dataclasses.replace(config.study, name="toy", rounds=5, **(study or {}))
        plan = make_plan(
            settings, cells, excluded=[Excluded(label="openvino / cpu", reason="too slow")]
        )
        asked = options({"study": "toy", **KEYS, **keys})
        return register(plan, FROZEN, asked, machine="lab-1", registered=written, stated=stated)

    return declared


def studied(rounds=5, stopped="", frame=None, **keys) -> Report:
    frame = make_study(COSTS, rounds) if frame is None else frame
    return build(frame, options({"study": "toy", **KEYS, **keys}), stopped=stopped)


def filed(registration: Registration) -> RegistrationFile:
    digest = registration.digest
    return RegistrationFile(registration=registration, digest=digest, stated_digest=digest)


def departures(report: Report, registration: Registration, plans=(FROZEN,)):
    result = checked(report, filed(registration), plans)
    return {item.name: item.actual for item in result.registration.departures}


def test_it_declares_hypotheses_metrics_margin_families_rule_and_plan(declare, tmp_path):
    registration = declare(stated=["onnx needs less than torch"], margin=0.05)
    file = tmp_path / "toy.yaml"
    file.write_text(to_text(registration), encoding="utf-8")
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert content["hypotheses"] == [
        "energy per output token of any two of 2 cells differs by more than 5 % (two-sided; the"
        " null hypothesis is a difference of at most 5 %).",
        "Secondary, with the same margin: end-to-end latency p50.",
        "onnx needs less than torch",
    ]
    assert content["analysis"]["margin"] == 0.05
    assert content["analysis"]["metrics"] == [ENERGY, LATENCY]
    assert content["analysis"]["families"] == ["model"]
    assert (content["rounds"], content["precision_pct"]) == (5, None)
    assert set(content["cells"]) == {"torch-cpu", "onnx-cpu"}
    assert content["left_out"] == {"openvino / cpu": "too slow"}
    assert content["plan_digest"] == FROZEN.digest
    assert content["digest"] == registration.digest
    assert read(file) == filed(registration)


def test_a_named_reference_and_families_are_in_the_hypotheses(declare):
    against = declare(reference="torch / cpu").hypotheses[0]
    assert "of each of 2 cells against torch / cpu differs" in against
    split = declare(families=["engine"]).hypotheses
    assert split[0] == "torch: one cell, which is compared with none."


def test_its_families_are_those_of_equal_load(config):
    cells = [
        a_cell(
            config,
            f"{name}-{rate}",
            engine=dataclasses.replace(config.engine, name=name),
            load=LoadConfig(name="open", mode="open", rate=rate),
        )
        for name in ("vllm", "sglang")
        for rate in (1.0, 4.0)
    ]
    plan = make_plan(dataclasses.replace(config.study, name="toy", rounds=5), cells)
    made = register(
        plan, FROZEN, options({"study": "toy", **KEYS}), machine="lab-1", registered=BEFORE
    )
    assert [
        line.partition(" of any two of 2 cells ")[0] for line in sorted(made.hypotheses[:2])
    ] == [
        "rate=1.0: energy per output token",
        "rate=4.0: energy per output token",
    ]


def test_a_study_that_follows_it_says_so(declare):
    registration = declare()
    report = checked(studied(), filed(registration), [FROZEN, FROZEN])
    assert report.registration.departures == ()
    assert report.findings[-1].startswith(
        f"The study follows its registration of 2025-12-31 (digest {registration.digest[:12]})"
    )
    assert registration.hypotheses[0] in report.methods[-1]
    rendered = files(report)
    assert rendered.failures == ()
    page, short = (rendered.contents[name].decode() for name in ("report.html", "report.md"))
    for text in (page, short):
        assert "Declared in advance" in text
        assert "digest of the plan" in text
    stored = from_plain(Report, json.loads(rendered.contents["comparisons.json"]))
    assert stored.registration == report.registration


@pytest.mark.parametrize(
    ("keys", "item", "actual"),
    [
        ({"margin": 0.01}, "margin", "0.01"),
        ({"alpha": 0.1}, "alpha", "0.1"),
        ({"families": []}, "families", "none"),
        ({"reference": "torch"}, "reference", "torch"),
        (
            {"metrics": [ENERGY, LATENCY, "latency/ttft_p50_s"]},
            "metrics",
            "added latency/ttft_p50_s",
        ),
        ({"metrics": [ENERGY]}, "metrics", f"left out {LATENCY}"),
        ({"metrics": [LATENCY, ENERGY]}, "metric that decides", LATENCY),
        ({"rounds": 7}, "stopping rule", "7 rounds: 2 beyond the rule"),
        ({"rounds": 4}, "stopping rule", "4 rounds: 1 fewer"),
    ],
)
def test_each_departure_is_an_item(declare, keys, item, actual):
    registration = declare()
    report = studied(**keys)
    assert departures(report, registration) == {item: actual}
    text = checked(report, filed(registration), [FROZEN]).findings[-1]
    assert text.startswith("The study departs from its registration of 2025-12-31")
    assert f"{item} (registered: " in text
    assert f"; here: {actual})" in text


def test_cells_that_are_missing_or_new_are_named(declare):
    frame = make_study({"torch/cpu": 0.03, "openvino/cpu": 0.02})
    assert departures(studied(frame=frame), declare()) == {
        "cells": "without a valid trial: bundled / onnx / cpu; added: openvino"
    }
    failed = make_study(COSTS)
    failed.loc[failed["cell"] == "onnx-cpu", "outcome"] = "failed"
    assert departures(studied(frame=failed), declare())["cells"].startswith("without a valid trial")


def test_a_precision_may_end_the_study_early_and_nothing_else_may(declare):
    rule = declare(study={"precision_pct": 5.0})
    stop = "after 4 rounds all intervals are within 5 %"
    assert departures(studied(4, stopped=stop), rule) == {}
    assert departures(studied(4), rule) == {"stopping rule": "4 rounds: 1 fewer"}
    assert departures(studied(4, stopped=stop), declare()) == {"stopping rule": f"4 rounds: {stop}"}


def test_it_must_be_written_before_the_first_trial(declare):
    late = declare(written=AFTER)
    assert list(departures(studied(), late)) == ["in advance"]
    begun = dataclasses.replace(declare(), trials_before=3)
    assert list(departures(studied(), begun)) == ["in advance"]


def test_another_plan_is_named_fact_by_fact(declare):
    now = dataclasses.replace(FROZEN, facts={"study.seed": "0", "version.torch": "2.2"})
    seen = departures(studied(), declare(), plans=[FROZEN, now])
    assert seen == {
        "digest of the plan": f"{FROZEN.digest}, {now.digest}",
        "version.torch": "2.2",
    }
    assert departures(studied(), declare(), plans=[]) == {"digest of the plan": "no plan is stored"}


def test_an_edit_shows(declare, tmp_path):
    registration = declare()
    file = tmp_path / "toy.yaml"
    file.write_text(to_text(registration).replace("margin: 0.02", "margin: 0.1"), encoding="utf-8")
    edited = read(file)
    assert edited.registration.analysis["margin"] == 0.1
    assert edited.stated_digest == registration.digest != edited.digest
    result = checked(studied(margin=0.1), edited, [FROZEN])
    assert [item.name for item in result.registration.departures] == ["digest of the file"]


def test_how_a_file_is_laid_out_does_not_change_its_digest(declare, tmp_path):
    content = yaml.safe_load(to_text(declare()))
    file = tmp_path / "toy.yaml"
    file.write_text(json.dumps(dict(reversed(content.items()))), encoding="utf-8")
    assert read(file) == filed(declare())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file"),
        ("[1, 2]", "it is not a mapping"),
        ("study: toy\n", "schema is missing"),
        ("{", "is not a registration of this version"),
    ],
)
def test_what_is_no_registration_is_one_line(tmp_path, content, message):
    file = tmp_path / "x.yaml"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigError, match=message) as raised:
        read(file)
    assert "\n" not in str(raised.value)
