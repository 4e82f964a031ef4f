from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest

from slm_energy.cell import Cell, sentinel, settings
from slm_energy.config.groups import EngineConfig, RunConfig, StudyConfig
from slm_energy.errors import ConfigError
from slm_energy.planning.plan import Past, exclusion, make_plan
from tests.conftest import a_cell


def cells(config: RunConfig, count: int) -> list[Cell]:
    return [a_cell(config, f"c{n}", engine=EngineConfig(name=f"e{n}")) for n in range(count)]


def study(**changes: Any) -> StudyConfig:
    return StudyConfig(name="s", **changes)


def past(cell: str, number: int, **changes: Any) -> Past:
    values: dict[str, Any] = {"model": "bundled", "outcome": "valid", "duration_s": 10.0}
    return Past(cell=cell, round=number, **values | changes)


def test_each_round_holds_every_cell_once_in_an_order_that_the_seed_repeats(
    config: RunConfig,
) -> None:
    def order(seed: int) -> list[str]:
        plan = make_plan(study(rounds=4, seed=seed), cells(config, 6))
        return [trial.cell.id for trial in plan.trials]

    first = order(1)
    blocks = [first[start : start + 6] for start in range(0, 24, 6)]
    assert all(sorted(block) == [f"c{n}" for n in range(6)] for block in blocks)
    assert len({tuple(block) for block in blocks}) == 4
    assert order(1) == first
    assert order(2) != first


def test_the_order_does_not_depend_on_how_the_grid_was_typed(config: RunConfig) -> None:
    forward = make_plan(study(rounds=2), cells(config, 5))
    backward = make_plan(study(rounds=2), cells(config, 5)[::-1])
    assert [t.cell.id for t in forward.trials] == [t.cell.id for t in backward.trials]


def test_raising_rounds_extends_a_study(config: RunConfig) -> None:
    short = make_plan(study(rounds=2), cells(config, 4))
    done = [past(trial.cell.id, trial.round) for trial in short.trials]
    longer = make_plan(study(rounds=3), cells(config, 4), history=done)
    assert {trial.round for trial in longer.with_status("to do")} == {3}
    assert [t.cell.id for t in longer.trials[:8]] == [t.cell.id for t in short.trials]


@pytest.mark.parametrize(
    ("history", "status"),
    [
        ([], "to do"),
        ([past("c0", 1)], "done"),
        ([past("c0", 2)], "to do"),
        ([past("c0", 1, outcome="failed")], "to do"),
        ([past("c0", 1, outcome="failed"), past("c0", 1, outcome="invalid")], "given up"),
        ([past("c0", 1, outcome="failed"), past("c0", 1)], "done"),
        ([past("c0", 1, outcome="failed", interrupted=True)] * 5, "to do"),
        ([past("c0", 0, outcome="unsupported")], "to do"),
    ],
)
def test_what_earlier_trials_leave_to_do(
    config: RunConfig, history: Sequence[Past], status: str
) -> None:
    plan = make_plan(study(), cells(config, 1), history=history)
    assert plan.trials[0].status == status


def test_expected_time_comes_from_the_cell_then_the_model_else_is_unknown(
    config: RunConfig,
) -> None:
    both = cells(config, 2)
    history = [past("c0", 9, duration_s=20.0), past("gone", 9, duration_s=40.0)]
    plan = make_plan(study(), both, history=history)
    assert {t.cell.id: t.expected_s for t in plan.trials} == {"c0": 20.0, "c1": 30.0}
    assert plan.expected_s == 50.0
    assert make_plan(study(), both).expected_s is None


def test_expected_energy_keeps_measured_and_estimated_apart(config: RunConfig) -> None:
    both = cells(config, 2)
    history = [
        past("c0", 8, joules={"measured": 100.0}),
        past("c0", 9, joules={"measured": 300.0}),
        past("c1", 9, joules={"measured": 50.0, "estimated": 10.0}),
    ]
    plan = make_plan(study(), both, history=history)
    assert plan.expected_j("measured") == 250.0
    assert plan.expected_j("estimated") is None
    assert make_plan(study(), both).expected_j("measured") is None


def test_a_williams_order_lets_every_cell_follow_every_other_one(config: RunConfig) -> None:
    plan = make_plan(study(rounds=4, order="williams"), cells(config, 4))
    ids = [trial.cell.id for trial in plan.trials]
    rounds = [ids[start : start + 4] for start in range(0, 16, 4)]
    follows = {pair for block in rounds for pair in pairwise(block)}
    assert len(follows) == 12


def test_a_sentinel_is_the_first_of_every_round_and_changes_no_other_name(
    config: RunConfig,
) -> None:
    both = cells(config, 2)
    extra = sentinel(both[0])
    plan = make_plan(study(rounds=3), [extra, *both])
    rounds = [[trial.cell.id for trial in plan.trials if trial.round == n] for n in (1, 2, 3)]
    assert [sorted(each[1:]) for each in rounds] == [["c0", "c1"]] * 3
    assert {each[0] for each in rounds} == {extra.id}
    assert plan.labels == make_plan(study(rounds=3), both).labels | {
        extra.id: "bundled / e0 / cpu / sentinel"
    }


def test_exclusions_match_levels_and_carry_their_reason(config: RunConfig) -> None:
    levels = settings(config)
    assert exclusion(levels, [{"engine": "torch"}]) is None
    assert exclusion(levels, [{"engine": ["torch", "scripted"], "provider": "cuda"}]) is None
    assert exclusion(levels, [{"engine": ["scripted"]}]) == "study.exclude: engine=['scripted']"
    assert exclusion(levels, [{"workload.new_tokens": 4, "reason": "too short"}]) == "too short"
    assert exclusion(levels, [{"reason": "nothing named"}]) is None
    with pytest.raises(ConfigError, match=r"study\.exclude\[0\] names 'engin'"):
        exclusion(levels, [{"engin": "torch"}])


def test_unsupported_cells_are_in_the_plan_but_not_in_its_trials(config: RunConfig) -> None:
    [runs, cannot] = cells(config, 2)
    plan = make_plan(study(rounds=2), [runs], unsupported=[(cannot, "no GPU")])
    assert {trial.cell.id for trial in plan.trials} == {"c0"}
    assert plan.unsupported == ((cannot, "no GPU"),)
    assert set(plan.labels) == {"c0", "c1"}
    summary: Any = plan.summary()
    assert [row["order"] for row in summary["order"]] == [1, 2]
    assert summary["unsupported"][0]["reason"] == "no GPU"
    assert summary["study"]["seed"] == 0
