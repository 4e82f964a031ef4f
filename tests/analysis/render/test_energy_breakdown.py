import dataclasses

import pytest

from slm_energy.analysis.render.energy_breakdown import breakdowns
from slm_energy.analysis.result.report import Report


def test_only_what_adds_up_is_stacked(report: Report) -> None:
    """psys contains the package: the three together would be more than the total."""
    by_title = {found.title: found for found in breakdowns(report)}
    found = by_title["Energy of serving by component: J, mean of trials"]
    assert set(found.values) == {"processor", "memory"}
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
    kinds = {found.title: (found.estimated, len(found.cells)) for found in breakdowns(report)}
    assert kinds == {
        "Energy of serving by component: J, mean of trials": (False, 3),
        "Energy of a trial by phase: J, mean of trials": (False, 3),
        "Energy of a trial by phase, estimated: J, mean of trials": (True, 2),
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
