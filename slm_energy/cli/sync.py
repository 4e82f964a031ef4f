"""The verb `sync`: send records that wait on disk to the store."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from slm_energy.cli import exit_codes, key_help
from slm_energy.cli.console import shell_path, terminal
from slm_energy.cli.words import is_override
from slm_energy.config.check import tracking_group
from slm_energy.config.compose import compose
from slm_energy.errors import ConfigError
from slm_energy.places import file_errors

if TYPE_CHECKING:
    from slm_energy.store.sync import Delivered

SUMMARY = "send records that wait on disk to the store"


def configure(parser: argparse.ArgumentParser) -> None:
    """A folder, and KEY=VALUE words."""
    parser.usage = "%(prog)s [FOLDER] [KEY=VALUE ...]"
    parser.add_argument(
        "words",
        nargs="*",
        metavar="WORD",
        help="FOLDER has the records (default: tracking.folder), which are removed once the store"
        " has them; KEY=VALUE names the store",
    )
    examples = (
        ("slm-energy sync", "records that could not be sent when they were made"),
        (
            "slm-energy sync FOLDER tracking=server tracking.uri=URI",
            "records of tracking=offline, or a copy of them from another machine",
        ),
    )
    parser.epilog = key_help.help_text(examples, ("tracking",))


def run(arguments: argparse.Namespace) -> int:
    """Send the records; 1 if some cannot be sent at all, 3 if the store did not take them.

    Raises:
        ConfigError: there is no such folder, or `tracking` is not valid.
        TrackingError: the store cannot be opened.
    """
    from slm_energy.machine import machine_id, measuring
    from slm_energy.store.sync import deliver_below
    from slm_energy.store.tracking import Store

    changes = [word for word in arguments.words if is_override(word)]
    folders = [word for word in arguments.words if not is_override(word)]
    if len(folders) > 1:
        raise ConfigError("give one folder: slm-energy sync [FOLDER] [KEY=VALUE ...]")
    tracking, console = tracking_group(compose("sync", changes)), terminal()
    folder = Path(folders[0] if folders else tracking.folder).absolute()
    if not folder.is_dir():
        raise ConfigError(f"sync {shell_path(folder)}: there is no such folder")

    def waiting(path: Path) -> None:
        lock = escape(shell_path(path))
        line = f"a sweep is measuring on this machine ({lock}); waiting for it to end"
        console.print(line, soft_wrap=True, highlight=False)

    places = [("tracking.folder", tracking.folder)]
    with file_errors(places), measuring(waiting), console.status("looking ...") as status:
        store = Store(tracking)
        delivered = deliver_below(
            folder, store, lambda sent, of: status.update(f"{sent} of {of} records sent ...")
        )
        _show(delivered, folder, console)
        if not delivered.refused:
            store.close_left(None, machine_id())
    if delivered.left:
        return exit_codes.FAILED
    return exit_codes.UNSENT if delivered.refused else exit_codes.GOOD


def _show(delivered: Delivered, folder: Path, console: Console) -> None:
    for study in sorted({*delivered.sent, *delivered.refused}):
        refusal = delivered.refused.get(study)
        rest = "" if refusal is None else f"; the rest waits: {refusal}"
        line = f"study {study}: {delivered.sent[study]} records sent{rest}"
        console.print(escape(line), highlight=False, soft_wrap=True)
    for path, why in delivered.left.items():
        line = f"[yellow]left alone[/] {escape(shell_path(path))}: {escape(why)}"
        console.print(line, highlight=False, soft_wrap=True)
    if not (delivered.sent or delivered.refused or delivered.left):
        line = f"nothing is pending below {shell_path(folder)}"
        console.print(escape(line), highlight=False, soft_wrap=True)
