"""The verb `run`, which is also what happens without a verb: run a grid, then report."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from slm_energy.cli import exit_codes, key_help
from slm_energy.cli.console import shell_path, terminal
from slm_energy.cli.plan import show_left_out, warn_of_few_rounds
from slm_energy.cli.words import add_hydra, hydra_words
from slm_energy.config import files
from slm_energy.config.compose import compose_grid
from slm_energy.config.groups import TrackingConfig
from slm_energy.errors import AnalysisError, TrackingError
from slm_energy.escape import shell_override
from slm_energy.places import file_errors

if TYPE_CHECKING:
    from slm_energy.running.summary import SweepSummary

SUMMARY = "run one trial, or with -m a grid; the same command resumes it"

_THEN = ", then run the same command again: finished trials are kept"


def configure(parser: argparse.ArgumentParser) -> None:
    """KEY=VALUE words and Hydra's flags."""
    add_hydra(parser)
    examples = (
        ("slm-energy run", "one trial of the bundled model"),
        ("slm-energy run -m engine=torch,onnx study.rounds=5", "two engines, five rounds"),
    )
    parser.epilog = key_help.help_text(
        examples,
        key_help.RUN,
        "GROUP=NAME chooses a file conf/GROUP/NAME.yaml; the keys below are those of the default"
        " files. engine.options has keys of its own for each engine: see conf/engine/NAME.yaml."
        " slm-energy --help lists the groups.",
    )


def run(arguments: argparse.Namespace) -> int:
    """Run what is to do, then print and store the report.

    Returns:
        The exit code (`cli/exit_codes.py`).

    Raises:
        SlmEnergyError: the sweep cannot begin or go on.
    """
    from slm_energy.cli.report import show_report
    from slm_energy.planning.grid import resolve
    from slm_energy.running import stop_rule, sweep
    from slm_energy.running.report import study_report
    from slm_energy.store.tracking import Store

    configs = compose_grid(hydra_words(arguments))
    if not configs:  # Hydra has printed what a flag such as --cfg requests
        return 0
    console, config = terminal(), configs[0]
    with file_errors(files.places(configs), then=_THEN):
        grid = resolve(configs)
        warn_of_few_rounds(grid.cells, config.study.rounds, console)
        summary = sweep.run(grid, console, stop_rule.stopping_rule(grid, console))
    show_summary(summary, console)
    if summary.interrupted:
        console.print("interrupted: run the same command again to continue")
        return exit_codes.INTERRUPTED
    if config.tracking.offline:
        folder = shell_path(Path(config.tracking.folder).absolute())
        line = f"slm-energy sync {folder} tracking=NAME sends the records"
        console.print(escape(line), soft_wrap=True, highlight=False)
        return exit_codes.GOOD if summary.all_valid else exit_codes.FAILED
    complete = True
    try:
        store = Store(config.tracking)
        report = study_report(store, {"study": config.study.name})
        _, complete = show_report(report, store, summary.parent, console)
    except AnalysisError as error:
        console.print(f"no report: {escape(str(error))}", soft_wrap=True)
    except TrackingError as error:
        if not summary.unsent:
            raise
        console.print(f"no report: {escape(str(error))}", soft_wrap=True)
    browse = escape(ui_command(config.tracking))
    console.print(f"browse the runs: [bold]{browse}[/]", soft_wrap=True, highlight=False)
    if not summary.all_valid:
        return exit_codes.FAILED
    if summary.unsent:  # and the report may be incomplete for want of them
        return exit_codes.UNSENT
    return exit_codes.GOOD if complete else exit_codes.FAILED


def ui_command(tracking: TrackingConfig) -> str:
    """The command that opens the UI of a store, for a shell; a server's is its address."""
    from slm_energy.store.access import is_server

    if tracking.uri is not None and is_server(tracking.uri):
        return tracking.uri
    words = [shlex.quote(sys.executable), "-m slm_energy ui"]
    if tracking.folder != "mlruns":
        words.append(shell_override("tracking.folder", tracking.folder))
    if tracking.uri is not None:
        words.append(shell_override("tracking.uri", tracking.uri))
    return " ".join(words)


def show_summary(summary: SweepSummary, console: Console) -> None:
    """Print what was left out, what did not end valid, and where its log is."""
    plan = summary.plan
    show_left_out(plan, console)
    for (outcome, label, why), (rounds, place) in _not_valid(summary).items():
        console.print(
            f"[red]{outcome}[/] {escape(label)}  {', '.join(rounds)}: {escape(why)}\n"
            f"  see {escape(shell_path(place))}",
            highlight=False,
            soft_wrap=True,
        )
    for name, details in _flagged(summary).items():
        console.print(
            f"[yellow]flagged[/] {name}, {len(details)} of {len(summary.trials)} trials:"
            f" {escape(details[-1])}",
            highlight=False,
            soft_wrap=True,
        )
    if summary.stop_reason is not None:
        console.print(
            f"ended by study.precision_pct={plan.study.precision_pct}: {summary.stop_reason}",
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
    if summary.unsent:
        console.print(
            f"{summary.unsent} records wait on disk: slm-energy sync or the next run of this study"
            " sends them",
            soft_wrap=True,
        )


def _not_valid(summary: SweepSummary) -> dict[tuple[str, str, str], tuple[list[str], str]]:
    """What did not end valid: outcome, cell and reason to rounds and the last one's files."""
    last = {(trial.cell, trial.round): trial for trial in summary.trials}
    groups: dict[tuple[str, str, str], tuple[list[str], str]] = {}
    for trial in last.values():
        if trial.outcome in ("failed", "invalid"):
            key = (trial.outcome, trial.label, "; ".join(trial.reasons))
            rounds, _ = groups.get(key, ([], ""))
            groups[key] = ([*rounds, f"r{trial.round:02d}"], trial.location)
    return groups


def _flagged(summary: SweepSummary) -> dict[str, list[str]]:
    """What a reader should know of valid trials: expectation to its details."""
    flags: dict[str, list[str]] = {}
    for trial in summary.trials:
        for name, detail in trial.flags:
            flags.setdefault(name, []).append(detail)
    return flags
