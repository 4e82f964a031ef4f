"""One trial seen from the child: prepare or serve as the parent requests, and report progress.

    python -m slm_energy.worker build|prepare|reference|serve FOLDER
    python -m slm_energy.worker template FOLDER
    python -m slm_energy.worker describe < settings.json > descriptions.json

FOLDER holds `trial.json`, `tasks.json` and, where energy is metered, `metering.json`; `serve`
leaves `capture.json` there, and its answers (`served.py`). Three modes fill the cache: `build` with
random weights, `prepare` with what the engine derives from weights, `reference` with the tokens to
compare with. A `template` is forked into workers that serve, for trials like the first one
(`template.py`).

Progress goes to the parent as JSON lines on the original standard output; whatever libraries print
goes to standard error, which the parent keeps as `worker.log`. The worker computes no metric and
knows no MLflow, pandas or Hydra; in another interpreter it needs only numpy, tokenizers and the
engine's libraries.
"""

from __future__ import annotations

import ctypes
import dataclasses
import json
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

from slm_energy import sigint, source_code
from slm_energy.cell import Settings, Trial, served_by
from slm_energy.engines.base import find, load_request_of
from slm_energy.engines.describe import describe
from slm_energy.errors import SlmEnergyError, one_line
from slm_energy.models import source
from slm_energy.places import file_errors
from slm_energy.record import (
    CAPTURE_FILE,
    METERING_FILE,
    TASKS_FILE,
    TRIAL_FILE,
    Metering,
)
from slm_energy.serialization import from_plain, read_json, to_plain, write_json
from slm_energy.tasks import Task
from slm_energy.worker import files, reference, template
from slm_energy.worker.out_of_memory import out_of_memory
from slm_energy.worker.served import REQUESTS_FILE, SERVED_FILE
from slm_energy.worker.serving import serve


def main(arguments: Sequence[str]) -> int:
    """Run one trial, or a preparation for it; return the exit code."""
    if arguments[0] == "describe":
        cells = [from_plain(Settings, row) for row in json.load(sys.stdin)]
        json.dump(to_plain([describe(settings) for settings in cells]), sys.stdout)
        return 0
    mode, folder, isolation = arguments[0], Path(arguments[1]), "spawn"
    source_code.digest()  # a template's forks report the code that it has imported
    _die_with_parent()
    if mode == "template":
        trial_folder = template.forked(read_json(folder / TRIAL_FILE, Trial).cell.settings)
        if trial_folder is None:
            return 0
        mode, folder, isolation = "serve", trial_folder, "forkserver"
        _die_with_parent()
    # An interrupt from the terminal is the parent's to handle.
    sigint.ignore()
    channel = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    if _is_closed(channel):  # the parent died before its death could end this process
        print("the parent has exited", file=sys.stderr)
        return 1
    _send(channel, **source_code.report())
    step = mode

    def report(phase: str, share: float) -> None:
        nonlocal step
        step = phase
        _send(channel, phase=phase, share=share)

    where = ""
    try:
        trial = read_json(folder / TRIAL_FILE, Trial)
        where = _where(mode, trial)
        with file_errors(files.places(trial, folder)):
            _run(mode, isolation, trial, folder, report)
    except Exception as error:
        # Libraries raise a lack of memory as any type, and engines may wrap it in another error.
        no_memory = out_of_memory(error)
        message = no_memory or _message(error, where.format(step=step))
        permanent = isinstance(error, SlmEnergyError) and error.permanent and no_memory is None
        _send(channel, error=message, permanent=permanent)
        traceback.print_exc()
        return 1
    return 0


def _run(
    mode: str, isolation: str, trial: Trial, folder: Path, report: Callable[[str, float], None]
) -> None:
    if mode == "build":
        source.build(trial.cell.settings.model, Path(trial.cache_path))
    elif mode == "prepare":
        find(trial.cell.settings.engine.name).prepare(load_request_of(trial))
    elif mode == "reference":
        reference.make(trial, lambda share: report("reference", share))
    else:
        tasks = json.loads((folder / TASKS_FILE).read_text(encoding="utf-8"))
        metered = folder / METERING_FILE
        capture, served = serve(
            trial,
            [from_plain(Task, task) for task in tasks],
            read_json(metered, Metering) if metered.exists() else None,
            report,
            folder / SERVED_FILE,
        )
        write_json(folder / REQUESTS_FILE, served)
        environment = capture.environment | {"isolation": isolation}
        write_json(folder / CAPTURE_FILE, dataclasses.replace(capture, environment=environment))


def _where(mode: str, trial: Trial) -> str:
    """What precedes an error that is not ours: the engine and, as `{step}`, what it was doing.

    The parent adds the mode to what precedes a trial, and the engine to a reference.
    """
    if mode in ("build", "reference"):
        return ""
    name = f"engine {served_by(trial.cell.settings)}"
    return f"{name}: " if mode == "prepare" else f"{name} failed in {{step}}: "


def _message(error: Exception, where: str) -> str:
    if isinstance(error, SlmEnergyError):
        return str(error)
    return f"{where}{type(error).__name__}: {one_line(error)}"


def _send(channel: TextIO, **message: str | float) -> None:
    channel.write(json.dumps(message) + "\n")


def _die_with_parent() -> None:
    """Have the kernel end this process when the parent dies, so that none is left behind."""
    pr_set_pdeathsig = 1
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(pr_set_pdeathsig, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")


def _is_closed(channel: TextIO) -> bool:
    """Whether the other end of a pipe is closed."""
    poll = select.poll()
    poll.register(channel, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
