"""The checklist answers from what a study has, and names what is missing."""

from __future__ import annotations

import dataclasses
import functools
import re
import runpy
from pathlib import Path
from typing import Any

import pytest

from slm_energy.analysis import build, options
from slm_energy.analysis.checklist import ENTRIES, SOURCES, Facts, Item, checklist
from slm_energy.analysis.footprint import with_footprint
from slm_energy.analysis.render.checklist import files, grids, summary
from slm_energy.analysis.result.design import Audit
from slm_energy.analysis.result.diagnostics import MetricNoise, NoiseFloor
from slm_energy.analysis.result.registration import RegisteredItem, RegistrationCheck
from slm_energy.analysis.result.report import Report
from slm_energy.config.groups import RunConfig
from slm_energy.config.keys import keys
from slm_energy.record import Calibration, Fitted, Record, WarmUp
from slm_energy.running.trial import derive
from tests.analysis.conftest import WHOLE, make_study, with_requests, with_scope
from tests.analysis.scored import scored_report
from tests.captures import a_capture, a_counter, a_reference
from tests.conftest import a_cell, a_trial

ROOT = Path(__file__).parents[3]
ENERGY = "energy/per_output_token_j"


@functools.cache
def good_report() -> Report:
    """Thirty rounds of two measured cells, with everything that a report can have."""
    frame = with_scope(
        with_requests(make_study({"torch/cpu": 0.03, "onnx/cpu": 0.02}, rounds=30)), WHOLE
    )
    frame["energy/per_output_token_low_with_gain_j"] = frame[ENERGY] * 0.95
    frame["energy/per_output_token_high_with_gain_j"] = frame[ENERGY] * 1.05
    for name, value in {
        "warmup/steady": 1.0,
        "time/baseline_s": 10.0,
        "time/serve_s": 61.0,
        "energy/net_total_j": 5.0,
        "contamination/foreign_cpu_mean_pct": 1.5,
        "thermal/cpu_start_c": 45.0,
        "sampler/largest_pause_s": 0.002,
        "sampler/cpu_pct": 0.7,
        "tokens/requests": 80.0,
        "tokens/passes": 2.0,
        "quality/agreement": 1.0,
    }.items():
        frame[name] = value
    noise = MetricNoise(name=ENERGY, ratio=1.0, low=0.99, high=1.01, sd_pct=1.0, trials=9)
    asked = options({"study": "toy", "carbon": {"location": "FRA"}})
    return dataclasses.replace(
        with_footprint(build(frame, asked)),
        solved=scored_report().solved,
        registration=RegistrationCheck(
            digest="d" * 64, registered="2026-01-01", hypotheses=(), items=()
        ),
        noise_floor=NoiseFloor(
            study="aa", machine="lab-1", cell="m", day="", rounds=4, metrics=(noise,)
        ),
    )


@pytest.fixture
def good(config: RunConfig) -> Facts:
    """A study that leaves nothing open."""
    plan = {
        "study": {"order": "random", "seed": 7, "gate": {"pause_s": 0.0, "at_most_s": 60.0}},
        "frozen": {"git": "abc123"},
    }
    records = (a_record(config, "torch-cpu"), a_record(config, "onnx-cpu"))
    return Facts(report=good_report(), records=records, plans=(plan,))


def a_record(config: RunConfig, cell: str) -> Record:
    """A trial of a cell with a calibrated counter; each fact of the environment is there."""
    exact = Fitted(low=0.99, best=1.0, high=1.01)
    calibration = Calibration(reference="wall", unix_ns=0, gain=exact, offset_w=exact, lag_s=exact)
    counter = a_counter()
    source = dataclasses.replace(
        counter.source, calibration=calibration, update_period_ns=10**6, update_period_measured=True
    )
    capture = a_capture(
        series=(dataclasses.replace(counter, source=source),),
        warmup=WarmUp(paces_ns=(1, 1), steady=True),
        environment={
            "python": "3.11.7",
            "processor": "Zeta 9",
            "processors_usable": 8,
            "memory_gib": 64,
            "platform": "Linux-6",
            "governor": "performance",
        },
    )
    reference = a_reference(capture.generations)
    trial = a_trial(config, cell=a_cell(config, cell), plan="p1")
    record = derive(trial, dataclasses.replace(capture, reference=reference), 0)
    return dataclasses.replace(record, code="c0de")


def items(facts: Facts) -> dict[str, Item]:
    return {item.name: item for item in checklist(facts)}


def changed(facts: Facts, **report: Any) -> Facts:
    return dataclasses.replace(facts, report=dataclasses.replace(facts.report, **report))


def with_values(facts: Facts, **values: float) -> Facts:
    """The same with other values of metrics in every trial: `time__serve_s` is `time/serve_s`."""
    named = {name.replace("__", "/"): value for name, value in values.items()}
    trials = tuple(
        dataclasses.replace(trial, values=trial.values | named) for trial in facts.report.trials
    )
    return changed(facts, trials=trials)


def test_a_study_that_leaves_nothing_open_meets_every_item(good: Facts) -> None:
    made = items(good)
    assert [name for name, item in made.items() if not item.met] == []
    assert len(made) == len(ENTRIES)
    said = {name: item.answer.study for name, item in made.items()}
    assert said["Hardware"].startswith("processor: Zeta 9; usable processors: 8; memory, GiB: 64")
    assert said["Energy sensors"] == (
        "fake/package (counter, cpu_package, new value every 1.00 ms (measured), gain within 5 %,"
        " in the sum)"
    )
    assert said["Scope of the joules"] == good.report.scope
    assert said["Comparison with a reference"] == "fake/package against wall: gain 0.990 to 1.010"
    assert said["Repetitions"] == "30 rounds, at least 30 valid trials of a cell"
    assert "study.seed=7" in said["Order"]
    assert said["Prompts"].endswith("40 requests, sent as completion")
    assert said["Same tokens"] == (
        "token by token with torch: all tokens equal in 100 % of the prompts"
    )
    assert said["Correctness of answers"].startswith("10 to 30 % of 40 tasks solved")
    assert "code c0de; commit abc123" in said["Code"]
    assert "France 2023, 56.0 gCO2e/kWh, PUE 1" in said["Carbon"]
    assert "differs by at most 1.01 %" in said["Noise floor"]


def estimated(facts: Facts) -> Facts:
    records = tuple(
        dataclasses.replace(
            record,
            capture=dataclasses.replace(record.capture, series=(a_counter("estimate"),)),
        )
        for record in facts.records
        if record.capture is not None
    )
    return dataclasses.replace(facts, records=records)


def with_plan(facts: Facts, **study: Any) -> Facts:
    return dataclasses.replace(facts, plans=({"study": study, "frozen": {"git": "1+changes"}},))


def with_trial(facts: Facts, **trial: Any) -> Facts:
    records = tuple(
        dataclasses.replace(record, trial=dataclasses.replace(record.trial, **trial))
        for record in facts.records
    )
    return dataclasses.replace(facts, records=records)


def in_rounds(facts: Facts, count: int) -> Audit:
    return dataclasses.replace(facts.report.audit, rounds=tuple(range(1, count + 1)))


def departing(facts: Facts) -> Facts:
    item = RegisteredItem(name="margin", registered="2 %", actual="5 %", follows=False)
    check = RegistrationCheck(digest="d", registered="", hypotheses=(), items=(item,))
    return changed(facts, registration=check)


def local_model(facts: Facts) -> Facts:
    def settings(record: Record) -> Record:
        cell = record.trial.cell
        model = dataclasses.replace(cell.settings.model, source="/weights", name="mine")
        own = dataclasses.replace(cell, settings=dataclasses.replace(cell.settings, model=model))
        return dataclasses.replace(record, trial=dataclasses.replace(record.trial, cell=own))

    return dataclasses.replace(facts, records=tuple(map(settings, facts.records)))


GATE = {"pause_s": 0.0, "at_most_s": 0.0}


@pytest.mark.parametrize(
    ("change", "name", "study", "remedy"),
    [
        (estimated, "Energy sensors", "no sensor; fake/package", "measurement=wall"),
        (
            lambda facts: changed(estimated(facts), scope=""),
            "Scope of the joules",
            "as estimated by a model (fake/package)",
            "",
        ),
        (
            lambda facts: with_values(facts, warmup__steady=0.0),
            "Warm-up",
            "steady pace in 0 of 60 trials",
            "a longer one than measurement.warmup_s=10",
        ),
        (
            lambda facts: with_values(facts, time__serve_s=5.0),
            "Length of the window",
            "5 s, whole passes",
            "measurement.serve_s=60",
        ),
        (
            lambda facts: with_values(facts, contamination__foreign_cpu_mean_pct=40.0),
            "Isolation",
            "other programs used 40 % of the processors",
            "measurement.limits.foreign_cpu_pct=10",
        ),
        (
            lambda facts: changed(facts, audit=in_rounds(facts, 2)),
            "Repetitions",
            "2 rounds",
            "study.rounds=30",
        ),
        (
            lambda facts: changed(facts, audit=in_rounds(facts, 2), stopped="after 2 rounds"),
            "Repetitions",
            "stopped by a rule that was set before: after 2 rounds",
            "",
        ),
        (
            lambda facts: with_plan(facts, gate=GATE),
            "Rest between trials",
            "none",
            "study.gate.at_most_s=60",
        ),
        (
            lambda facts: dataclasses.replace(facts, plans=()),
            "Order",
            "the plan was lost",
            "state the order and its seed",
        ),
        (
            lambda facts: with_plan(facts, gate=GATE),
            "Code",
            "commit 1+changes",
            "commit the changes of the working folder",
        ),
        (
            lambda facts: changed(facts, noise_floor=None),
            "Noise floor",
            "not measured",
            "--config-name aa_noise_floor",
        ),
        (local_model, "Models and revisions", "mine (content", "publish the weights of mine"),
        (
            lambda facts: changed(facts, solved=(), unscored="no sandbox"),
            "Correctness of answers",
            "no sandbox",
            "slm-energy score study=toy",
        ),
        (
            lambda facts: changed(facts, registration=None),
            "Declared beforehand",
            "no registration was given",
            "slm-energy plan --register FILE",
        ),
        (departing, "Declared beforehand", "departs in margin", "justify the departures"),
        (
            lambda facts: with_trial(facts, changed=("kernel was 6 and is 7",)),
            "Frozen plan",
            "later: kernel was 6 and is 7",
            "another study.name",
        ),
        (
            lambda facts: changed(facts, footprint=None),
            "Carbon",
            "not converted",
            "carbon.location=",
        ),
    ],
)
def test_what_is_missing_is_named_with_its_remedy(
    good: Facts, change: Any, name: str, study: str, remedy: str
) -> None:
    item = items(change(good))[name]
    assert study in item.answer.study
    assert remedy in item.answer.remedy
    assert item.met == (remedy == "")


def test_a_study_of_one_trial_without_energy_is_answered_too(config: RunConfig) -> None:
    frame = make_study({"torch/cpu": 0.03}, rounds=1).drop(columns=[ENERGY])
    frame["time/serve_s"] = 1.0
    frame["tokens/requests"] = frame["tokens/passes"] = 1.0
    report = build(frame, options({"study": "toy", "metrics": ["latency/e2e_p50_s"]}))
    trial = a_trial(config, cell=a_cell(config, "torch-cpu"))
    record = derive(trial, a_capture(series=(), sampler=None), 0)
    made = items(Facts(report=report, records=(record,), plans=()))
    assert made["Energy sensors"].answer.study == "no sensor; no energy was read"
    assert made["Scope of the joules"].answer.study == "no energy was read"
    assert made["Tests and correction"].answer.study == "nothing is compared"
    assert made["Warm-up"].answer.study == "none"
    assert not made["Effect sizes"].met


def test_every_key_of_a_remedy_exists(good: Facts) -> None:
    known = {key.name for key in (*keys(), *keys("analysis"))}
    package = ROOT / "slm_energy" / "analysis" / "checklist"
    text = "".join(path.read_text(encoding="utf-8") for path in package.glob("*.py"))
    key = r"\b((?:study|measurement|workload|model|carbon)\.[a-z_.]*[a-z])\b(?=[ =,\"{;])"
    named = set(re.findall(key, text))
    assert {"measurement.serve_s", "study.rounds", "carbon.location"} <= named
    assert named <= known


def test_tables_in_markdown_and_latex_have_every_item_and_source(good: Facts) -> None:
    made = checklist(changed(good, noise_floor=None))
    assert summary(made) == f"{len(ENTRIES) - 1} of {len(ENTRIES)} items are met"
    written = {name: text.decode() for name, text in files(made, "toy").items()}
    assert set(written) == {"checklist.md", "checklist.tex"}
    for entry in ENTRIES:
        assert f"| {entry.name} | " in written["checklist.md"]
        assert f"\n{entry.name} & " in written["checklist.tex"]
    assert "| Noise floor | NO | not measured. To meet it: slm-energy" in written["checklist.md"]
    assert written["checklist.tex"].count(r"\begin{longtable}") == len(grids(made))
    assert written["checklist.tex"].count(r"\end{longtable}") == len(grids(made))
    for name in {source for entry in ENTRIES for source in entry.sources}:
        assert f"- {name}: {SOURCES[name].text}" in written["checklist.md"]


def test_every_source_is_used_and_every_name_has_a_source() -> None:
    assert {name for entry in ENTRIES for name in entry.sources} == set(SOURCES)


def test_the_page_of_items_and_sources_is_up_to_date() -> None:
    tool = runpy.run_path(str(ROOT / "tools" / "checklist_reference.py"))
    page = tool["PAGE"].read_text(encoding="utf-8")
    assert page == tool["reference"](), "run: python tools/checklist_reference.py"
