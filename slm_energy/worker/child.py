"""A worker process seen from its parent: start it, wait for its output and its end, report that.

    run     spawn a fresh interpreter, and watch it
    watch   the same for a worker that is started in another way (`forkserver.py`)

Whatever it does (raise, hang, vanish, exit without output), the outcome is one line: a `Failure`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import re
import resource
import select
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from slm_energy import memory_limit, sigint, source_code
from slm_energy.memory_limit import RAISE, SMALLER, MemoryLimit
from slm_energy.worker import interpreters

LOG_FILE = "worker.log"
_TICK_S = 1.0
_EXIT_GRACE_S = 60.0  # runtimes take seconds to shut down, many on a busy machine

ReportPhase = Callable[[str, float], None]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Worker:
    """A running worker process.

    Attributes:
        pid: its process id, and that of its group.
        handle: descriptor that can be read from when it has ended (pidfd); ours to close.
        reap: wait for it once it has ended, and free its process id. Returns its exit code,
            negative for a signal, and the most memory it had in bytes, None if unknown.
    """

    pid: int
    handle: int
    reap: Callable[[], tuple[int, int | None]]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """How a worker failed.

    Attributes:
        why: one line.
        permanent: another try would fail in the same way (`SlmEnergyError.permanent`).
    """

    why: str
    permanent: bool = False


Start = Callable[[int, int], Worker]
"""Start a worker in a session of its own with these two descriptors as its output and its log."""


def run(
    mode: str,
    python: str | None,
    folder: Path,
    exchange: Path,
    timeout_s: float,
    progress: ReportPhase,
    on_start: Callable[[int], None] = lambda pid: None,
    env: Sequence[str] = (),
) -> Failure | None:
    """Run the worker module in a fresh interpreter to its end.

    Args:
        mode: the worker's mode.
        python: path of the interpreter; None for this one.
        folder: gets its log.
        exchange: folder of its input and output files.
        timeout_s: it is ended when it reports no progress for this long.
        progress: called about once a second with the phase and the share of it that is done.
        on_start: called with its process id.
        env: `engine.env`.

    Returns:
        None if it did not fail.
    """
    command, variables = interpreters.command(python, [mode, str(exchange)], exchange, env)

    def spawn(output: int, log: int) -> Worker:
        child = None
        try:
            with sigint.withheld():
                child = subprocess.Popen(
                    command,
                    env=variables,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=log,
                    start_new_session=True,
                )
        except KeyboardInterrupt:  # one that was withheld
            if child is not None:
                child.kill()
                child.wait()
            raise
        return Worker(
            pid=child.pid, handle=os.pidfd_open(child.pid), reap=functools.partial(_reap, child)
        )

    return watch(spawn, folder, timeout_s, progress, on_start)


def watch(
    start: Start,
    folder: Path,
    timeout_s: float,
    progress: ReportPhase,
    on_start: Callable[[int], None] = lambda pid: None,
) -> Failure | None:
    """Start a worker and watch it to its end; see `run`."""
    kills, limits = memory_kills(), memory_limit.read()
    reading, writing = os.pipe()
    with open(reading, "rb", buffering=0) as pipe:
        with open(writing, "wb") as output, (folder / LOG_FILE).open("ab") as log:
            worker = start(output.fileno(), log.fileno())
        patience_s = 0.0
        try:
            on_start(worker.pid)
            failure, in_time = _listen(pipe.fileno(), timeout_s, progress)
            patience_s = _EXIT_GRACE_S if in_time else 0.0
        finally:
            pipe.close()  # so that a worker that is still writing does not wait for a reader
            by_itself, code, peak_bytes = _end(worker, patience_s)
    if failure is not None:
        return failure
    if not in_time:
        return Failure(why=f"made no progress for study.timeout_s={timeout_s:g} and was ended")
    if not by_itself:
        why = f"the worker did not exit within {_EXIT_GRACE_S:g} s of its result and was ended"
        return Failure(why=why)
    reached = memory_limit.read().reached_since(limits)
    ended = exit_error(code, peak_bytes, kills, memory_kills(), reached)
    return None if ended is None else Failure(why=ended)


def memory_kills(vmstat: Path = Path("/proc/vmstat")) -> int | None:
    """How many processes the kernel has killed for lack of memory, in all control groups.

    Source: `count_vm_event(OOM_KILL)` in Linux's mm/oom_kill.c.

    Returns:
        None if this kernel does not count them.
    """
    try:
        count = re.search(r"^oom_kill (\d+)$", vmstat.read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        return None
    return int(count[1]) if count else None


def exit_error(
    code: int,
    peak_bytes: int | None,
    before: int | None,
    after: int | None,
    reached: MemoryLimit | None = None,
) -> str | None:
    """How a worker that left no message ended, in one line; None if it ended well.

    Args:
        code: its exit code; negative for a signal.
        peak_bytes: the most memory that it had; None if unknown.
        before: `memory_kills` when it started.
        after: `memory_kills` when it had ended.
        reached: the memory limit that was in the way meanwhile; None if none is known to be.
    """
    if code == 0:
        return None
    if code > 0:
        return f"the worker ended with exit code {code} and no message"
    killed = f"the worker was killed by {signal.Signals(-code).name}"
    if -code != signal.SIGKILL:
        return killed
    peak = "" if peak_bytes is None else f"; it had used up to {peak_bytes / 1e9:.1f} GB"
    if before is None or after is None:
        return f"{killed}: the system may have run out of memory{peak}"
    if after == before:
        return f"{killed}, not by the kernel: it has killed no process for lack of memory{peak}"
    if reached is None:
        return f"out of memory: the kernel killed the worker (SIGKILL){peak}; {SMALLER}"
    return (
        f"out of memory: the control group {reached.folder} allows"
        f" {reached.limit_bytes / 1e9:.1f} GB, and the kernel killed the worker (SIGKILL){peak};"
        f" {RAISE}, or {SMALLER}"
    )


def _listen(pipe: int, timeout_s: float, progress: ReportPhase) -> tuple[Failure | None, bool]:
    """Read progress until the worker closes its end of the pipe, or is silent for too long.

    Returns:
        The error that it reported, if any, or how its code differs from ours; and whether it ended
        in time, False also where it must be ended because of its code.
    """
    pending, failure, same_code = b"", None, False
    phase, share = "start", 0.0
    heard = time.monotonic()
    while time.monotonic() < heard + timeout_s:
        ready, _, _ = select.select([pipe], [], [], _TICK_S)
        if ready:
            data = os.read(pipe, 65536)
            if not data:
                return failure, True
            heard = time.monotonic()
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                message: dict[str, Any] = json.loads(line)
                if not same_code and (differs := _difference(message)):
                    return Failure(why=differs), False
                same_code = True
                if "error" in message:
                    failure = Failure(
                        why=message["error"], permanent=message.get("permanent", False)
                    )
                phase, share = message.get("phase", phase), message.get("share", share)
        progress(phase, share)
    return failure, False


def _difference(first: dict[str, Any]) -> str | None:
    """How a worker's code differs from ours, by its first message; None if it does not."""
    differs = source_code.difference(first.get("code"), first.get("package"))
    return None if differs is None else f"the worker was ended: {differs}"


def _end(worker: Worker, patience_s: float) -> tuple[bool, int, int | None]:
    """Wait for the worker to exit, kill it if it does not, and then the rest of its group.

    Returns:
        Whether it exited by itself; its exit code; and the most memory it had, in bytes, or None.
    """
    try:
        ended, _, _ = select.select([worker.handle], [], [], patience_s)
    finally:
        os.close(worker.handle)
    # Before the worker is waited for: until then its process id cannot be reused.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(worker.pid, signal.SIGKILL)
    return bool(ended), *worker.reap()


def _reap(child: subprocess.Popen[bytes]) -> tuple[int, int | None]:
    """Wait for a spawned worker.

    A child's peak starts at its parent's when it was forked (setmax_mm_hiwater_rss in Linux's
    exec.c), so one that is no more than ours says nothing.
    """
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    ours = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return child.returncode, usage.ru_maxrss * 1024 if usage.ru_maxrss > ours else None
