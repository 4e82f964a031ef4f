"""The verb `score`: test the answers of a stored study."""

from __future__ import annotations

import argparse
import shlex

from rich.markup import escape
from rich.progress import Progress

from slm_energy import cache
from slm_energy.cli import key_help
from slm_energy.cli.console import terminal
from slm_energy.cli.study import compose_study
from slm_energy.cli.words import add_words, overrides
from slm_energy.config.check import cache_group, checked, tracking_group
from slm_energy.config.options import ScoreOptions
from slm_energy.places import file_errors

SUMMARY = "test the generated code of a stored study"


def configure(parser: argparse.ArgumentParser) -> None:
    """KEY=VALUE words only."""
    add_words(parser)
    examples = (
        ("slm-energy score study=NAME", "trials that have no scores yet; those that have stay"),
        ("slm-energy score study=NAME sandbox=none", "without a sandbox, with your own rights"),
    )
    parser.epilog = key_help.help_text(examples, ("score", "tracking", "cache"))


def run(arguments: argparse.Namespace) -> int:
    """Score and print; 1 if some trial could not be scored.

    Raises:
        ConfigError: an option is not valid.
        TrackingError: there is no such store or study.
        SandboxError: this machine cannot isolate generated code.
    """
    from slm_energy.running.scoring import score_study
    from slm_energy.store.tracking import open_existing

    composed = compose_study("score", overrides(arguments))
    console = terminal()
    tracking, folder = tracking_group(composed), cache.root(cache_group(composed).folder)
    options = checked(ScoreOptions, composed, "score")
    places = [("tracking.folder", tracking.folder), ("cache.folder", str(folder))]
    with file_errors(places), Progress(console=console, transient=True) as bar:
        task = bar.add_task("testing answers", total=None)
        result = score_study(
            open_existing(tracking),
            options.study,
            folder,
            isolated=options.sandbox == "bubblewrap",
            progress=lambda done, total: bar.update(task, completed=done, total=total),
            busy=lambda path: bar.console.print(
                "a sweep is measuring on this machine"
                f" ({escape(shlex.quote(str(path)))}); waiting for it to end",
                soft_wrap=True,
            ),
        )
    for label, (solved, scored) in result.solved.items():
        share = f"{100 * solved / scored:.1f} %" if scored else "none could be scored"
        console.print(f"{escape(label)}: {solved} of {scored} answers pass ({share})")
    if result.skipped:
        console.print(f"{result.skipped} trials had scores already, or have no tests")
    left = [(f"task {task}", why) for task, why in result.refused.items()]
    left += [(f"run {run_id}", why) for run_id, why in result.left.items()]
    for name, why in left:
        line = f"[yellow]not scored[/] {escape(name)}: {escape(why)}"
        console.print(line, highlight=False, soft_wrap=True)
    return 1 if result.left else 0
