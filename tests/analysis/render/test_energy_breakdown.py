import dataclasses

import pytest

from slm_energy.analysis.render.energy_breakdown import breakdowns
from slm_energy.analysis.result.report import Report


def test_only_what_adds_up_is_stacked(report: Report) -> None:
    """psys contains the package: the three together would be more than the total."""
    by_title = {found.title: found for found in breakdowns(report)}
    found = by_title["Energy of one pass of the workload by component: J, mean of trials"]
    assert set(found.values) == {"processor", "memory"}
    for cell, joules in zip(found.cells, found.values["processor"], strict=True):
        costs = {"onnx-cpu": 0.012, "torch-cpu": 0.03, "a_b & 50 %-cpu": 0.02}
        assert joules == pytest.approx(900 * costs[cell], rel=0.1)  # whatever its passes
    for i in range(3):
        ratio = found.values["processor"][i] / found.values["memory"][i]
        assert ratio == pytest.approx(9)


def test_a_total_that_is_the_platforms_is_not_made_of_package_and_memory(report: Report) -> None:
    trials = tuple(
        dataclasses.replace(trial, values=trial.values | {"energy/total_j": platform})
        if (platform := trial.values.get("energy/psys_j"))
        else trial
        for trial in report.trials
    )
    changed = dataclasses.replace(report, trials=trials)
    assert not [found for found in breakdowns(changed) if "component" in found.title]


def test_measured_and_estimated_joules_are_never_in_one_picture(report: Report) -> None:
    phases = "Energy by phase: load and warm-up once, and one pass of the workload"
    kinds = {found.title: (found.estimated, len(found.cells)) for found in breakdowns(report)}
    assert kinds == {
        "Energy of one pass of the workload by component: J, mean of trials": (False, 3),
        f"{phases}: J, mean of trials": (False, 3),
        f"{phases}, estimated: J, mean of trials": (True, 2),
    }


def test_a_part_that_a_trial_lacks_is_left_out(report: Report) -> None:
    name = "energy/dram_j"
    lacking = next(t for t in report.trials if t.outcome == "valid" and name in t.values)
    values = {key: value for key, value in lacking.values.items() if key != name}
    trials = [
        dataclasses.replace(trial, values=values) if trial is lacking else trial
        for trial in report.trials
    ]
    changed = dataclasses.replace(report, trials=tuple(trials))
    assert not [found for found in breakdowns(changed) if "component" in found.title]
