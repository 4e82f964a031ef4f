"""Study B against study A: what is compared, what is refused, what CI is told."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from scipy import stats

from slm_energy.analysis import regression
from slm_energy.analysis.render.study_comparison import to_terminal
from slm_energy.analysis.result.diagnostics import MetricNoise, NoiseFloor
from slm_energy.config.groups import RunConfig, TrackingConfig
from slm_energy.errors import AnalysisError, ConfigError
from slm_energy.running import trial
from slm_energy.store import artifacts
from slm_energy.store.tracking import Store
from tests.analysis.conftest import GPU, PACKAGE, WHOLE, WITHOUT_GPU, a_scope, with_scope
from tests.captures import a_capture, a_counter
from tests.conftest import a_cell, a_trial

COSTS = {"torch/cpu": 0.030, "onnx/cpu": 0.010}
WORSE = {"torch/cpu": 0.030, "onnx/cpu": 0.012}
ENERGY, ESTIMATE = "energy/per_output_token_j", "energy_estimated/per_output_token_j"
LATENCY = "latency/e2e_p50_s"
FILES = {
    "environment.json": json.dumps({"environment": {"platform": "Linux"}, "effective": {}}),
    "energy.json": "[]",
}


def side(frame: pd.DataFrame, name: str) -> regression.Side:
    return regression.Side(name=name, frame=frame, attached=lambda run, file: FILES[file])


def compared(a, b, **keys):
    keys = {"metrics": [ENERGY], **keys}
    return regression.build(side(a, "old"), side(b, "new"), regression.options(keys))


def calm(study, costs, seed, **keys):
    """A study whose rounds do not drift."""
    return study(costs, drift=0, noise=0.005, seed=seed, **keys)


def verdicts(result):
    return {cell.cell: cell.verdict for change in result.metrics for cell in change.cells}


def terminal(result, width=100):
    console = Console(width=width, file=io.StringIO())
    to_terminal(result, console)
    return console.file.getvalue()


def test_a_regression_is_named_and_told_by_the_exit_code(study):
    result = compared(calm(study, COSTS, 1), calm(study, WORSE, 2))
    assert verdicts(result) == {"onnx": "regression", "torch": "equivalent"}
    assert result.exit_code == 1
    text = terminal(result)
    assert "Regression: onnx, energy per output token +20 %." in text
    assert "regression 1 of 2" in text
    assert "Noise: trials of a cell scatter by 0.4" in text
    back = compared(calm(study, WORSE, 2), calm(study, COSTS, 1))
    assert verdicts(back) == {"onnx": "improvement", "torch": "equivalent"}
    assert back.exit_code == 0


def test_sums_over_different_numbers_of_passes_are_not_compared(study):
    total = "energy/total_j"
    frame = calm(study, COSTS, 1)
    frame[total] = 900 * frame[ENERGY]
    old, new = (frame.assign(**{"tokens/passes": passes}) for passes in (3, 4))
    assert compared(old, old, metrics=[total]).refusal == ""
    with pytest.raises(AnalysisError, match=r"3 to 4 passes .*per_output_token_j"):
        compared(old, new, metrics=[total])


def with_gain(frame, share):
    """A study whose instruments state their gain."""
    stem = ENERGY.removesuffix("_j")
    low, high = (frame[ENERGY] * (1 - share), frame[ENERGY] * (1 + share))
    return frame.assign(**{f"{stem}_low_with_gain_j": low, f"{stem}_high_with_gain_j": high})


def test_between_machines_the_gain_of_the_sensors_counts(study):
    a, b = (with_gain(calm(study, costs, seed), 0.15) for seed, costs in enumerate((COSTS, WORSE)))
    here = compared(a, b)
    assert verdicts(here)["onnx"] == "regression"
    elsewhere = compared(a, b.assign(machine="lab-2"), allow=["machine"])
    assert verdicts(elsewhere)["onnx"] != "regression"


def test_between_machines_an_unknown_gain_is_named(study):
    a, b = calm(study, COSTS, 1), calm(study, WORSE, 2, machine="lab-2")
    result = compared(a, b, allow=["machine"])
    assert [out.reason for out in result.left_out] == [
        "it is unknown, so the intervals between the two machines do not cover it"
    ] * 2
    assert {out.name.split(" in ")[1] for out in result.left_out} == {"old", "new"}


def test_figures_are_those_of_the_trials(study):
    a, b = calm(study, COSTS, 1), calm(study, WORSE, 2, rounds=7)
    [change] = compared(a, b).metrics
    onnx = next(cell for cell in change.cells if cell.cell == "onnx")
    old, new = (f.loc[f["cell"] == "onnx-cpu", ENERGY].to_numpy() for f in (a, b))
    assert (onnx.a, onnx.b) == pytest.approx((stats.gmean(old), stats.gmean(new)), rel=1e-9)
    assert onnx.ratio == pytest.approx(onnx.b / onnx.a, rel=1e-9)
    assert (onnx.a_trials, onnx.b_trials) == (5, 7)
    assert change.ratio == pytest.approx(stats.gmean([cell.ratio for cell in change.cells]))
    own = (1 / 0.999) * 1.001  # the frame's intervals of 0.1 % either way
    assert onnx.instrument == pytest.approx(own, rel=1e-6)
    half = [(cell.high / cell.low) ** 0.5 for cell in change.cells]
    assert change.visible_pct == pytest.approx(100 * (sum(half) / 2 - 1))
    [wider] = compared(a, b, floor=0.03).metrics
    assert wider.visible_pct == pytest.approx(100 * (1.03 * sum(half) / 2 - 1))


def test_every_metric_can_be_a_regression_and_all_are_one_family(study):
    a, b = calm(study, COSTS, 1), calm(study, COSTS, 2)
    b["throughput/output_tokens_per_s"] *= 0.9
    both = compared(a, b, metrics=[ENERGY, "throughput/output_tokens_per_s"])
    assert [change.metric.name for change in both.metrics] == [
        ENERGY,
        "throughput/output_tokens_per_s",
    ]
    assert both.exit_code == 1
    alone = compared(a, b)
    assert alone.exit_code == 0
    adjusted, raw = (each.metrics[0].cells[0].p_equivalent for each in (both, alone))
    assert adjusted > raw


@pytest.mark.parametrize(
    ("old", "new", "verdict", "code"),
    [(1.0, 1.0, "equivalent", 0), (1.0, 0.8, "regression", 1), (0.8, 1.0, "improvement", 0)],
)
def test_less_agreement_with_the_reference_is_a_regression(study, old, new, verdict, code):
    """Greedy decoding gives every trial of a cell the same share."""
    shares = ({"quality/agreement": share} for share in (old, new))
    a, b = (calm(study, COSTS, 1).assign(**share) for share in shares)
    result = compared(a, b, metrics=["quality/agreement"])
    assert verdicts(result) == {"onnx": verdict, "torch": verdict}
    assert (result.exit_code, result.refusal) == (code, "")


def test_drift_between_rounds_of_a_study_widens_the_interval(study):
    drifting = study(COSTS, drift=0.2), study(WORSE, drift=0.2, seed=2)
    assert verdicts(compared(*drifting))["onnx"] == "inconclusive"


def test_differences_are_shown_and_refused_unless_allowed(study):
    a = calm(study, COSTS, 1).assign(**{"version.torch": "2.12"})
    b = calm(study, COSTS, 2, machine="lab-2").assign(**{"version.torch": "2.13"})
    result = compared(a, b)
    assert result.exit_code == 2
    assert result.metrics == ()
    assert result.refusal == (
        "old and new differ in machine, version.torch, so a change may have several causes; to"
        " compare them anyway: allow=machine,versions"
    )
    assert "no: allow=versions" in terminal(result)
    half = compared(a, b, allow=["versions"])
    assert half.refusal.endswith("differ in machine, so a change may have several causes; to"
                                 " compare them anyway: allow=versions,machine")  # fmt: skip
    for allow in (["versions", "machine"], ["all"]):
        allowed = compared(a, b, allow=allow)
        assert allowed.exit_code == 0
        assert len(allowed.differences) == 2
        assert "yes, allow=versions" in terminal(allowed)


@pytest.mark.parametrize(("fact", "allow"), [("tests", "workload"), ("version.builds", "versions")])
def test_facts_of_newer_versions_are_compared_where_both_studies_have_them(study, fact, allow):
    old, one, other = (
        calm(study, COSTS, 1).assign(**values) for values in ({}, {fact: "a"}, {fact: "b"})
    )
    assert compared(old, one).refusal == compared(one, one).refusal == ""
    assert compared(one, other).refusal.endswith(f"allow={allow}")


def test_measured_and_estimated_energy_are_never_compared(study):
    measured, guessed = calm(study, COSTS, 1), calm(study, COSTS, 2, kind="energy_estimated")
    with pytest.raises(AnalysisError, match="measured in one study and estimated in the other"):
        compared(measured, guessed, allow=["all"])
    with pytest.raises(AnalysisError, match=r"as with metrics=\[latency"):
        compared(measured, guessed, metrics=[ENERGY, LATENCY], allow=["all"])
    assert compared(measured, guessed, metrics=[LATENCY]).exit_code == 0


def test_estimates_are_compared_with_estimates_and_say_so(study):
    a, b = (calm(study, COSTS, seed, kind="energy_estimated") for seed in (1, 2))
    result = compared(a, b)
    assert [change.metric.name for change in result.metrics] == [ESTIMATE]
    assert "Energy per output token (estimated)" in terminal(result)
    assert result.metrics[0].cells[0].instrument is None


def test_a_cell_that_was_measured_in_one_study_only_is_left_out(study):
    a, b = calm(study, COSTS, 1), calm(study, COSTS, 2)
    cells = b["cell"] == "torch-cpu"
    b.loc[cells, ESTIMATE] = b.loc[cells, ENERGY]
    b.loc[cells, ENERGY] = float("nan")
    result = compared(a, b, allow=["all"])
    assert set(verdicts(result)) == {"onnx"}
    [gone] = result.left_out
    assert gone.name == "Energy per output token of torch"
    assert gone.reason.startswith("measured in one study and estimated in the other")


def test_one_trial_per_cell_describes_and_decides_nothing(study):
    result = compared(calm(study, COSTS, 1, rounds=1), calm(study, WORSE, 2, rounds=1))
    assert result.exit_code == 2
    assert "the ratios are descriptive only, no cell can be judged: one trial" in result.refusal
    onnx = next(cell for cell in result.metrics[0].cells if cell.cell == "onnx")
    assert onnx.ratio == pytest.approx(1.2, rel=0.02)
    assert "Noise" not in terminal(result)


def test_values_that_cannot_form_a_ratio_are_left_out(study):
    a, b = calm(study, COSTS, 1), calm(study, COSTS, 2)
    b.loc[b["round"] == 1, ENERGY] = [0.0, float("inf")]
    result = compared(a, b)
    assert {cell.b_trials for cell in result.metrics[0].cells} == {4}
    assert [(row.name, row.reason.split(" that")[0]) for row in result.left_out] == [
        ("Energy per output token in new", "2 values")
    ]
    b.loc[b["cell"] == "onnx-cpu", ENERGY] = float("nan")
    gone = compared(a, b).left_out[-1]
    assert (gone.name, gone.reason) == (
        "Energy per output token of onnx",
        "new has no value above zero",
    )


def test_trials_without_metering_are_compared_by_the_other_metrics(study):
    a, b = (calm(study, COSTS, seed, own_interval=None) for seed in (1, 2))
    a, b = (frame.drop(columns=ENERGY) for frame in (a, b))
    result = compared(a, b, metrics=[ENERGY, LATENCY])
    assert [change.metric.name for change in result.metrics] == [LATENCY]
    assert "measurement=off" in result.left_out[0].reason
    nothing = compared(a, b)
    assert (nothing.exit_code, nothing.refusal) == (2, "no metric has a value in both studies")


@pytest.mark.parametrize(
    ("change", "keys", "message"),
    [
        ({"outcome": "failed"}, {}, "study=new has no valid trial"),
        ({"engine.name": "other"}, {}, "old and new have no cell in common"),
        ({}, {"metrics": ["latency/none_s"]}, "no trial has 'latency/none_s'; there are: latency/"),
        ({}, {"machine": "lab-9"}, "machine=lab-9: study=old has no trial of it"),
    ],
)
def test_what_cannot_be_compared_is_one_clear_line(study, change, keys, message):
    b = calm(study, COSTS, 2).assign(**change)
    with pytest.raises(AnalysisError, match=message):
        compared(calm(study, COSTS, 1), b, **keys)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"margin": 9}, "margin=9.0 is out of range"),
        ({"alpha": "x"}, "alpha='x' is not valid"),
        ({"floor": -0.1}, "floor=-0.1 is out of range"),
        ({"metrics": []}, "metrics=.. is empty"),
        ({"allow": ["moon"]}, "allow=moon: no such group; choose from machine, kernel"),
    ],
)
def test_a_wrong_option_is_named(keys, message):
    with pytest.raises(ConfigError, match=message):
        regression.options(keys)


def test_the_result_as_json_has_the_exit_code_and_no_nan(study):
    result = compared(calm(study, COSTS, 1, rounds=1), calm(study, WORSE, 2), allow=["all"])
    data = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert (data["exit_code"], data["a"], data["b"], data["schema"]) == (2, "old", "new", 1)
    assert data["metrics"][0]["cells"][0]["low"] is None


def test_text_from_runs_is_shown_and_never_obeyed(study):
    a, b = (
        calm(study, COSTS, seed).assign(**{"model.digest": f"[red]\x1b[2J{seed}"})
        for seed in (1, 2)
    )
    assert "[red]\u241b[2J2" in terminal(compared(a, b))


def test_studies_are_compared_through_what_a_store_holds(
    tmp_path: Path, config: RunConfig, empty_store: Path
) -> None:
    (tmp_path / "mlruns").mkdir()
    shutil.copy(empty_store, tmp_path / "mlruns")
    store = Store(TrackingConfig(name="local", folder=str(tmp_path / "mlruns")))

    def stored(name: str, version: str, watts: int) -> regression.Side:
        parent = store.open_sweep(name, "s1", "here", "")
        cell = dataclasses.replace(a_cell(config), id=version, versions={"scripted": version})
        for number in (1, 2, 3):
            counter = a_counter()
            raw = tuple(int(value * watts / 10 * (1 + number / 1000)) for value in counter.raw)
            capture = a_capture(
                series=(dataclasses.replace(counter, raw=raw),),
                environment={"python": "3.11", "platform": f"Linux-{version}", "hostname": name},
            )
            asked = a_trial(config, id=f"t{number}", study=name, round=number, cell=cell)
            folder = tmp_path / f"{name}-{number}"
            folder.mkdir()
            record = trial.derive(asked, capture, number)
            artifacts.write(folder, record, {"a": "", "b": ""})
            store.store(record, folder, parent, "here")
        return regression.Side(name=name, frame=store.frame(name), attached=store.attached)

    sides = stored("old", "1.0", 10), stored("new", "1.1", 12)
    refused = regression.build(*sides, regression.options({}))
    assert [(row.fact, row.a, row.b) for row in refused.differences] == [
        ("environment.platform", ("Linux-1.0",), ("Linux-1.1",)),
        ("version.scripted", ("1.0",), ("1.1",)),
    ]
    allowed = regression.build(*sides, regression.options({"allow": ["kernel", "versions"]}))
    energy, latency = allowed.metrics
    assert energy.metric.name == ENERGY
    assert energy.cells[0].ratio == pytest.approx(1.2)
    assert energy.cells[0].verdict == "regression"
    assert latency.cells[0].verdict == "equivalent"  # the same value in every trial


def test_a_change_gets_a_verdict_as_often_as_said(study):
    """The said size is a median over 20 studies without a change; then one cell gets dearer."""
    calm_pairs = [(calm(study, COSTS, 2 * s), calm(study, COSTS, 2 * s + 1)) for s in range(20)]
    said = [compared(a, b).metrics[0].verdict_pct for a, b in calm_pairs]
    dearer = {**COSTS, "onnx/cpu": 0.010 * (1 + sorted(said)[10] / 100)}
    worse = [compared(a, calm(study, dearer, 2 * s + 1)) for s, (a, _) in enumerate(calm_pairs)]
    found = sum(verdicts(result)["onnx"] == "regression" for result in worse)
    assert 12 <= found <= 19
    assert f"a change of {worse[0].metrics[0].verdict_pct:.2g} % of a typical cell gets a" in (
        " ".join(terminal(worse[0]).split())
    )


def test_a_wider_margin_and_a_floor_make_it_larger(study):
    pair = calm(study, COSTS, 1), calm(study, COSTS, 2)
    plain, margin, floor = (
        compared(*pair, **keys).metrics[0].verdict_pct
        for keys in ({}, {"margin": 0.04}, {"floor": 0.05})
    )
    assert plain < margin
    assert plain < floor


def wavy(study, costs, seed):
    """A study whose rounds resemble their neighbours."""
    frame = study(costs, rounds=12, drift=0, noise=0.002, seed=seed)
    return frame.assign(**{ENERGY: frame[ENERGY] * np.exp(0.03 * np.sin(frame["round"] / 2))})


def in_another_order(frame):
    return frame.assign(round=frame["round"].map(dict(zip(range(1, 13), ORDER, strict=True))))


def test_rounds_that_resemble_their_neighbours_make_it_larger(study):
    """The same values in another order are worth more rounds."""
    pair = [wavy(study, COSTS, seed) for seed in (1, 2)]
    [change] = compared(*pair).metrics
    [shuffled] = compared(*map(in_another_order, pair)).metrics
    assert change.verdict_pct > 1.5 * shuffled.verdict_pct
    size, chances = np.log1p(change.verdict_pct / 100), []
    for cell in change.cells:
        error = np.log(cell.high / cell.low) / 2 / stats.t.ppf(0.975, cell.freedom)
        # Of two cells: one-sided beyond the margin, and two-sided beyond what instruments explain.
        limits = ((-np.log(0.98), 0.05 / 2), (np.log(cell.instrument), 0.05 / 4))
        chances.append(
            min(
                stats.nct.sf(stats.t.isf(level, cell.freedom), cell.freedom, (size - limit) / error)
                for limit, level in limits
            )
        )
    assert min(chances) <= 0.8 <= max(chances)


def test_the_scope_of_both_studies_is_named(study):
    old, new = (with_scope(calm(study, COSTS, seed), WITHOUT_GPU) for seed in (1, 2))
    result = compared(old, new)
    assert result.a_scope == result.b_scope == WITHOUT_GPU.words
    text = " ".join(terminal(result, 200).split())
    assert text.count("measured: processor package and DRAM of 1 socket") == 3


def test_sums_of_different_scope_are_not_compared_whatever_is_allowed(study):
    old = with_scope(calm(study, COSTS, 1), WITHOUT_GPU)
    new = with_scope(calm(study, WORSE, 2), WHOLE)
    result = compared(old, new, metrics=[ENERGY, LATENCY], allow=["all"])
    assert [change.metric.name for change in result.metrics] == [LATENCY]
    [out] = [out for out in result.left_out if out.scope == "metric"]
    assert out.reason == (
        f"old summed {WITHOUT_GPU.words}, new {WHOLE.words}: totals of different scope are never"
        " compared"
    )
    assert f"old: {WITHOUT_GPU.words}; new: {WHOLE.words}" in " ".join(
        terminal(result, 300).split()
    )


def test_other_devices_of_the_same_number_may_be_compared_between_machines(study):
    other = a_scope(PACKAGE, ("gpu", "GPU-9 NVIDIA A10"))
    old = with_scope(calm(study, COSTS, 1), a_scope(PACKAGE, GPU))
    new = with_scope(calm(study, COSTS, 2, machine="lab-2"), other)
    result = compared(old, new, allow=["all"])
    assert [change.metric.name for change in result.metrics] == [ENERGY]


def test_with_and_without_processors_are_two_kinds_of_energy(study):
    old = calm(study, COSTS, 1)
    new = calm(study, COSTS, 2).rename(columns={ENERGY: "energy_devices/per_output_token_j"})
    with pytest.raises(
        AnalysisError, match="measured with the processors in one study and without"
    ):
        compared(old, new)
    both = compared(
        new, calm(study, WORSE, 3).rename(columns={ENERGY: "energy_devices/per_output_token_j"})
    )
    assert [change.metric.name for change in both.metrics] == ["energy_devices/per_output_token_j"]


def stored(largest_pct: float, machine: str = "lab-1") -> NoiseFloor:
    noise = MetricNoise(
        name=ENERGY, ratio=1.0, low=1 - 1e-9, high=1 + largest_pct / 100, sd_pct=1.0, trials=10
    )
    return NoiseFloor(
        study="aa", machine=machine, cell="m / e / p", day="2026-11-01", rounds=5, metrics=(noise,)
    )


def with_floor(study, known, **keys):
    sides = [
        dataclasses.replace(
            side(calm(study, costs, seed), name), stored_floor=lambda machine: known
        )
        for costs, seed, name in ((COSTS, 1, "old"), (WORSE, 2, "new"))
    ]
    return regression.build(*sides, regression.options({"metrics": [ENERGY], **keys}))


def test_a_stored_noise_floor_that_is_not_used_is_a_warning_that_names_the_key(study):
    result = with_floor(study, stored(1.84))
    [line] = result.warnings
    assert line.startswith("floor=0 is below the noise floor of lab-1: in study aa of 2026-11-01")
    assert line.endswith(
        "differs by up to 1.84 % in energy per output token, and two studies may differ by more;"
        " floor=0.019 allows for it in every verdict"
    )
    assert "Warning: floor=0 is below" in terminal(result, width=400)
    assert result.to_json()["warnings"] == [line]
    assert result.exit_code == 1  # it is a warning, not a verdict
    assert with_floor(study, stored(1.84), floor=0.019).warnings == ()
    assert with_floor(study, stored(1.84), floor=0.01).warnings[0].startswith("floor=0.01 is below")
    assert with_floor(study, None).warnings == ()
    assert with_floor(study, stored(1.84), metrics=[LATENCY]).warnings == ()


def test_a_noise_floor_that_cannot_be_read_is_a_warning_too(study):
    def unreadable(machine):
        raise AnalysisError("measure it again with slm-energy --config-name aa_noise_floor")

    broken = dataclasses.replace(side(calm(study, COSTS, 1), "old"), stored_floor=unreadable)
    result = regression.build(broken, side(calm(study, WORSE, 2), "new"), regression.options({}))
    assert "the noise floor of lab-1 is not known: measure it again" in result.warnings[0]


def test_rounds_that_resemble_their_neighbours_count_as_fewer(study):
    pair = [wavy(study, COSTS, seed) for seed in (1, 2)]
    [change] = compared(*pair).metrics
    assert change.correlation > 0.5
    assert change.rounds == 12
    assert change.effective_rounds < 5
    text = terminal(compared(*pair))
    assert "A round resembles the next (correlation 0." in text
    [shuffled] = compared(*map(in_another_order, pair)).metrics
    assert shuffled.correlation < 0.2
    half = [cell.high / cell.low for cell in (*change.cells, *shuffled.cells)]
    assert min(half[:2]) > 1.02 * max(half[2:])


ORDER = (1, 7, 3, 10, 5, 12, 2, 8, 4, 11, 6, 9)
