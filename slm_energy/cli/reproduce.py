"""The verb `reproduce`: the plan of a package on this machine, and what became of its claims."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from slm_energy.cli import exit_codes, key_help
from slm_energy.cli.console import terminal
from slm_energy.cli.run import show_summary
from slm_energy.cli.words import is_override
from slm_energy.config import files
from slm_energy.errors import ConfigError
from slm_energy.places import file_errors

if TYPE_CHECKING:
    from slm_energy.replication.claims import Claim

SUMMARY = "run the plan of a package here, and compare its verdicts one by one"


def configure(parser: argparse.ArgumentParser) -> None:
    """One folder or zip, and KEY=VALUE words."""
    parser.usage = "%(prog)s PACKAGE [KEY=VALUE ...]"
    parser.add_argument(
        "words",
        nargs="*",
        metavar="WORD",
        help="PACKAGE is a folder or zip that export wrote; KEY=VALUE sets a key in all cells,"
        " and engine=A,B (model, provider, workload) takes only these cells",
    )
    examples = (
        ("slm-energy reproduce package", "every cell, as many rounds as in the study"),
        (
            "slm-energy reproduce package.zip engine=torch,onnx study.rounds=3"
            " model.weights=random",
            "a part of it, without a download",
        ),
    )
    parser.epilog = key_help.help_text(examples, ("study", "tracking", "cache"))


def run(arguments: argparse.Namespace) -> int:
    """Run what is to do, then print the claims; 1 if one of them does not hold here.

    Raises:
        SlmEnergyError: it is no package, or the sweep cannot begin or go on.
    """
    from slm_energy.planning.grid import resolve
    from slm_energy.replication import reproduce
    from slm_energy.running import stop_rule, sweep

    packages = [word for word in arguments.words if not is_override(word)]
    if len(packages) != 1:
        raise ConfigError("name one package: slm-energy reproduce PACKAGE [KEY=VALUE ...]")
    console = terminal()
    asked = reproduce.read(
        Path(packages[0]), [word for word in arguments.words if is_override(word)]
    )
    with file_errors(files.places(asked.configs)):
        grid = resolve(asked.configs)
        summary = sweep.run(grid, console, stop_rule.stopping_rule(grid, console))
    show_summary(summary, console)
    if summary.interrupted:
        console.print("interrupted: run the same command again to continue")
        return exit_codes.INTERRUPTED
    return show(asked.claims(grid), console)


def show(claims: tuple[Claim, ...], console: Console) -> int:
    """Print the claims; return the exit code."""
    from slm_energy.analysis.render.tables import Grid
    from slm_energy.analysis.render.terminal import print_grid
    from slm_energy.replication.claims import HOLDS

    if not claims:
        console.print("the study has no verdict that could be reproduced")
        return exit_codes.GOOD
    rows = tuple((each.metric, each.claimed, each.here or "-", each.answer) for each in claims)
    head = ("Metric", "Study", "Here", "Answer")
    print_grid(Grid(title="The verdicts of the study, and here", head=head, rows=rows), console)
    for each in claims:
        console.print(f"- {escape(each.sentence)}", highlight=False, soft_wrap=True)
    counts = Counter(each.answer for each in claims)
    said = ", ".join(f"{count} {answer}" for answer, count in counts.items())
    console.print(f"{len(claims)} verdicts: {said}", highlight=False)
    return exit_codes.GOOD if all(c.answer in HOLDS for c in claims) else exit_codes.FAILED
