"""Does a study survive that its processes are killed, again and again, at random moments?

    python benchmarks/random_kills.py [--kills 200] [--seed 0] [--only STUDY]

Studies of two scripted cells and two rounds, each with an export in the cache, are struck ten times
each: the parent, its process group (as a terminal does), a worker, the sampler, or a template that
forks workers, by SIGKILL, SIGTERM, SIGHUP or SIGINT; or everything by SIGKILL, as a power loss does
(but for what the system had not yet written to the disk: that is not lost here). Two users start
sweeps, if this is root, and the wall clock of the parent is set forward and back. Every twentieth
study also meets what ends a sweep with another exit code. After its strikes a study is run to its
end, by the other user too if something of that user is left, and examined (`soundness.py`).

`--only STUDY` repeats one study, struck in the same way, as far as moments can be repeated.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib
import itertools
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import soundness
from killed_study import FORK, Place, Study, kill_all

from slm_energy.store.connection import create
from slm_energy.testing.powercap import PowercapTree, Zone
from slm_energy.testing.waveform import constant

TARGETS = ("parent", "group", "worker", "sampler", "template")
SIGNALS = ("SIGKILL", "SIGTERM", "SIGHUP", "SIGINT")
PER_STUDY = 10
COLUMNS = {
    "lost": ("lost", "unreadable"),
    "doubled": ("duplicated",),
    "running": ("running", "half sent"),
    "orphans": ("orphans",),
    "leftovers": ("waiting", "broken cache", "left over"),
    "exit code": ("exit code",),
}
"""Column of the table to the findings that it counts."""
IMPORTED = """
    alembic.command hydra mlflow.store.tracking.sqlalchemy_store pandas scipy.stats
    slm_energy.analysis.render.files slm_energy.planning.grid slm_energy.running.sweep
    slm_energy.running.report
"""


class Kind(NamedTuple):
    """What is struck, and by which signal."""

    target: str
    by: str


KINDS = [Kind(*each) for each in itertools.product(TARGETS, SIGNALS)]
KINDS.append(Kind("everything", "SIGKILL"))


def _counts(counter: Counter[Any]) -> str:
    return ", ".join(f"{key} ({count})" for key, count in sorted(counter.items()))


@dataclasses.dataclass(kw_only=True)
class Tally:
    """What was done, and what came of it."""

    struck: Counter[Kind] = dataclasses.field(default_factory=Counter)
    moments: Counter[str] = dataclasses.field(default_factory=Counter)
    codes: Counter[int] = dataclasses.field(default_factory=Counter)
    found: Counter[tuple[Kind, str]] = dataclasses.field(default_factory=Counter)
    texts: list[str] = dataclasses.field(default_factory=list)
    steps: int = 0

    def show(self, place: Place, seed: int, took_s: float) -> None:
        """Print the table, and the first findings in words."""
        sweeps = self.codes.total()
        print(f"seed {seed}; {len(place.users)} users; the clock was set {self.steps} times")
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu_s = (used.ru_utime + used.ru_stime) / max(1, self.struck.total())
        print(f"{took_s:.0f} s, {cpu_s:.1f} s of a processor per strike")
        print(f"{sweeps} sweeps ended with {_counts(self.codes)}")
        print(f"moments: {_counts(self.moments)}\n")
        print(f"{'':<28}{'n':>5}" + "".join(f"{name:>11}" for name in COLUMNS))
        for kind, count in sorted(self.struck.items()):
            numbers = [sum(self.found[kind, name] for name in names) for names in COLUMNS.values()]
            print(f"{' '.join(kind):<28}{count:>5}" + "".join(f"{n:>11}" for n in numbers))
        for text in self.texts[:20]:
            print(f"\n{text}")

    def note(self, number: int, kinds: set[Kind], found: dict[str, list[str]]) -> None:
        """Count findings in a study for each kind of strike that may have caused them."""
        for name, texts in found.items():
            self.texts += [f"study {number}: {name}: {text}" for text in texts]
            self.found.update({(kind, name): len(texts) for kind in kinds})


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """Seconds that a sweep takes: to its first trial, from there to its last, and to its end.

    Attributes:
        store: the file of a store without runs.
    """

    start_s: float
    trials_s: float
    end_s: float
    store: Path

    @classmethod
    def measured(cls, place: Place) -> Pace:
        """Of one sweep that is left alone."""
        store = place.folder / "mlflow.db"
        create(store)
        study = Study(place, "pace", store)
        start_s, trials_s, end_s = study.finish(place.users[0])
        shutil.rmtree(study.folder)
        return cls(start_s=start_s, trials_s=trials_s, end_s=end_s, store=store)


class Ordeal:
    """One study from its first strike to its examination."""

    def __init__(self, place: Place, number: int, seed: int, pace: Pace, tally: Tally) -> None:
        self._chance = random.Random(f"{seed}/{number}")
        self._place, self._number, self._pace, self._tally = place, number, pace, tally
        self._study = Study(place, f"study-{number}", None if number % 5 == 3 else pace.store)
        self._kinds: set[Kind] = set()

    def run(self, kinds: list[Kind]) -> None:
        """Strike, let every user run the study to its end, examine."""
        before = len(self._tally.texts)
        if self._number % 20 == 1:
            self._other_codes()
        for kind in kinds:
            while not self._strike(kind):
                self._study.extend()
            self._kinds.add(kind)
            self._tally.struck[kind] += 1
        if self._study.running:
            self._end({0})
        self._examine()
        found = self._tally.texts[before:]
        print(f"study {self._number}, {len(kinds)} strikes: {len(found)} findings", flush=True)
        if not found:
            shutil.rmtree(self._study.folder)

    def _strike(self, kind: Kind) -> bool:
        """Strike a sweep somewhere, in short phases more often; False if it ended before."""
        study, chance, pace = self._study, self._chance, self._pace
        if not study.running:
            self._start()
        moments: dict[str, tuple[int, Callable[[], bool], float]] = {
            "start": (2, lambda: True, pace.start_s),
            "trial": (4, study.trial_begun, pace.trials_s / 4),
            "export": (1, study.exporting, 0.2),
            "record": (3, study.recording, 0.2),
            "end": (1, study.complete, pace.end_s),
        }
        [name] = chance.choices(list(moments), [weight for weight, _, _ in moments.values()])
        if kind.target in ("worker", "sampler", "template"):
            name = "trial"
        _, after, longest_s = moments[name]
        delay_s = chance.uniform(0, longest_s)
        if chance.random() < 1 / 3:
            self._place.step_s.value += chance.choice((86_400, -86_400, 3600, -3600, 2, -2))
            self._tally.steps += 1
        ended = study.wait(after)
        until = time.monotonic() + delay_s
        ended = ended or study.wait(lambda: time.monotonic() >= until)
        number = signal.Signals[kind.by]
        if ended or not study.strike(kind.target, number):
            self._end({0})
            return False
        self._tally.moments[name] += 1
        if kind.target in ("parent", "group", "everything"):
            # Before its handlers are set, and when it has ended but for the report, it dies of it.
            self._kinds.add(kind)
            self._end({130, 0, -number} if number != signal.SIGKILL else {-number})
        return True

    def _start(self, *words: str, output: Path | None = None) -> None:
        self._user = self._chance.choice(self._place.users)
        self._study.start(self._user, *words, output=output)

    def _end(self, allowed: set[int], kind: Kind | None = None) -> None:
        """Wait for the end of a sweep, and that of its processes."""
        try:
            code = self._study.end()
        except TimeoutError:
            code = 999
        self._tally.codes[code] += 1
        found = {} if code in allowed else {"exit code": [f"{code}: {self._study.said()[-600:]}"]}
        kinds = self._kinds if kind is None else {kind}
        orphans = [str(each) for each in soundness.orphans(self._study.folder)]
        self._note(kinds, found | {"orphans": orphans})

    def _note(self, kinds: set[Kind], found: dict[str, list[str]]) -> None:
        self._tally.note(self._number, kinds, found)

    def _examine(self) -> None:
        """Note what is not as it must be when every user has run the study to its end."""
        first = self._chance.choice(self._place.users)
        for user in sorted(self._place.users, key=lambda user: user != first):
            if user == first or self._study.left_by(user):
                self._study.start(user)
                self._end({0})
        self._note(self._kinds, self._study.examine())
        left = self._place.leftovers()
        self._note(self._kinds, {"left over": left})

    def _other_codes(self) -> None:
        """Let sweeps end with 1, 2, 3 and 4; the next one has to make good what is missing."""
        study, tmp = self._study, self._place.folder / "tmp"

        def kill_worker() -> None:
            study.wait(study.serving)  # one that has just ended is struck in vain
            study.strike("worker", signal.SIGKILL)

        def close_trial() -> None:
            if not study.wait(study.serving):
                study.newest_trial().chmod(0o555)

        def close_store() -> None:
            study.wait(study.serving)
            study.mlruns.chmod(0o555)

        troubles: dict[int, tuple[Kind, Callable[[], None], list[str], str]] = {
            1: (Kind("worker", "one attempt"), kill_worker, ["study.attempts=1"], ""),
            2: (Kind("trial's folder", "mode 555"), close_trial, [], "slm-energy-kept-*/*/*/"),
            3: (Kind("store's folder", "mode 555"), close_store, [], "pending/*/*/"),
            4: (Kind("output", "/dev/full"), lambda: None, [], ""),
        }
        for code, (kind, act, words, kept) in troubles.items():
            if code in (2, 3) and os.geteuid() == 0 and len(self._place.users) == 1:
                continue  # no mode keeps root from writing
            self._tally.struck[kind] += 1
            self._start(*words, output=Path("/dev/full") if code == 4 else None)
            act()
            self._end({code}, kind)
            if kept:
                records = [
                    *tmp.glob(f"{kept}record.json"),
                    *study.mlruns.glob(f"{kept}record.json"),
                ]
                self._note({kind}, {"lost": [] if records else [f"no record in {kept}"]})
            study.mlruns.chmod(0o2775)
            for trial in study.mlruns.glob("pending/*/*/"):
                trial.chmod(0o2775)
            study.start(self._user)  # what is kept in TMPDIR is for the user who has kept it
            self._end({0}, kind)
            self._kinds.add(kind)
            study.extend()


def main() -> None:
    """Strike, examine, print; exit with 1 if anything was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="decides when what is struck")
    parser.add_argument("--only", type=int, help="this study alone")
    asked = parser.parse_args()
    for name in IMPORTED.split():
        importlib.import_module(name)
    begun = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="kills-"))
    place, tally = Place(folder), Tally()
    with _counters(folder / "powercap"), contextlib.suppress(KeyboardInterrupt):
        try:
            pace = Pace.measured(place)
            for number, kinds in enumerate(_plan(asked.kills, random.Random(asked.seed))):
                if asked.only in (None, number):
                    Ordeal(place, number, asked.seed, pace, tally).run(kinds)
        finally:
            kill_all(folder)
    print(f"{tally.struck.total()} strikes; ", end="")
    tally.show(place, asked.seed, time.monotonic() - begun)
    if tally.texts:
        print(f"\nstudies with findings are left in {folder}; repeat one with --only STUDY")
    else:
        shutil.rmtree(folder)
    sys.exit(bool(tally.texts))


def _plan(kills: int, chance: random.Random) -> Iterator[list[Kind]]:
    """What strikes each study: every kind equally often, in random order."""
    kinds = [
        kind for _ in range(-(-kills // len(KINDS))) for kind in chance.sample(KINDS, len(KINDS))
    ]
    for first in range(0, kills, PER_STUDY):
        yield kinds[first : min(first + PER_STUDY, kills)]


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


if __name__ == "__main__":
    main()
