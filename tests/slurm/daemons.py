"""Programs that run beside a test and end with it, by their process ids."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

_LINES = 12
LONGEST_S = 600
"""Of any step: ten times what the longest takes on two processors that have nothing else to do."""


class Daemons:
    """Started in the foreground of a process each; ended in reverse order."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._running.values()):
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def start(
        self,
        name: str,
        command: Sequence[str | Path],
        ready: Callable[[], bool],
        *,
        env: Mapping[str, str] | None = None,
        user: str | None = None,
    ) -> None:
        """Start a program, and wait until `ready`; what it prints is appended to NAME.log."""
        owner: dict[str, Any] = {} if user is None else {"user": user, "group": user}
        with (self._folder / f"{name}.log").open("ab") as output:
            process = subprocess.Popen(
                command,
                env=env,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                **owner,
            )
        self._running[name] = process
        wait(f"{name} is up", lambda: process.poll() is not None or ready())
        if process.poll() is not None:
            raise SystemExit(f"{name} ended at once:\n{self.logs()}")

    def kill(self, name: str) -> None:
        """End a program without a chance to tell anybody."""
        process = self._running.pop(name)
        process.kill()
        process.wait()

    def logs(self) -> str:
        """The last lines of each log."""
        texts = []
        for log in sorted(self._folder.glob("*.log")):
            lines = log.read_text(errors="replace").splitlines()[-_LINES:]
            texts += [f"--- {log.name}", *lines]
        return "\n".join(texts)


def wait(step: str, done: Callable[[], bool]) -> None:
    """Wait for a step of the test.

    Raises:
        TimeoutError: it did not come in time; the message is the step.
    """
    deadline = time.monotonic() + LONGEST_S
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{step}: not within {LONGEST_S} s")
        time.sleep(0.2)


def free_port() -> int:
    """A port on loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    """Whether somebody takes connections there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
