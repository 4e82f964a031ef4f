"""The verb `verify`: everything that a package states, computed again from its readings."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

from slm_energy.cli import exit_codes, key_help
from slm_energy.cli.console import terminal
from slm_energy.errors import ConfigError

if TYPE_CHECKING:
    from slm_energy.replication.verify import Verification

SUMMARY = "compute again all that a package of export states"

_MOST_SHOWN = 40


def configure(parser: argparse.ArgumentParser) -> None:
    """One folder or zip."""
    parser.usage = "%(prog)s PACKAGE [--digest SHA256]"
    parser.add_argument("package", metavar="PACKAGE", help="folder or zip that export wrote")
    parser.add_argument(
        "--digest",
        metavar="SHA256",
        help="digest of the package as published: proves that it is that very package",
    )
    examples = (
        ("slm-energy verify package", "exit code 1 if anything differs"),
        ("slm-energy verify package.zip --digest SHA256", "and it is the one that was published"),
    )
    parser.epilog = key_help.help_text(examples, note="verify reads no keys.")


def run(arguments: argparse.Namespace) -> int:
    """Verify and print; 1 if anything differs.

    Raises:
        ConfigError: it is no package, or one of a newer version, or `--digest` is none.
    """
    from slm_energy.replication.verify import verify

    published = arguments.digest and arguments.digest.lower()
    if published and not re.fullmatch("[0-9a-f]{64}", published):
        raise ConfigError(f"--digest {published}: all 64 hexadecimal digits, as export prints them")
    console = terminal()
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("verifying trials", total=None)
        verified = verify(
            Path(arguments.package),
            lambda done, total: bar.update(task, completed=done, total=total),
        )
    code = show(verified, console)
    if published and verified.digest != published:
        console.print(
            f"[red]not the published package[/]: --digest {escape(published)} is not its digest",
            highlight=False,
            soft_wrap=True,
        )
        return exit_codes.FAILED
    return code


def show(verified: Verification, console: Console) -> int:
    """Print a verification; return the exit code."""

    def say(line: str) -> None:
        console.print(line, highlight=False, soft_wrap=True)

    for each in verified.differences[:_MOST_SHOWN]:
        place = f"{each.file}: {each.where}" if each.where else each.file
        say(
            f"[red]differs[/] {escape(place)}\n  stated   {escape(each.claimed)}\n"
            f"  found    {escape(each.found)}\n  because  {escape(each.why)}"
        )
    if len(verified.differences) > _MOST_SHOWN:
        say(f"... and {len(verified.differences) - _MOST_SHOWN} more differences")
    say(f"study {escape(verified.study)}, made with {escape(verified.made_with)}")
    say(
        f"{verified.trials} trials computed again from their readings; {verified.recomputed} files"
        f" made again, {verified.files} files in all"
    )
    say(f"digest {verified.digest}")
    if verified.differences:
        say(f"[red]not verified[/]: {len(verified.differences)} differences")
        return exit_codes.FAILED
    say("[green]verified[/]: everything is as stated")
    return exit_codes.GOOD
