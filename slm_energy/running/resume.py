"""The plan of a grid, given the trials that its store already has."""

from __future__ import annotations

import dataclasses
import json

from slm_energy.config.groups import RunConfig
from slm_energy.machine import machine_id
from slm_energy.planning.freeze import Frozen, changes, freeze
from slm_energy.planning.grid import Grid
from slm_energy.planning.needs import guess_s
from slm_energy.planning.plan import Past, Plan, make_plan
from slm_energy.planning.speed import measure
from slm_energy.running.slurm import open_queue
from slm_energy.serialization import from_plain
from slm_energy.store.connection import exists
from slm_energy.store.offline import Offline
from slm_energy.store.tracking import Store, open_store


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Resumed:
    """A plan, and what it continues.

    Attributes:
        plan: the trials, done and to do.
        history: the earlier trials that it takes into account.
        measured: what the plan of the first invocation depended on that knew the scope of its sums;
            None if there is none.
    """

    plan: Plan
    history: list[Past]
    measured: Frozen | None


def current_plan(grid: Grid) -> Plan:
    """The plan as of now; runs, locks and creates nothing."""
    tracking = grid.config.tracking
    store = open_store(tracking) if tracking.offline or exists(tracking) else None
    plan = plan_of(grid, frozen(grid), store, machine_of(grid.config)).plan
    new = {t.cell.id: t.cell for t in plan.with_status("to do") if t.expected_s is None}
    known = [cell for cell in new.values() if grid.needs[cell.id].pass_bytes is not None]
    guesses_s = dict[str, float]()
    if known and grid.config.launcher is None:
        speed = measure()
        for cell in known:
            guess = guess_s(grid.needs[cell.id], cell.settings, speed)
            guesses_s |= {} if guess is None else {cell.id: guess}
    return dataclasses.replace(plan, needs=grid.needs, guesses_s=guesses_s)


def plan_of(grid: Grid, now: Frozen, store: Store | Offline | None, machine: str) -> Resumed:
    """The plan of a resolved grid, given the earlier trials.

    Args:
        grid: the resolved configurations.
        now: what the plan depends on.
        store: has earlier trials and the study's first plan; None before there is one.
        machine: the machine's name in the store.
    """
    study = grid.config.study
    history = [] if store is None else store.history(study.name, machine)
    plan = make_plan(
        study,
        grid.cells,
        excluded=grid.excluded,
        unsupported=grid.unsupported,
        history=history,
    )
    first = None if store is None else _frozen_in(store.first_plan(study.name, machine))
    if store is None or first is None:
        return Resumed(plan=plan, history=history, measured=None)
    # The first invocation may have metered nothing, or be of a version without scopes.
    measured: Frozen | None = first
    if not first.scopes:
        measured = _frozen_in(store.first_plan(study.name, machine, measured=True))
    plan = dataclasses.replace(
        plan, changed=changes(first, now), measured="" if measured is None else measured.measured
    )
    return Resumed(plan=plan, history=history, measured=measured)


def _frozen_in(plan: str | None) -> Frozen | None:
    """What the plan of an invocation depended on, from its `plan.json`."""
    return None if plan is None else from_plain(Frozen, json.loads(plan)["frozen"])


def frozen(grid: Grid) -> Frozen:
    """What the plan of a grid depends on, as of now."""
    return freeze(grid.config.study, [*grid.cells, *(cell for cell, _ in grid.unsupported)])


def machine_of(config: RunConfig) -> str:
    """The name in the store of the machine, or the cluster, that trials run on."""
    return machine_id() if config.launcher is None else open_queue(config.launcher).machine
