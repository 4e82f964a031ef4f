"""What the command line prints of a plan and of an invocation that ended."""

from __future__ import annotations

import math
from collections import Counter

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from slm_energy.analysis.result.diagnostics import NoiseFloor
from slm_energy.analysis.result.metric import Metric
from slm_energy.analysis.stats.effect_size import GOOD_POWER
from slm_energy.analysis.stats.max_t import smallest_rounds
from slm_energy.analysis.stats.power import minimum_detectable
from slm_energy.analysis.text import phrases
from slm_energy.cell import is_sentinel
from slm_energy.duration import duration
from slm_energy.planning.plan import Plan
from slm_energy.running.summary import SweepSummary

_ORDER_SHOWN = 60
_ALPHA = 0.05
"""The analysis's default."""


def show_plan(plan: Plan, console: Console, floor: NoiseFloor | None, settled: str | None) -> None:
    """Print cells, what is left out and why, done and to do, the order, the expected time.

    Args:
        plan: what it is about.
        console: where to.
        floor: what is stored of this machine.
        settled: what the rule of `study.precision_pct` says of the trials there are.
    """
    study = plan.study
    console.print(
        f"study [bold]{escape(study.name)}[/]: {'at most ' * (study.precision_pct is not None)}"
        f"{phrases.times(study.rounds, 'round')}, order {study.order}, seed {study.seed}"
    )
    _show_cells(plan, console)
    _show_left_out(plan, console)
    _show_order(plan, console)
    for change in plan.changed:
        console.print(f"[yellow]changed since the study began[/]: {escape(change)}", soft_wrap=True)
    _show_expected(plan, console)
    _show_power(plan, floor, console)
    if study.precision_pct is not None:
        told = settled or "no trial yet"
        console.print(f"study.precision_pct={study.precision_pct}: {told}", soft_wrap=True)


def _show_cells(plan: Plan, console: Console) -> None:
    cells = Table(box=None, padding=(0, 2, 0, 0))
    cells.add_column("cell", no_wrap=True)
    for heading in ("id", "done", "to do", "given up", "s each"):
        cells.add_column(heading, justify="right", no_wrap=True)
    counts = Counter((trial.cell.id, trial.status) for trial in plan.trials)
    seconds = {trial.cell.id: trial.expected_s for trial in plan.trials}
    for cell in dict.fromkeys(trial.cell.id for trial in plan.trials):
        numbers = [str(counts[cell, status]) for status in ("done", "to do", "given up")]
        each = seconds[cell]
        cells.add_row(
            escape(plan.labels[cell]), cell, *numbers, "?" if each is None else f"{each:.0f}"
        )
    console.print(cells)


def _show_order(plan: Plan, console: Console) -> None:
    todo = plan.with_status("to do")
    if todo:
        console.print("order:")
        for trial in todo[:_ORDER_SHOWN]:
            console.print(
                f"  {trial.order:>4}  r{trial.round:02d}  {escape(trial.label)}", highlight=False
            )
        if len(todo) > _ORDER_SHOWN:
            console.print(f"  and {len(todo) - _ORDER_SHOWN} more")


def _show_expected(plan: Plan, console: Console) -> None:
    todo, expected = plan.with_status("to do"), plan.expected_s
    time = (
        "unknown: nothing like it has run yet"
        if expected is None
        else f"about {duration(expected)}"
    )
    done = len(plan.with_status("done"))
    console.print(
        f"{len(plan.trials)} trials: {done} done, {len(todo)} to do; expected time: {time}",
        soft_wrap=True,
    )
    for kind in ("measured", "estimated"):
        joules = plan.expected_j(kind)
        if todo and joules is not None:
            console.print(f"expected energy inside windows, {kind}: {_energy(joules)}")


def _show_power(plan: Plan, floor: NoiseFloor | None, console: Console) -> None:
    """Print what so many rounds can find, on a machine with that noise floor."""
    cells = {t.cell.id: t.cell.settings.model.name for t in plan.trials if not is_sentinel(t.cell)}
    sizes = [size for size in Counter(cells.values()).values() if size > 1]
    if not sizes:
        return
    fewest, size = max((smallest_rounds(size, _ALPHA), size) for size in sizes)
    console.print(
        f"{fewest} rounds are the fewest in which {size} cells can ever show a difference"
        f" (alpha {_ALPHA})",
        soft_wrap=True,
    )
    if floor is None:
        console.print(
            "no noise floor of this machine is known: slm-energy --config-name aa_noise_floor"
            " measures it",
            soft_wrap=True,
        )
        return
    seen = floor.metrics[0]
    metric = Metric(name=seen.name)
    console.print(
        f"noise floor of this machine (study {floor.study} of {floor.day}, {floor.cell}):"
        f" {phrases.number(seen.sd_pct)} % per trial in {metric.title}{phrases.kind(metric)}",
        highlight=False,
        soft_wrap=True,
    )
    rounds, most = plan.study.rounds, max(sizes)
    found = minimum_detectable(math.log1p(seen.sd_pct / 100), rounds, most, _ALPHA)
    if found is not None:
        console.print(
            f"{rounds} rounds of {most} cells that are as noisy find a difference of"
            f" {phrases.number(found)} % with a chance of {GOOD_POWER}",
            highlight=False,
            soft_wrap=True,
        )


def _energy(joules: float) -> str:
    unit, size = ("kWh", 3.6e6) if joules >= 3.6e5 else ("kJ", 1e3) if joules >= 1e3 else ("J", 1.0)
    return f"about {joules / size:.3g} {unit}"


def show_ended(ended: SweepSummary, console: Console) -> None:
    """Print what was left out, what did not end valid, and where its log lies."""
    plan = ended.plan
    _show_left_out(plan, console)
    for (outcome, label, why), (rounds, place) in _not_valid(ended).items():
        console.print(
            f"[red]{outcome}[/] {escape(label)}  {', '.join(rounds)}: {escape(why)}\n"
            f"  see {place.removeprefix('file://')}",
            highlight=False,
            soft_wrap=True,
        )
    for name, details in _flagged(ended).items():
        console.print(
            f"[yellow]flagged[/] {name}, {len(details)} of {len(ended.trials)} trials:"
            f" {escape(details[-1])}",
            highlight=False,
            soft_wrap=True,
        )
    if ended.settled is not None:
        console.print(
            f"ended by study.precision_pct={plan.study.precision_pct}: {ended.settled}",
            soft_wrap=True,
        )
    given_up = len(plan.with_status("given up"))
    if given_up:
        console.print(
            f"{given_up} trials failed {plan.study.attempts} times in earlier invocations and are"
            f" left alone; study.attempts={plan.study.attempts + 2} tries them again",
            soft_wrap=True,
        )
    if not plan.trials:
        console.print("no cell of this grid can run here")
    elif not plan.with_status("to do"):
        console.print(
            f"nothing to do in study {plan.study.name!r}: {len(plan.with_status('done'))} of"
            f" {len(plan.trials)} trials are done; study.rounds={plan.study.rounds + 5} extends it,"
            " study.name=NAME starts another",
            soft_wrap=True,
        )
    if ended.unsent:
        console.print(
            f"{ended.unsent} records wait on disk: slm-energy sync or the next run of this study"
            " sends them",
            soft_wrap=True,
        )


def _not_valid(ended: SweepSummary) -> dict[tuple[str, str, str], tuple[list[str], str]]:
    """What did not end valid: outcome, cell and reason to rounds and the last one's files."""
    last = {(told.cell, told.round): told for told in ended.trials}
    found: dict[tuple[str, str, str], tuple[list[str], str]] = {}
    for told in last.values():
        if told.outcome in ("failed", "invalid"):
            key = (told.outcome, told.label, "; ".join(told.reasons))
            rounds, _ = found.get(key, ([], ""))
            found[key] = ([*rounds, f"r{told.round:02d}"], told.place)
    return found


def _flagged(ended: SweepSummary) -> dict[str, list[str]]:
    """What a reader should know of valid trials: expectation to its details."""
    found: dict[str, list[str]] = {}
    for told in ended.trials:
        for name, detail in told.flags:
            found.setdefault(name, []).append(detail)
    return found


def _show_left_out(plan: Plan, console: Console) -> None:
    for excluded in plan.excluded:
        line = f"[dim]excluded[/]    {escape(excluded.label)}: {escape(excluded.reason)}"
        console.print(line, highlight=False, soft_wrap=True)
    for cell, reason in plan.unsupported:
        line = f"[cyan]unsupported[/] {escape(plan.labels[cell.id])}: {escape(reason)}"
        console.print(line, highlight=False, soft_wrap=True)
