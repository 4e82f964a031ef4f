"""Runs a server for as long as its user lives: `python supervise.py USER_PID COMMAND ...`.

A server may start further processes, and its user may be killed without notice. This small process
stands between them: when its parent dies or it receives SIGTERM, it sends the server SIGTERM, and
SIGKILL after a grace period; when the server has ended, it kills the server's descendants.
It exits with the server's code, with 128 + N for signal N, as shells do.

Run as a file, with the standard library only: `python -I -S supervise.py`.
"""

import ctypes
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_GRACE_S = 5.0
_TICK_S = 0.02
_WATCHED = {signal.SIGTERM, signal.SIGCHLD}


def main(user_pid: int, command: Sequence[str]) -> int:
    """Run the command until it or the user ends; return its exit code."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    # Orphaned descendants become our children, so that none escapes.
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
    if os.getppid() != user_pid:  # it died before the first line of this function
        return 0
    try:
        server = subprocess.Popen(command, preexec_fn=_as_server)
    except OSError as error:
        print(f"{command[0]} cannot be started: {error}", file=sys.stderr)
        return 127
    code, deadline_s = None, math.inf
    while code is None and time.monotonic() < deadline_s:
        received = signal.sigtimedwait(_WATCHED, _GRACE_S)
        if received is not None and received.si_signo == signal.SIGTERM:
            server.terminate()
            deadline_s = time.monotonic() + _GRACE_S
        code = _reap(server.pid)
    _kill_all()
    return code or 0


def _as_server() -> None:
    """Prepare the server's process before the server's program runs in it."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _WATCHED)
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _reap(server_pid: int) -> int | None:
    """Reap ended children; return the server's exit code if it is among them."""
    code = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return code
        if pid == 0:
            return code
        if pid == server_pid:
            exit_code = os.waitstatus_to_exitcode(status)
            code = exit_code if exit_code >= 0 else 128 - exit_code


def _kill_all() -> None:
    """Kill remaining descendants generation by generation: orphans become our children."""
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            for child in _children():
                os.kill(child, signal.SIGKILL)
            time.sleep(_TICK_S)


def _children() -> list[int]:
    """Return the child processes. They cannot vanish before they are reaped."""
    pids = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                stat = (process / "stat").read_text(encoding="utf-8", errors="replace")
            except OSError:  # not a child, and ended meanwhile
                continue
            # The name in parentheses may contain anything; state and parent follow it.
            if int(stat.rpartition(")")[2].split()[1]) == os.getpid():
                pids.append(int(process.name))
    return pids


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}) failed")


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
