"""What the command line prints of a plan and of an invocation that ended."""

from __future__ import annotations

from collections import Counter

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from slm_energy.analysis.permute import smallest_rounds
from slm_energy.plan import Plan
from slm_energy.progress import duration
from slm_energy.sweep import Ended

_ORDER_SHOWN = 60
_ALPHA = 0.05
"""The analysis's default."""


def show_plan(plan: Plan, console: Console) -> None:
    """Print cells, what is left out and why, done and to do, the order, the expected time."""
    study = plan.study
    console.print(
        f"study [bold]{escape(study.name)}[/]: {study.rounds} rounds, order {study.order},"
        f" seed {study.seed}"
    )
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
    _show_left_out(plan, console)
    todo = plan.with_status("to do")
    if todo:
        console.print("order:")
        for trial in todo[:_ORDER_SHOWN]:
            console.print(
                f"  {trial.order:>4}  r{trial.round:02d}  {escape(trial.label)}", highlight=False
            )
        if len(todo) > _ORDER_SHOWN:
            console.print(f"  and {len(todo) - _ORDER_SHOWN} more")
    expected = plan.expected_s
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
    count = len({trial.cell.id for trial in plan.trials})
    if count > 1:
        fewest = smallest_rounds(count, _ALPHA)
        console.print(
            f"{fewest} rounds are the fewest in which {count} cells can ever show a difference"
            f" (alpha {_ALPHA})",
            soft_wrap=True,
        )


def _energy(joules: float) -> str:
    unit, size = ("kWh", 3.6e6) if joules >= 3.6e5 else ("kJ", 1e3) if joules >= 1e3 else ("J", 1.0)
    return f"about {joules / size:.3g} {unit}"


def show_ended(ended: Ended, console: Console) -> None:
    """Print what was left out, what did not end valid, and where its log lies."""
    plan = ended.plan
    _show_left_out(plan, console)
    for (outcome, label, why), (rounds, place) in _not_valid(ended).items():
        console.print(
            f"[red]{outcome}[/] {escape(label)}  {', '.join(rounds)}: {escape(why)}\n"
            f"  log: {place.removeprefix('file://')}/worker.log",
            highlight=False,
            soft_wrap=True,
        )
    for name, details in _flagged(ended).items():
        console.print(
            f"[yellow]flagged[/] {name}, {len(details)} of {len(ended.records)} trials:"
            f" {escape(details[-1])}",
            highlight=False,
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
        console.print(f"{ended.unsent} records wait on disk; the next run of this study sends them")


def _not_valid(ended: Ended) -> dict[tuple[str, str, str], tuple[list[str], str]]:
    """What did not end valid: outcome, cell and reason to rounds and the last one's files."""
    last = {(r.trial.cell.id, r.trial.round): (r, place) for r, place in ended.records}
    found: dict[tuple[str, str, str], tuple[list[str], str]] = {}
    for record, place in last.values():
        if record.outcome.name in ("failed", "invalid"):
            key = (record.outcome.name, record.trial.label, "; ".join(record.outcome.reasons))
            rounds, _ = found.get(key, ([], ""))
            found[key] = ([*rounds, f"r{record.trial.round:02d}"], place)
    return found


def _flagged(ended: Ended) -> dict[str, list[str]]:
    """What a reader should know of valid trials: expectation to its details."""
    found: dict[str, list[str]] = {}
    for record, _ in ended.records:
        for check in record.checks:
            if check.flagged:
                found.setdefault(check.name, []).append(check.detail)
    return found


def _show_left_out(plan: Plan, console: Console) -> None:
    for excluded in plan.excluded:
        line = f"[dim]excluded[/]    {escape(excluded.label)}: {escape(excluded.reason)}"
        console.print(line, highlight=False, soft_wrap=True)
    for cell, reason in plan.unsupported:
        line = f"[cyan]unsupported[/] {escape(plan.labels[cell.id])}: {escape(reason)}"
        console.print(line, highlight=False, soft_wrap=True)
