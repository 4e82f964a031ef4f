"""How a worker is started in this or another Python, and how another one describes its engines.

A worker runs this package's files, also where its interpreter has another copy installed. One in
another environment gets nothing else that the sweep has on its path.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from slm_energy import redaction, source_code
from slm_energy.cell import Settings
from slm_energy.devices import nvidia
from slm_energy.engines.describe import Description
from slm_energy.errors import ConfigError, one_line
from slm_energy.scratch import scratch
from slm_energy.serialization import convert, to_plain

_PATIENCE_S = 120.0
_VARIABLES = {"NVIDIA_TF32_OVERRIDE": "0", **nvidia.ORDER}
"""`provider.device` and CUDA_VISIBLE_DEVICES mean the same GPUs for CUDA as for the meters; and
float32 is float32 for every engine: torch computes its products in full, while CUDA's libraries
round them to TF32 (10 bits of mantissa) for onnxruntime, TensorRT and llama.cpp by default."""

# Runs in an interpreter that may be old and bare, so it first reports what is missing there.
_DESCRIBE = """
import sys
from importlib.util import find_spec
if sys.version_info < (3, 11):
    sys.exit("it is Python %d.%d, and 3.11 is the oldest that can" % sys.version_info[:2])
missing = [name for name in ("numpy", "tokenizers") if find_spec(name) is None]
if missing:
    sys.exit("install what it lacks: %s -m pip install %s" % (sys.executable, " ".join(missing)))
from slm_energy.worker.__main__ import main
sys.exit(main(["describe"]))
"""


def command(
    python: str | None, arguments: Sequence[str], folder: Path, env: Sequence[str] = ()
) -> tuple[list[str], dict[str, str]]:
    """How to start `slm_energy.worker` in an interpreter.

    Args:
        python: the interpreter's path; None for this one.
        arguments: the worker's.
        folder: an existing one that outlives the process.
        env: `engine.env`.

    Returns:
        The command and its environment variables.
    """
    variables = redaction.inherited(env)
    inherited = variables.get("PYTHONPATH") if python is None else None
    variables |= source_code.on_path(folder, inherited)
    # -P keeps the current folder off the path: a file named json.py there is not the library.
    words = [python or sys.executable, "-P", "-m", "slm_energy.worker", *arguments]
    return words, variables | _VARIABLES


def ask(python: str, about: Sequence[Settings]) -> list[Description]:
    """Describe cells in another interpreter; one process for all of them.

    Args:
        python: the interpreter's path.
        about: settings of the cells.

    Raises:
        ConfigError: a worker cannot start in it.
    """
    passed = [name for settings in about for name in settings.engine.env]
    with scratch() as folder:
        variables = {
            **redaction.inherited(passed),
            **source_code.on_path(folder),
            "PYTHONSAFEPATH": "1",
        }
        try:
            answer = subprocess.run(
                [python, "-c", _DESCRIBE],
                # Python before 3.11 rejects -P, and could not report that it is too old.
                env=variables,
                input=json.dumps(to_plain(about)),
                capture_output=True,
                text=True,
                timeout=_PATIENCE_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ConfigError(f"engine.python={python} cannot be run: {one_line(error)}") from error
    if answer.returncode != 0:
        last = (answer.stderr.strip().splitlines() or ["it printed nothing"])[-1]
        raise ConfigError(
            f"engine.python={python}: a worker does not start in it: {one_line(last)}"
        )
    descriptions: list[Description] = [
        convert(Description, row, "description") for row in json.loads(answer.stdout)
    ]
    return descriptions
