"""The verb `doctor`: can this machine measure, and if not, what would make it?"""

from __future__ import annotations

import argparse
import sys

from rich.console import Console

from slm_energy.cli import key_help
from slm_energy.cli.console import terminal
from slm_energy.cli.words import add_hydra, hydra_words
from slm_energy.config.compose import compose_grid
from slm_energy.scratch import scratch
from slm_energy.serialization import readable

SUMMARY = "check whether this machine can measure (exit code 1 if a check fails)"


def configure(parser: argparse.ArgumentParser) -> None:
    """The same words as `run` has, and `--json`."""
    add_hydra(parser)
    parser.add_argument("--json", action="store_true", help="print the diagnosis for programs")
    examples = (
        ("slm-energy doctor", "sensors, their update periods, and what disturbs them"),
        ("slm-energy doctor measurement=strict --json", "a missing sensor is a failure"),
    )
    parser.epilog = key_help.help_text(examples, ("measurement", "tracking"))


def run(arguments: argparse.Namespace) -> int:
    """Look at everything and print it; 1 if a check failed."""
    from slm_energy import doctor

    configs = compose_grid(hydra_words(arguments))
    if not configs:
        return 0
    stderr = Console(stderr=True)
    with scratch() as folder, stderr.status("looking ..."):
        providers = {config.provider.name for config in configs}
        diagnosis = doctor.examine(configs[0], folder, providers)
    if arguments.json:
        sys.stdout.write(readable(diagnosis.to_json()))
    else:
        doctor.show(diagnosis, terminal())
    return diagnosis.exit_code
