"""The verb `ui`: serve the MLflow UI of a local store, on loopback only."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from pathlib import Path

from slm_energy.cli import key_help
from slm_energy.cli.console import terminal
from slm_energy.cli.words import add_words, overrides
from slm_energy.config.check import checked, tracking_group
from slm_energy.config.compose import compose
from slm_energy.config.options import UiOptions
from slm_energy.errors import ConfigError

_SHOWN = 10
"""At most so many studies are printed, those that changed last."""

SUMMARY = "browse the runs in the MLflow UI"


def configure(parser: argparse.ArgumentParser) -> None:
    """KEY=VALUE words only."""
    add_words(parser)
    examples = (
        ("slm-energy ui", "the store in mlruns, on http://127.0.0.1:5000"),
        ("slm-energy ui tracking.folder=DIR port=5001", "another store, another port"),
    )
    parser.epilog = key_help.help_text(examples, ("ui", "tracking"))


def run(arguments: argparse.Namespace) -> int:
    """Become the UI's server; a store on an MLflow server has a UI already.

    Raises:
        ConfigError: another process has the port.
        TrackingError: there is no such store.
    """
    from slm_energy.store.access import is_server
    from slm_energy.store.connection import ui_command
    from slm_energy.store.location import relocate
    from slm_energy.store.shared_view import address
    from slm_energy.store.tracking import open_existing

    composed = compose("ui", overrides(arguments))
    tracking, console = tracking_group(composed), terminal()
    port = checked(UiOptions, composed, "ui").port
    if tracking.uri is not None and is_server(tracking.uri):
        console.print(f"this store has its own UI: {tracking.uri}", soft_wrap=True)
        return 0
    store = open_existing(tracking)
    if store.writable and tracking.uri is None:
        relocate(Path(tracking.folder).absolute())
    _check_free(port)
    command, environment = ui_command(tracking, port)
    server = f"http://127.0.0.1:{port}"
    console.print(f"MLflow UI on {server} (Ctrl-C ends it)", soft_wrap=True)
    for study, experiment in list(store.studies().items())[:_SHOWN]:
        line = f"  {study}: {address(server, experiment)}"
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    sys.stdout.flush()
    # The server replaces this process, so that no signal leaves it behind.
    os.execve(command[0], command, environment)


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            reason = error.strerror or error
            raise ConfigError(f"port={port} cannot be used ({reason}): set port=NUMBER") from error
