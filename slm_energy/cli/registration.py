"""What `plan --register FILE` adds to the verb `plan`: declare a study before its first trial."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from slm_energy.config.compose import compose
from slm_energy.config.options import AnalysisOptions, ReportFiles
from slm_energy.errors import ConfigError
from slm_energy.escape import shell_override

if TYPE_CHECKING:
    from slm_energy.planning.grid import Grid
    from slm_energy.planning.plan import Plan


def analysis_words(arguments: argparse.Namespace) -> list[str]:
    """Take the report's keys out of the words, which leaves those of the plan.

    Raises:
        ConfigError: there are hypotheses and no file to write them to.
    """
    if arguments.register is None:
        if arguments.hypothesis:
            raise ConfigError("--hypothesis TEXT belongs to --register FILE")
        return []
    keys = {field.name for field in dataclasses.fields(AnalysisOptions)} - {"study", "machine"}
    words = [word for word in arguments.words if word.partition("=")[0] in keys]
    arguments.words = [word for word in arguments.words if word not in words]
    return words


def write(
    arguments: argparse.Namespace, words: list[str], grid: Grid, plan: Plan, console: Console
) -> None:
    """Write the registration to a new file, and print its digest.

    Raises:
        ConfigError: a key of the report is not valid, or the file exists or cannot be written.
    """
    from slm_energy.analysis import options
    from slm_energy.analysis.registration import register, to_text
    from slm_energy.running.resume import frozen, machine_of

    composed = compose("analysis", ["study=null", *words], keys=["study"])
    for key in ("tracking", "columns", *(field.name for field in dataclasses.fields(ReportFiles))):
        del composed[key]
    registration = register(
        plan,
        frozen(grid),
        options(composed | {"study": plan.study.name}),
        machine=machine_of(grid.config),
        registered=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        stated=arguments.hypothesis,
    )
    file = Path(arguments.register)
    try:
        with file.open("x", encoding="utf-8") as opened:
            opened.write(to_text(registration))
    except FileExistsError:
        raise ConfigError(
            f"--register {file}: it exists, and a registration is never changed; name another file"
        ) from None
    except OSError as error:
        raise ConfigError(f"--register {file}: {error.strerror or error}") from error
    if registration.trials_before:
        console.print(
            f"[yellow]not in advance[/]: {registration.trials_before} trials of this study have"
            " been run",
            soft_wrap=True,
        )
    console.print(
        f"registered in {escape(str(file))}, SHA-256 {registration.digest}", soft_wrap=True
    )
    study = escape(shell_override("study", plan.study.name))
    name = escape(shell_override("registration", str(file)))
    console.print(
        "publish the file or the digest before the first trial; afterwards: slm-energy report"
        f" {study} {name}",
        soft_wrap=True,
        highlight=False,
    )
