"""The verb `export`: a study as a package that others can verify and run again."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from rich.markup import escape
from rich.progress import Progress

from slm_energy.cli import key_help
from slm_energy.cli.console import shell_path, terminal
from slm_energy.cli.study import compose_study
from slm_energy.cli.words import add_words, overrides
from slm_energy.config.check import checked, tracking_group
from slm_energy.config.options import ExportOptions
from slm_energy.errors import ConfigError

SUMMARY = "write a study as a package that others can verify"


def configure(parser: argparse.ArgumentParser) -> None:
    """KEY=VALUE words only."""
    add_words(parser)
    examples = (
        (
            "slm-energy export study=demo out=package authors=[Me] data_license=CC-BY-4.0",
            "plan, readings, generations, report and how to check them",
        ),
        (
            "slm-energy export study=demo out=package zip=true anonymize=true"
            " data_license=CC-BY-4.0",
            "one file, for double-blind review",
        ),
    )
    parser.epilog = key_help.help_text(examples, ("export", "analysis", "tracking"))


def run(arguments: argparse.Namespace) -> int:
    """Export, verify what was written, and say what identifies it; 1 if a figure differs.

    Raises:
        ConfigError: an option is not valid, or `out` cannot be written.
        TrackingError: there is no such store or study.
        AnalysisError: the trials allow no report.
    """
    from slm_energy.cli.verify import show
    from slm_energy.replication.export import export
    from slm_energy.replication.verify import verify
    from slm_energy.store.tracking import open_existing

    words = overrides(arguments)
    if any(word.startswith("data=") for word in words):
        raise ConfigError("a table measured elsewhere has no captures to verify: export study=NAME")
    composed = compose_study("export", words)
    del composed["data"], composed["columns"]
    tracking, registration = tracking_group(composed), composed.pop("registration")
    own = {field.name: composed.pop(field.name) for field in dataclasses.fields(ExportOptions)}
    options, console = checked(ExportOptions, own, "export"), terminal()
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("exporting trials", total=None)
        done = export(
            open_existing(tracking),
            options,
            composed,
            Path(tracking.folder).absolute() / "pending",
            registration=None if registration is None else Path(registration),
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
        bar.update(task, description="verifying trials", completed=0)
        verified = verify(
            done.place, lambda done, total: bar.update(task, completed=done, total=total)
        )
    lines = [f"package: {escape(shell_path(str(done.place)))}"]
    if done.replaced is not None:
        path = escape(shell_path(str(done.replaced)))
        lines.append(f"what was replaced in it, for you alone: {path}")
    for line in (*lines, *(f"[yellow]{escape(change)}[/]" for change in done.changes)):
        console.print(line, highlight=False, soft_wrap=True)
    return show(verified, console)
