"""The verb `ui`: serve the MLflow UI of a local store, on loopback only."""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import sys
import time
import webbrowser
from pathlib import Path
from typing import NoReturn

from slm_energy.cli import key_help
from slm_energy.cli.console import terminal
from slm_energy.cli.words import add_words, overrides
from slm_energy.config.check import checked, tracking_group
from slm_energy.config.compose import compose
from slm_energy.config.options import UiOptions
from slm_energy.errors import ConfigError

_SHOWN = 10
"""At most so many studies are printed, those that changed last."""

_TRIES = 120
"""Half seconds until a server that has not answered never will."""

SUMMARY = "browse the runs in the MLflow UI"


def configure(parser: argparse.ArgumentParser) -> None:
    """KEY=VALUE words only."""
    add_words(parser)
    examples = (
        ("slm-energy ui open=true", "the store in mlruns, in the browser"),
        ("slm-energy ui tracking.folder=DIR port=5001", "another store, another port"),
    )
    parser.epilog = key_help.help_text(examples, ("ui", "tracking"))


def run(arguments: argparse.Namespace) -> int:
    """Print where studies are, and become the UI's server; an MLflow server has a UI already.

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
    options = checked(UiOptions, composed, "ui")
    store = open_existing(tracking)
    server, port = f"http://127.0.0.1:{options.port}", options.port
    if runs_already := tracking.uri is not None and is_server(tracking.uri):
        server = str(tracking.uri).rstrip("/")
        title = f"this store has its own UI: {server}"
    else:
        if store.writable and tracking.uri is None:
            relocate(Path(tracking.folder).absolute())
        _check_free(port)
        title = f"MLflow UI on {server} (Ctrl-C ends it)"
    console.print(title, soft_wrap=True)
    shown = {study: address(server, id_) for study, id_ in list(store.studies().items())[:_SHOWN]}
    for study, place in shown.items():
        console.print(f"  {study}: {place}", soft_wrap=True, highlight=False, markup=False)
    sys.stdout.flush()
    place = next(iter(shown.values()), server)
    if runs_already:
        if options.open:
            webbrowser.open(place)
        return 0
    command, environment = ui_command(tracking, port)
    if options.open and os.fork() == 0:
        _open_once_served(place, port)
    # The server replaces this process, so that no signal leaves it behind.
    os.execve(command[0], command, environment)


def _open_once_served(place: str, port: int) -> NoReturn:
    """In a process of its own, because the server replaces the other one."""
    for _ in range(_TRIES):
        time.sleep(0.5)
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            webbrowser.open(place)
            break
    os._exit(0)


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            reason = error.strerror or error
            raise ConfigError(f"port={port} cannot be used ({reason}): set port=NUMBER") from error
