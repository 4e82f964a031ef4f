"""The command line in processes forked from one that has imported it, which saves seconds each.

That one is multiprocessing's fork server: unlike this process, it has no threads.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from slm_energy import machine
from slm_energy.__main__ import main
from slm_energy.testing import CONF
from tests.conftest import QUICK

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [
        "__main__",
        "tests.forked",
        "alembic.command",
        "hydra",
        "mlflow.store.tracking.sqlalchemy_store",
        "pandas",
        "scipy.stats",
        "slm_energy.analysis.render.files",
        "slm_energy.planning.grid",
        "slm_energy.running.report",
        "slm_energy.running.sweep",
    ]
)


class Sweep:
    """A sweep on the scripted engine that runs beside the test."""

    def __init__(self, folder: Path, *words: str, output: int | None = None) -> None:
        """Start it in a session of its own, as a terminal does.

        Args:
            folder: where it works.
            words: further ones of its command line.
            output: the descriptor to print to, errors too; None keeps what it prints.
        """
        asked = ["--config-dir", str(CONF), "engine=scripted", *QUICK, *words]
        printed, name = tempfile.mkstemp(prefix="sweep-")
        self._printed = Path(name)
        if output is not None:
            os.dup2(output, printed)
        to = Connection(printed, readable=False)
        arguments = (asked, folder, dict(os.environ), to, output is not None)
        self._process = _CONTEXT.Process(target=_become, args=arguments)
        # The server starts with the first one: neither it nor its socket may be in a test's folder.
        with contextlib.chdir("/"), pytest.MonkeyPatch.context() as patch:
            patch.setattr(tempfile, "tempdir", "/tmp")
            self._process.start()
        to.close()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()

    def ended(self, timeout: float = 300) -> tuple[int, str]:
        """Its exit code, negative for a signal, and what it has printed."""
        self._process.join(timeout)
        code = self._process.exitcode
        if code is None:
            self.kill()
        text = self._printed.read_text()
        if code is None:
            raise TimeoutError(text)
        return code, text


def _become(
    words: list[str], folder: Path, variables: Mapping[str, str], to: Connection, errors: bool
) -> None:
    os.setsid()
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may have been started with nohup
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables)
    tempfile.tempdir = None
    machine.LOCK_FOLDERS = (Path(tempfile.gettempdir()),)
    for number in (1, 2) if errors else (1,):
        os.dup2(to.fileno(), number)
    to.close()
    sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
    sys.argv = ["slm-energy", *words]
    main()
