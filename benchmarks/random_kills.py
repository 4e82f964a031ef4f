"""Does a study survive that everything is killed, again and again, at random moments?

    python benchmarks/random_kills.py [--kills 200] [--seed 0]

A sweep over four scripted cells, each with an export in the cache, is killed with SIGKILL and run
again. Two thirds of the kills strike all its processes at once, as a power loss does (but for what
the system had not yet written to the disk: that is not lost here); one third strikes the parent
alone, and the others have to go by themselves. Every tenth strikes while a new store is made.
Whenever a sweep comes to its end the study is examined (`soundness.py`), loses its exports, and
goes on with one more round.

The program is imported once, and forked at each start: this saves seconds.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib
import itertools
import multiprocessing
import os
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn, TypeVar

import psutil
import soundness

from slm_energy.__main__ import main as slm_energy
from slm_energy.testing import CONF
from slm_energy.testing.powercap import PowercapTree, Zone
from slm_energy.testing.waveform import constant

CELLS = 4
COUNTERS = "powercap"
WORDS = """
    -m engine=scripted engine.options.export_s=0.2 engine.decode=session,generate
    measurement=strict measurement.isolation=spawn,forkserver measurement.target_error=1
    measurement.baseline_s=0 measurement.warmup_requests=0 measurement.serve_s=0.2
    measurement.max_gap_s=30 measurement.limits.foreign_cpu_pct=100
    measurement.limits.steal_pct=100 measurement.limits.throttled_pct=100 workload.limit=3
    workload.new_tokens=4 study.reference=null study.gate.at_most_s=0 study.attempts=20
    cache.folder=cache
"""
"""Each trial has a sampler, and half of them a template that forks their workers."""

IMPORTED = """
    alembic.command hydra mlflow.store.tracking.sqlalchemy_store pandas scipy.stats
    slm_energy.analysis.render.files slm_energy.planning.grid slm_energy.running.sweep
    slm_energy.running.report
"""
FORK = multiprocessing.get_context("fork")
T = TypeVar("T")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """Seconds that a sweep takes: to its first trial, from there to its last, and to its end."""

    start_s: float
    trials_s: float
    end_s: float


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Moment:
    """When to kill: so many seconds after something."""

    after: Callable[[], bool]
    delay_s: float


class Study:
    """A study in a folder of its own, one sweep at a time.

    Attributes:
        folder: where its sweeps run.
        rounds: how many are asked for.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.rounds = 1
        self._pid = 0
        self._began_unix_s = 0.0
        self._left: set[Path] = set()

    def start(self) -> None:
        """Start a sweep in a session of its own."""
        self._left, self._began_unix_s = self._trials(), time.time()
        self._pid = os.fork()
        if self._pid == 0:
            root = self.folder.parent / COUNTERS
            own = (f"study.rounds={self.rounds}", f"measurement.powercap_root={root}")
            _become_sweep(self.folder, ["--config-dir", str(CONF), *WORDS.split(), *own])

    def finish(self) -> Pace:
        """Start a sweep and wait for its end.

        Raises:
            SystemExit: it failed; its output is told.
        """
        times = [time.monotonic()]
        self.start()
        for reason in (self.trial_begun, self.complete, lambda: False):
            self._wait(reason)
            times.append(time.monotonic())
        self.end()
        start_s, trials_s, end_s = (b - a for a, b in itertools.pairwise(times))
        return Pace(start_s=start_s, trials_s=trials_s, end_s=end_s)

    def kill(self, moment: Moment, *, alone: bool) -> bool:
        """Kill the sweep that was started, the parent alone or everything.

        Returns:
            False if it came to its end before.
        """
        self._wait(moment.after)
        until = time.monotonic() + moment.delay_s
        if self._wait(lambda: time.monotonic() >= until):
            self.end()
            return False
        os.kill(self._pid, signal.SIGKILL)
        if not alone:
            _kill_all(self.folder)
        os.waitpid(self._pid, 0)
        return True

    def end(self) -> None:
        """Put a sweep away that has ended by itself.

        Raises:
            SystemExit: it failed; its output is told.
        """
        _, status = os.waitpid(self._pid, 0)
        if status != 0:
            output = (self.folder / "output").read_text()[-4000:]
            sys.exit(f"the same command failed: {os.waitstatus_to_exitcode(status)}\n{output}")

    def extend(self) -> None:
        """One more round, with exports to make."""
        self.rounds += 1
        shutil.rmtree(self.folder / "cache")

    def examine(self) -> dict[str, list[str]]:
        """What must not be; looked for in another process, which shares nothing with sweeps."""
        return _apart(lambda: soundness.examine(self.folder, cells=CELLS, rounds=self.rounds))

    def phase(self) -> str:
        """What the sweep was at when it was killed, from what it left."""
        try:
            outcomes, opened = self._stored()
        except sqlite3.Error:
            return "making the store"
        begun = self._trials() - self._left
        if self.exporting():
            return "export"
        if not begun and self.complete():
            return "ending, report"
        if not begun:
            return "between trials" if opened else "start"
        folder = max(begun, key=lambda path: path.stat().st_mtime_ns)
        if folder.name in outcomes:
            return "dropping the record" if outcomes[folder.name] else "sending the record"
        if (folder / "record.json").exists():
            return "before sending"
        return "writing the record" if (folder / "config").exists() else "trial"

    def _stored(self) -> tuple[dict[str, str | None], bool]:
        """Outcomes of the trials that the store knows, and whether it knows this sweep."""
        outcomes = (
            "SELECT a.value, b.value FROM tags AS a LEFT JOIN tags AS b"
            " ON b.run_uuid = a.run_uuid AND b.key = 'slm.outcome' WHERE a.key = 'slm.trial'"
        )
        sweeps = (
            "SELECT count(*) FROM runs JOIN tags ON tags.run_uuid = runs.run_uuid"
            " WHERE tags.key = 'slm.kind' AND tags.value = 'sweep' AND runs.start_time >= ?"
        )
        there = f"file:{self.folder / 'mlruns' / 'mlflow.db'}?mode=rw"  # never made here
        with contextlib.closing(sqlite3.connect(there, timeout=60, uri=True)) as database:
            (opened,) = database.execute(sweeps, (self._began_unix_s * 1000,)).fetchone()
            return dict(database.execute(outcomes).fetchall()), opened > 0

    def _trials(self) -> set[Path]:
        """Folders of trials that run, or whose records wait."""
        return set((self.folder / "mlruns" / "pending").glob("*/*/"))

    def trial_begun(self) -> bool:
        """Whether this sweep has begun a trial."""
        return bool(self._trials() - self._left)

    def exporting(self) -> bool:
        """Whether an entry of the cache is in the making."""
        for path in (self.folder / "cache").glob("*/*.partial"):
            with contextlib.suppress(FileNotFoundError):  # just finished
                if path.stat().st_mtime >= self._began_unix_s:
                    return True
        return False

    def recording(self) -> bool:
        """Whether this sweep has begun to write a record."""
        return any((trial / "config").exists() for trial in self._trials() - self._left)

    def complete(self) -> bool:
        """Whether all trials are stored."""
        outcomes, _ = self._stored()
        return sum(map(bool, outcomes.values())) >= CELLS * self.rounds

    def _wait(self, reason: Callable[[], bool]) -> bool:
        """Wait for a reason or the sweep's end; tell whether it was the end."""
        ended = os.WEXITED | os.WNOHANG | os.WNOWAIT
        while os.waitid(os.P_PID, self._pid, ended) is None:
            if reason():
                return False
            time.sleep(0.005)
        return True


@dataclasses.dataclass(kw_only=True)
class Tally:
    """What came of it."""

    phases: Counter[str] = dataclasses.field(default_factory=Counter)
    alone: int = 0
    examined: int = 0
    found: dict[str, list[str]] = dataclasses.field(default_factory=dict)

    def struck(self, study: Study, *, alone: bool) -> None:
        """Note a kill; where only the parent was killed, see that the others go."""
        self.phases[study.phase()] += 1
        self.alone += alone
        self._add({"orphans": [str(each) for each in soundness.orphans(study.folder)]})

    def examine(self, study: Study) -> None:
        """Note what is not as it must be after a sweep came to its end."""
        self.examined += 1
        self._add(study.examine())

    def leftovers(self, place: Path) -> None:
        """Note what killed sweeps left in TMPDIR, and the last one did not remove."""
        ours = {COUNTERS, "study", *(path.name for path in place.glob("new*"))}
        self._add({"left in TMPDIR": [p.name for p in place.iterdir() if p.name not in ours]})

    def _add(self, found: dict[str, list[str]]) -> None:
        for kind, texts in found.items():
            self.found.setdefault(kind, []).extend(texts)


def main() -> None:
    """Kill, examine, print; exit with 1 if anything was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="decides when to kill what")
    asked = parser.parse_args()
    for name in IMPORTED.split():
        importlib.import_module(name)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="kills") as name:
        place = Path(name)
        os.environ["TMPDIR"] = tempfile.tempdir = name  # what they leave is found below
        with _counters(place / COUNTERS):
            try:
                tally = strike(place, asked.kills, random.Random(asked.seed))
                tally.leftovers(place)
            finally:
                _kill_all(place)
    print(f"{asked.kills} kills, {tally.alone} of them of the parent alone; seed {asked.seed}")
    print(f"{time.monotonic() - begun:.0f} s; {tally.examined} times the study was examined\n")
    for phase, count in tally.phases.most_common():
        print(f"{phase:<24}{count:>6}")
    print()
    for kind, texts in tally.found.items():
        print(f"{kind:<24}{len(texts):>6}  {'; '.join(texts[:3])}")
    sys.exit(any(tally.found.values()))


def strike(place: Path, kills: int, chance: random.Random) -> Tally:
    """Kill so often, then let the study come to its end."""
    tally, study = Tally(), Study(place / "study")
    pace = study.finish()
    for number in range(kills):
        alone = chance.random() < 1 / 3
        if number % 10 == 9:
            _strike_new(Study(place / f"new{number}"), pace, tally, chance)
            continue
        while not _strike(study, pace, tally, chance, alone=alone):
            tally.examine(study)
            study.extend()
    study.finish()
    tally.examine(study)
    return tally


def _strike(study: Study, pace: Pace, tally: Tally, chance: random.Random, *, alone: bool) -> bool:
    """Kill a sweep somewhere, in short phases more often; False if it ended before."""
    moments = (
        Moment(after=lambda: True, delay_s=chance.uniform(0, pace.start_s)),
        Moment(after=study.trial_begun, delay_s=chance.uniform(0, pace.trials_s)),
        Moment(after=study.exporting, delay_s=chance.uniform(0, 0.2)),
        Moment(after=study.recording, delay_s=chance.uniform(0, 0.2)),
        Moment(after=study.complete, delay_s=chance.uniform(0, pace.end_s)),
    )
    [moment] = chance.choices(moments, weights=(2, 4, 1, 3, 1))
    study.start()
    killed = study.kill(moment, alone=alone)
    if killed:
        tally.struck(study, alone=alone)
    return killed


def _strike_new(study: Study, pace: Pace, tally: Tally, chance: random.Random) -> None:
    """Kill the first sweep of a study; the second one has to come to its end."""
    study.start()
    moment = Moment(after=lambda: True, delay_s=chance.uniform(0, pace.start_s))
    if study.kill(moment, alone=False):
        tally.struck(study, alone=False)
        study.finish()
    tally.examine(study)


@contextlib.contextmanager
def _counters(root: Path) -> Iterator[None]:
    """Energy counters, kept by a process of their own: this one forks, and has one thread."""
    root.mkdir()
    zone = Zone(folder="intel-rapl:0", name="package-0", waveform=constant(50))

    def publish() -> None:
        with PowercapTree(root, [zone]):
            signal.pause()

    process = FORK.Process(target=publish)
    process.start()
    try:
        yield
    finally:
        process.kill()
        process.join()


def _kill_all(folder: Path) -> None:
    """Kill whatever works in a folder, until there is nothing."""
    while found := soundness.processes(folder):
        for each in found:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()


def _become_sweep(folder: Path, words: list[str]) -> NoReturn:
    """Turn a fork into the command, with its output in a file."""
    code: object = 70
    try:
        os.setsid()
        os.chdir(folder)
        output = os.open("output", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for number in (1, 2):
            os.dup2(output, number)
        sys.argv = ["slm-energy", *words]
        slm_energy()
    except SystemExit as ended:
        code = ended.code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code if isinstance(code, int) else 70)


def _apart(work: Callable[[], T]) -> T:
    """Do something in a fork; return its result."""
    here, there = FORK.Pipe(duplex=False)
    process = FORK.Process(target=lambda: there.send(work()))
    process.start()
    there.close()
    result: T = here.recv()
    process.join()
    return result


if __name__ == "__main__":
    main()
