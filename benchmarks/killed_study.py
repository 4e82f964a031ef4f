"""A study whose sweeps are killed: start one as some user, strike a process, see what is left.

The program is imported once, and forked at each start: this saves seconds.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import multiprocessing
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

import psutil
import soundness

from slm_energy import machine
from slm_energy.__main__ import main as slm_energy
from slm_energy.testing import CONF

CELLS, ROUNDS = 2, 2
ANN, BOB, LAB = 54321, 54322, 54300
"""Ids of two users, each with a group of the same number, and of a group that both are in."""
FORK = multiprocessing.get_context("fork")
WORDS = """
    -m engine=scripted engine.options.export_s=0.2 measurement.isolation=spawn,forkserver
    measurement=strict measurement.powercap_root=../powercap measurement.target_error=1
    measurement.baseline_s=0 measurement.warmup_requests=0 measurement.serve_s=0.2
    measurement.max_gap_s=30 measurement.limits.foreign_cpu_pct=100
    measurement.limits.steal_pct=100 measurement.limits.throttled_pct=100 workload.limit=3
    workload.new_tokens=4 study.reference=null study.gate.at_most_s=0 study.attempts=40
    study.sandbox=off cache.folder=cache
"""
"""Each trial has a sampler, and half of them a template that forks their workers."""
LONGEST_S = 120.0
_DUMPABLE = (
    4  # PR_SET_DUMPABLE: otherwise a process that has changed its user cannot read its /proc
)


class Place:
    """A folder for studies, their TMPDIR, homes and locks; two users if this is root.

    Attributes:
        folder: holds all of it.
        users: who runs sweeps.
        step_s: by how much the wall clock of sweeps is off; shared with those that run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.users: tuple[int, ...] = (ANN, BOB) if _two_users() else (os.geteuid(),)
        self.step_s = FORK.Value("d", 0.0, lock=False)
        self._shared_before = self._shared_memory()
        folder.chmod(0o755)
        for name in ("tmp", "locks"):
            (folder / name).mkdir()
            (folder / name).chmod(0o1777)
        for user in self.users:
            home = folder / f"home-{user}"
            home.mkdir()
            os.chown(home, user, -1)

    def leftovers(self) -> list[str]:
        """What ended processes have left outside their studies."""
        found = [path for name in ("tmp", "locks") for path in (self.folder / name).iterdir()]
        found = [path for path in found if path != self.folder / "locks" / "slm_energy.lock"]
        return sorted(map(str, found)) + sorted(self._shared_memory() - self._shared_before)

    def _shared_memory(self) -> set[str]:
        """Files of these users in shared memory, where semaphores are too."""
        files = Path("/dev/shm").iterdir()
        return {str(file) for file in files if file.lstat().st_uid in self.users}


class Study:
    """A study in a folder of its own that all users can write, one sweep at a time.

    Attributes:
        folder: where its sweeps run.
        rounds: how many are asked for.
        running: a sweep was started and has not ended.
    """

    def __init__(self, place: Place, name: str, store: Path | None = None) -> None:
        """Make the folder, with a copy of `store`, which has no runs; or leave that to a sweep."""
        self.folder = place.folder / name
        self.rounds, self.running = ROUNDS, False
        self._place, self._pid = place, 0
        self._left: set[Path] = set()
        group = LAB if len(place.users) > 1 else -1
        for folder in (self.folder, self.mlruns, self.folder / "cache"):
            folder.mkdir()
            os.chown(folder, place.users[0], group)
            folder.chmod(0o2775)
        if store is not None:
            shutil.copy(store, self.mlruns)
            os.chown(self.mlruns / store.name, place.users[0], group)
            (self.mlruns / store.name).chmod(0o664)

    @property
    def mlruns(self) -> Path:
        """Its `tracking.folder`."""
        return self.folder / "mlruns"

    def start(self, user: int, *words: str, output: Path | None = None) -> None:
        """Start a sweep in a session of its own."""
        self._left, self.running = self._trials(), True
        sys.stdout.flush()
        self._pid = os.fork()
        if self._pid == 0:
            asked = [*WORDS.split(), f"study.rounds={self.rounds}", *words]
            self._become_sweep(user, asked, output or self.folder / "output")

    def finish(self, user: int) -> tuple[float, float, float]:
        """Run a sweep to its end.

        Returns:
            The seconds to its first trial, from there to its last, and from there to its end.

        Raises:
            SystemExit: it failed; its output is told.
        """
        times = [time.monotonic()]
        self.start(user)
        for reason in (self.trial_begun, self.complete, lambda: False):
            self.wait(reason)
            times.append(time.monotonic())
        if (code := self.end()) != 0:
            sys.exit(f"the same command failed: {code}\n{self.said()}")
        start_s, trials_s, end_s = (b - a for a, b in itertools.pairwise(times))
        return start_s, trials_s, end_s

    def strike(self, target: str, number: int) -> bool:
        """Send a signal to a process; False if there is none and the sweep has come to its end."""
        if target == "everything":
            kill_all(self.folder)
        elif target == "group":
            os.killpg(self._pid, number)
        elif target == "parent":
            os.kill(self._pid, number)
        else:
            found: list[psutil.Process] = []

            def there() -> bool:
                found[:] = self._processes(target)
                return bool(found)

            if self.wait(there):
                return False
            with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended
                found[-1].send_signal(number)
        return True

    def end(self) -> int:
        """Wait for the sweep's end; its exit code, negative for a signal.

        Raises:
            TimeoutError: it hangs, and was killed.
        """
        late = time.monotonic() + LONGEST_S
        hangs = not self.wait(lambda: time.monotonic() > late)
        if hangs:
            os.kill(self._pid, signal.SIGKILL)
        _, status = os.waitpid(self._pid, 0)
        self.running = False
        if hangs:
            raise TimeoutError
        return os.waitstatus_to_exitcode(status)

    def said(self) -> str:
        """The last that its sweeps printed."""
        return (self.folder / "output").read_text()[-4000:]

    def left_by(self, user: int) -> bool:
        """Whether something waits that only this user's next sweep removes."""
        found = {*self._trials(), *(self._place.folder / "tmp").iterdir()}
        return any(path.stat().st_uid == user for path in found)

    def extend(self) -> None:
        """One more round, with exports to make."""
        self.rounds += 1
        for kind in (self.folder / "cache").iterdir():
            shutil.rmtree(kind)

    def examine(self) -> dict[str, list[str]]:
        """What must not be; looked for in another process, which shares nothing with sweeps."""
        here, there = FORK.Pipe(duplex=False)

        def look() -> None:
            there.send(soundness.examine(self.folder, cells=CELLS, rounds=self.rounds))

        process = FORK.Process(target=look)
        process.start()
        there.close()
        found: dict[str, list[str]] = here.recv()
        process.join()
        return found

    def trial_begun(self) -> bool:
        """Whether this sweep has begun a trial."""
        return bool(self._trials() - self._left)

    def serving(self) -> bool:
        """Whether the worker of a trial is at work."""
        return any((trial / "exchange" / "metering.json").exists() for trial in self._trials())

    def newest_trial(self) -> Path:
        """The folder of the trial that has begun last."""
        return max(self._trials(), key=lambda trial: trial.stat().st_ctime_ns)

    def exporting(self) -> bool:
        """Whether an entry of the cache is in the making."""
        return any((self.folder / "cache").glob("*/*.partial"))

    def recording(self) -> bool:
        """Whether this sweep has begun to write a record."""
        return any((trial / "config").exists() for trial in self._trials() - self._left)

    def complete(self) -> bool:
        """Whether all trials are stored."""
        valid = "SELECT count(*) FROM tags WHERE key = 'slm.outcome' AND value = 'valid'"
        there = f"file:{self.mlruns / 'mlflow.db'}?mode=ro"
        with (
            contextlib.suppress(sqlite3.Error),  # it is being made
            contextlib.closing(sqlite3.connect(there, timeout=60, uri=True)) as database,
        ):
            return int(database.execute(valid).fetchone()[0]) >= CELLS * self.rounds
        return False

    def wait(self, reason: Callable[[], bool]) -> bool:
        """Wait for a reason or the sweep's end; tell whether it was the end."""
        ended = os.WEXITED | os.WNOHANG | os.WNOWAIT
        while os.waitid(os.P_PID, self._pid, ended) is None:
            if reason():
                return False
            time.sleep(0.01)
        return True

    def _trials(self) -> set[Path]:
        """Folders of trials that run, or whose records wait."""
        return set((self.mlruns / "pending").glob("*/*/"))

    def _processes(self, target: str) -> list[psutil.Process]:
        """The sampler, the templates or the workers of the running sweep."""
        found = []
        for each in psutil.Process(self._pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                words = each.cmdline()
                forked = each.ppid() != self._pid  # a template's children have its command line
                kind = "sampler" if "slm_energy.sampler.service" in words else "worker"
                if "template" in words and not forked:
                    kind = "template"
                found += [each] if kind == target and words else []
        return found

    def _become_sweep(self, user: int, words: Sequence[str], output: Path) -> NoReturn:
        """Turn a fork into the command, with its output in a file."""
        code: object = 70
        try:
            os.setsid()
            signal.signal(signal.SIGINT, signal.default_int_handler)  # as a terminal starts it
            for number in (signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            os.chdir(self.folder)
            file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            os.dup2(file, 1)
            os.dup2(file, 2)
            machine.LOCK_FOLDERS = (self._place.folder / "locks",)
            os.environ["HOME"] = str(self._place.folder / f"home-{user}")
            os.environ["TMPDIR"] = tempfile.tempdir = str(self._place.folder / "tmp")
            _step_clock(self._place.step_s)
            if user != os.geteuid():
                os.setgroups([LAB])
                os.setgid(user)
                os.setuid(user)
                ctypes.CDLL(None).prctl(_DUMPABLE, 1)
            os.umask(0o077)
            sys.argv = ["slm-energy", "--config-dir", str(CONF), *words]
            slm_energy()
        except SystemExit as ended:
            code = ended.code
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code if isinstance(code, int) else 70)


def kill_all(folder: Path) -> None:
    """Kill whatever works in a folder, until there is nothing."""
    while found := soundness.processes(folder):
        for each in found:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()


def _step_clock(step_s: ctypes.c_double) -> None:
    """Let this process's wall clock be off by `step_s`, whatever that is at the moment."""
    real_s, real_ns = time.time, time.time_ns
    time.time = lambda: real_s() + step_s.value
    time.time_ns = lambda: real_ns() + round(step_s.value * 1e9)


def _two_users() -> bool:
    """Whether this is root, and others can run this package and its interpreter."""
    if os.geteuid() != 0:
        return False
    command = [sys.executable, "-c", "import slm_energy.testing"]
    try:
        done = subprocess.run(
            command, user=ANN, group=ANN, cwd="/", stderr=subprocess.DEVNULL, check=False
        )
    except PermissionError:  # the interpreter is in a closed folder
        return False
    return done.returncode == 0
