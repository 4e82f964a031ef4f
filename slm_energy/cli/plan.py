"""The verb `plan`: what a grid would run, in which order, for how long; it runs nothing."""

from __future__ import annotations

import argparse
import math
import shutil
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from slm_energy import cache, cpu_quota
from slm_energy.cell import Cell, arrivals_differ, cell_levels, is_sentinel, named_levels
from slm_energy.cli import key_help, registration
from slm_energy.cli.console import terminal
from slm_energy.cli.words import add_hydra, hydra_words
from slm_energy.config import files
from slm_energy.config.compose import compose_grid
from slm_energy.duration import duration
from slm_energy.errors import AnalysisError
from slm_energy.places import file_errors

if TYPE_CHECKING:
    from slm_energy.analysis.result.diagnostics import NoiseFloor
    from slm_energy.planning.grid import Grid
    from slm_energy.planning.plan import Plan

SUMMARY = "show what a grid would run, in which order and for how long"

_ORDER_SHOWN = 60
_ALPHA, _MARGIN = 0.05, 0.02
"""The analysis's default."""


def configure(parser: argparse.ArgumentParser) -> None:
    """The same words as `run` has, and a file to register the plan in."""
    add_hydra(parser)
    parser.add_argument(
        "--register",
        metavar="FILE",
        help="write hypotheses, metrics, margin, families, stopping rule and plan to a new file"
        " before the first trial; keys of the report, such as margin=0.05, may then be given too",
    )
    parser.add_argument(
        "--hypothesis",
        metavar="TEXT",
        action="append",
        default=[],
        help="with --register: a hypothesis in your own words (may be given several times)",
    )
    examples = (
        ("slm-energy plan -m engine=torch,onnx provider=cpu,cuda", "a grid of four cells"),
        ("slm-energy plan --config-name demo --register FILE margin=0.05", "pre-register a sweep"),
    )
    parser.epilog = key_help.help_text(examples, key_help.RUN)


def run(arguments: argparse.Namespace) -> int:
    """Print the plan; nothing is run, locked or created but the file of `--register`."""
    from slm_energy.planning.grid import resolve
    from slm_energy.running import stop_rule
    from slm_energy.running.job import study_kind
    from slm_energy.running.resume import current_plan, machine_of
    from slm_energy.store.connection import exists
    from slm_energy.store.tracking import Store

    analysis = registration.analysis_words(arguments)
    configs = compose_grid(hydra_words(arguments))
    if not configs:
        return 0
    console = terminal()
    with file_errors(files.places(configs)), console.status("reading finished trials ..."):
        grid = resolve(configs)
        tracking, machine, floor = grid.config.tracking, machine_of(grid.config), None
        if exists(tracking):
            try:
                spool = Path(tracking.folder).absolute() / "pending" / machine
                kind = study_kind(spool, grid.config.study.name)
                floor = stop_rule.noise_floor(Store(tracking), machine, kind)
            except AnalysisError as error:
                line = f"[yellow]no noise floor[/]: {escape(str(error))}"
                console.print(line, soft_wrap=True)
        plan = current_plan(grid)
        settled = stop_rule.status(grid, machine) if plan.with_status("done") else None
    here = grid.config.launcher is None
    show_plan(plan, console, floor, settled, "this machine" if here else machine)
    _show_files(grid, console)
    if here:
        _show_this_machine(console)
    if arguments.register is not None:
        registration.write(arguments, analysis, grid, plan, console)
    return 0


def show_plan(
    plan: Plan,
    console: Console,
    floor: NoiseFloor | None,
    settled: str | None,
    machine: str,
) -> None:
    """Print cells, what is left out and why, done and to do, the order, the expected time.

    Args:
        plan: what it is about.
        console: where to.
        floor: what is stored of the machine or cluster that it runs on.
        settled: what the rule of `study.precision_pct` says of the trials there are.
        machine: what the text calls it.
    """
    from slm_energy.analysis.text import phrases

    study = plan.study
    console.print(
        f"study [bold]{escape(study.name)}[/]: {'at most ' * (study.precision_pct is not None)}"
        f"{phrases.times(study.rounds, 'round')}, order {study.order}, seed {study.seed}"
    )
    if plan.trials:
        _show_cells(plan, console)
    show_left_out(plan, console)
    _show_order(plan, console)
    if plan.measured:
        console.print(escape(f"energy of: {plan.measured}"), highlight=False, soft_wrap=True)
    for change in plan.changed:
        console.print(f"[yellow]changed since the study began[/]: {escape(change)}", soft_wrap=True)
    _show_expected(plan, console)
    _show_power(plan, floor, machine, console)
    if study.precision_pct is not None:
        state = settled or "no trial yet"
        console.print(f"study.precision_pct={study.precision_pct}: {state}", soft_wrap=True)


def _show_files(grid: Grid, console: Console) -> None:
    """Print which weights are on disk, what is downloaded, and what will be derived from them."""

    def say(what: str, sizes: Mapping[str, int], ending: str = "") -> None:
        models = ", ".join(f"{name} {size / 1e9:.2f} GB" for name, size in sizes.items())
        line = f"{what}: {sum(sizes.values()) / 1e9:.2f} GB ({escape(models)}){ending}"
        console.print(line, highlight=False, soft_wrap=True)

    if grid.stored:
        say("weights on disk", grid.stored)
    if grid.downloads:
        command = "; slm-energy fetch with the same words downloads it beforehand"
        say("to download", grid.downloads, command)
    exports = dict[tuple[str, ...], int]()
    for need in grid.needs.values():
        exports |= need.exports
    if not exports:
        return
    kinds = dict.fromkeys(kind for kind, *_ in exports)
    sizes = {k: sum(size for (kind, *_), size in exports.items() if kind == k) for k in kinds}
    folder = cache.root(grid.config.cache.folder)
    free = shutil.disk_usage(next(each for each in (folder, *folder.parents) if each.exists())).free
    say("to export, once", sizes, f"; cache.folder has {free / 1e9:.2f} GB free")
    if sum(exports.values()) > free:
        console.print("[yellow]too little disk[/]: slm-energy cache clear, or cache.folder=FOLDER")


def _show_this_machine(console: Console) -> None:
    """Print what limits trials on it: a quota of less than a processor, and the lock."""
    from slm_energy.machine import lock_paths

    quotas = cpu_quota.read()
    quota = quotas.tightest
    if quotas.unknown:
        console.print(f"[yellow]CPU quota[/]: {escape(quotas.unknown)}", soft_wrap=True)
    if quota is not None and quota.processors < 1:
        line = (
            f"[yellow]CPU quota[/]: {quota.processors:g} processors by {escape(quota.folder)}: even"
            " one thread is throttled, and trials are invalid above"
            " measurement.limits.throttled_pct"
        )
        console.print(line, highlight=False, soft_wrap=True)
    places = ", ".join(map(str, lock_paths()))
    console.print(f"machine lock: {places or 'no place'}", highlight=False, soft_wrap=True)


def _show_cells(plan: Plan, console: Console) -> None:
    from slm_energy.planning.needs import Needs

    cells = Table(box=None, padding=(0, 2, 0, 0))
    cells.add_column("cell", no_wrap=True)
    for heading in ("id", "done", "to do", "given up", "memory", "s each"):
        cells.add_column(heading, justify="right", no_wrap=True)
    counts = Counter((trial.cell.id, trial.status) for trial in plan.trials)
    seconds = {trial.cell.id: trial.expected_s for trial in plan.trials}
    for cell in dict.fromkeys(trial.cell.id for trial in plan.trials):
        numbers = [str(counts[cell, status]) for status in ("done", "to do", "given up")]
        each, guess = seconds[cell], plan.guesses_s.get(cell)
        memory = plan.needs.get(cell, Needs()).memory_bytes
        numbers.append("?" if memory is None else f"{memory / 1e9:.1f} GB")
        numbers.append(f"{each:.0f}" if each is not None else f"~{guess:.0f}" if guess else "?")
        cells.add_row(escape(plan.labels[cell]), cell, *numbers)
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
    if not plan.trials:
        console.print("no cell of this grid can run here")
        return
    todo, expected, guess = plan.with_status("to do"), plan.expected_s, plan.guessed_s
    time = "unknown: nothing like it has run yet"
    if expected is not None:
        time = f"about {duration(expected)}"
    elif guess is not None:
        time = f"about {duration(guess)}, a guess: cells marked ~ have not run yet, and downloads,"
        time += " exports and reference tokens come on top"
    done = len(plan.with_status("done"))
    console.print(
        f"{len(plan.trials)} trials: {done} done, {len(todo)} to do; expected time: {time}",
        soft_wrap=True,
    )
    for kind in ("measured", "estimated"):
        joules = plan.expected_j(kind)
        if todo and joules is not None:
            console.print(f"expected energy inside windows, {kind}: {_energy(joules)}")


def warn_of_few_rounds(cells: Collection[Cell], rounds: int, console: Console) -> None:
    """Print a warning where a study's rounds can give no verdict, however large a difference is."""
    from slm_energy.analysis.stats.max_t import fewest_rounds

    most = _most_compared(cells)
    fewest = fewest_rounds(most)
    if most > 1 and rounds < fewest:
        console.print(
            f"[yellow]no verdict possible[/]: study.rounds={rounds}, and {most} cells of one model"
            f" need at least {fewest} rounds",
            highlight=False,
            soft_wrap=True,
        )


def _most_compared(cells: Collection[Cell]) -> int:
    """Of the cells of one model under one load, which are compared with each other."""
    levels = [cell_levels(cell) for cell in cells if not is_sentinel(cell)]
    load = arrivals_differ(levels)
    families = Counter((str(row["model.name"]), *named_levels(row, load)) for row in levels)
    return max(families.values(), default=0)


def _show_power(plan: Plan, floor: NoiseFloor | None, machine: str, console: Console) -> None:
    """Print what this many rounds can show, on a machine with that noise floor."""
    from slm_energy.analysis.stats.comparison import Rule
    from slm_energy.analysis.stats.effect_size import GOOD_POWER
    from slm_energy.analysis.stats.power import minimum_detectable
    from slm_energy.analysis.text import phrases

    cells = {trial.cell.id: trial.cell for trial in plan.trials}.values()
    most = _most_compared(cells)
    if most < 2:
        return
    warn_of_few_rounds(cells, plan.study.rounds, console)
    if floor is None:
        console.print(
            f"no noise floor of {escape(machine)} is known: slm-energy --config-name aa_noise_floor"
            " measures it there",
            highlight=False,
            soft_wrap=True,
        )
        return
    rounds = plan.study.rounds
    noise, rule = floor.metrics[0], Rule(alpha=_ALPHA, margin=_MARGIN)
    console.print(escape(_noise(floor, machine)), highlight=False, soft_wrap=True)
    difference = minimum_detectable(math.log1p(noise.sd_pct / 100), rounds, most, rule)
    if difference is not None:
        console.print(
            f"{rounds} rounds of {most} cells that are as noisy give"
            f" {phrases.difference(difference)} a verdict (saves or worse, beyond the margin of"
            f" {100 * rule.margin:g} %) with a chance of {GOOD_POWER}",
            highlight=False,
            soft_wrap=True,
        )


def _noise(floor: NoiseFloor, machine: str) -> str:
    from slm_energy.analysis.result.metric import Metric
    from slm_energy.analysis.text import phrases

    noise = floor.metrics[0]
    metric = Metric(name=noise.name)
    nodes = f", nodes of kind {floor.node_kind}" if floor.node_kind else ""
    return (
        f"noise floor of {machine} (study {floor.study} of {floor.day}, {floor.cell}{nodes}):"
        f" {phrases.number(noise.sd_pct)} % per trial in {metric.title}{phrases.kind(metric)}"
    )


def _energy(joules: float) -> str:
    unit, size = ("kWh", 3.6e6) if joules >= 3.6e5 else ("kJ", 1e3) if joules >= 1e3 else ("J", 1.0)
    return f"about {joules / size:.3g} {unit}"


def show_left_out(plan: Plan, console: Console) -> None:
    """Print the cells that are excluded, or that cannot run here, and why."""
    rules: dict[str, list[str]] = {}
    for excluded in plan.excluded:
        rules.setdefault(excluded.reason, []).append(excluded.label)
    for reason, names in rules.items():
        line = f"[dim]excluded[/]    {escape('; '.join(names))}: {escape(reason)}"
        console.print(line, highlight=False, soft_wrap=True)
    alike: dict[str, list[tuple[Cell, str]]] = {}
    for cell, reason in plan.unsupported:
        shared = reason.replace(cell.settings.model.source, "...")
        alike.setdefault(shared, []).append((cell, reason))
    for shared, found in alike.items():
        cells, reasons = [cell for cell, _ in found], {reason for _, reason in found}
        reason = shared if len(reasons) > 1 else reasons.pop()
        line = f"[cyan]unsupported[/] {escape(_joined(cells, plan.labels))}: {escape(reason)}"
        console.print(line, highlight=False, soft_wrap=True)


def _joined(cells: Sequence[Cell], labels: Mapping[str, str]) -> str:
    """The labels of some cells; products of levels as `phi-2 / torch, onnx / cpu`."""
    if (joined := _product(cells)) is not None:
        return joined
    parts: dict[str, list[Cell]] = {}
    for cell in cells:
        parts.setdefault(cell.settings.provider.name, []).append(cell)
    return "; ".join(
        _product(own) or "; ".join(labels[cell.id] for cell in own) for own in parts.values()
    )


def _product(cells: Sequence[Cell]) -> str | None:
    """`phi-2 / torch, onnx / cpu, cuda`; None if they are no product of two or more cells."""
    levels = [
        [getattr(cell.settings, group).name for cell in cells]
        for group in ("model", "engine", "provider")
    ]
    distinct = [list(dict.fromkeys(names)) for names in levels]
    if 1 < len(cells) == math.prod(map(len, distinct)) == len({*zip(*levels, strict=True)}):
        return " / ".join(", ".join(names) for names in distinct)
    return None
