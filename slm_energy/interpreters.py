"""Which Python runs a worker, and what it can tell of its engines.

A worker in another environment needs that environment's libraries and this package's files, nothing
that the sweep itself needs: the package is put on its path through a folder that holds only it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from slm_energy.cell import Settings
from slm_energy.errors import ConfigError, one_line
from slm_energy.plain import convert, to_plain

_PACKAGE = Path(__file__).parent
_PATIENCE_S = 120.0


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Description:
    """What an engine says of a cell, in the environment where it would run.

    Attributes:
        versions: of the packages that can change a result.
        unsupported: why the cell cannot run there, or None.
    """

    versions: dict[str, str]
    unsupported: str | None


def command(
    python: str | None, words: Sequence[str], place: Path
) -> tuple[list[str], dict[str, str]]:
    """How to start `slm_energy.worker` in an interpreter.

    Args:
        python: the interpreter's path; None is this one.
        words: the worker's arguments.
        place: an existing folder that outlives the process.

    Returns:
        The command and its environment variables.
    """
    if python is None:
        return [sys.executable, "-m", "slm_energy.worker", *words], dict(os.environ)
    alone = place / "package"
    alone.mkdir(exist_ok=True)
    link = alone / _PACKAGE.name
    if not link.exists():
        link.symlink_to(_PACKAGE)
    return [python, "-m", "slm_energy.worker", *words], {**os.environ, "PYTHONPATH": str(alone)}


def describe(python: str, asked: Sequence[Settings]) -> list[Description]:
    """Ask another interpreter about cells; one process for all of them.

    Raises:
        ConfigError: there is no such interpreter, or a worker does not start in it.
    """
    with tempfile.TemporaryDirectory() as folder:
        words, variables = command(python, ["describe"], Path(folder))
        try:
            answer = subprocess.run(
                words,
                env=variables,
                input=json.dumps(to_plain(asked)),
                capture_output=True,
                text=True,
                timeout=_PATIENCE_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ConfigError(f"engine.python={python} cannot be run: {one_line(error)}") from error
    if answer.returncode != 0:
        last = (answer.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise ConfigError(
            f"engine.python={python}: a worker does not start in it: {one_line(last)}"
        )
    found: list[Description] = [
        convert(Description, row, "description") for row in json.loads(answer.stdout)
    ]
    return found
