"""The verb `ui`: serve the MLflow UI of a local store, on loopback only."""

from __future__ import annotations

import argparse
import os
import sys

from slm_energy.cli import key_help
from slm_energy.cli.console import terminal
from slm_energy.cli.words import add_words, overrides
from slm_energy.config.check import checked, tracking_group
from slm_energy.config.compose import compose
from slm_energy.config.options import UiOptions

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
    """Become the UI's server; a store on an MLflow server has a UI already."""
    from slm_energy.store.access import is_server
    from slm_energy.store.connection import ui_command
    from slm_energy.store.tracking import Store

    composed = compose("ui", overrides(arguments))
    tracking, console = tracking_group(composed), terminal()
    port = checked(UiOptions, composed, "ui").port
    if tracking.uri is not None and is_server(tracking.uri):
        console.print(f"this store has its own UI: {tracking.uri}", soft_wrap=True)
        return 0
    Store(tracking)
    command, environment = ui_command(tracking, port)
    console.print(f"MLflow UI on http://127.0.0.1:{port} (Ctrl-C ends it)", soft_wrap=True)
    sys.stdout.flush()
    # The server replaces this process, so that no signal leaves it behind.
    os.execve(command[0], command, environment)
