"""The verb `calibrate`: how this machine's sources compare with a reference, under known loads."""

from __future__ import annotations

import argparse

from rich.console import Console
from rich.markup import escape

from slm_energy.cli import key_help
from slm_energy.cli.console import shell_path, terminal
from slm_energy.cli.words import add_words, overrides
from slm_energy.config.check import checked, measurement_group
from slm_energy.config.compose import compose
from slm_energy.config.options import CalibrateOptions
from slm_energy.scratch import scratch

SUMMARY = "compare this machine's sources with a wall meter or another source"

_NOTE = (
    "Fits gain, offset and lag of each source, with 95 % intervals. The machine must be idle and"
    " stay so: phases of idling and of load alternate for some minutes. What is fitted is stored"
    " for this machine. From then on every trial's record has it, and the intervals that contain"
    " sensor gain use it."
)


def configure(parser: argparse.ArgumentParser) -> None:
    """KEY=VALUE words only."""
    add_words(parser)
    examples = (
        ("slm-energy calibrate measurement=wall measurement.wall_meter.url=...", "at the wall"),
        ("slm-energy calibrate against=nvml/GPU-.../energy", "against another source's counter"),
    )
    parser.epilog = key_help.help_text(examples, ("calibrate", "measurement"), _NOTE)


def run(arguments: argparse.Namespace) -> int:
    """Calibrate and print; 1 if no source could be fitted.

    Raises:
        ConfigError: a key is not valid, or there is no reference.
        MeterError: the machine is not idle, or its readings do not suffice.
    """
    from slm_energy.doctor.calibrate import calibrate
    from slm_energy.doctor.show_calibration import show

    composed = compose("calibrate", overrides(arguments))
    measurement = measurement_group(composed)
    options = checked(CalibrateOptions, composed, "calibrate")
    stderr, console = Console(stderr=True), terminal()
    with scratch() as folder, stderr.status("is the machine idle?") as status:
        result = calibrate(measurement, options, folder, lambda line: status.update(escape(line)))
    show(result, console)
    if result.file is not None:
        console.print(
            f"stored in {shell_path(result.file)}; remove the file to forget it", soft_wrap=True
        )
    return int(result.file is None)
