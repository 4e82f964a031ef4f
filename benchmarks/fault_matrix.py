"""Faults of energy sensors: is a figure right, refused, or silently wrong? Ours and other tools'.

    python benchmarks/fault_matrix.py [--peers PYTHON] [--each]

First every sensor of `slm_energy.testing.scenes` with every fault of `slm_energy.testing.faults`,
as in tests/derive/energy/test_fault_matrix.py. Then one powercap counter in real files; its faults
are fed to this package's RAPL meter and, with --peers, to other tools: their own classes read the
files and do the arithmetic, and are only told where to look. For that they need an environment:

    python -m venv peers
    peers/bin/pip install zeus codecarbon pyJoules pyRAPL carbontracker perun
    python benchmarks/fault_matrix.py --peers peers/bin/python

A tool's figure is right within 6 % of the truth. It is refused where the tool raises or gives none.
A wrong one is not counted as silent where the tool logged a warning, whatever the warning says.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import shutil
import subprocess
import sys
import tempfile
from collections import Counter as Tally
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peers.script import POWER_W, RANGE_UJ, TICK_S, TICKS, TRUE_J, UNREADABLE, Counter
from rich.console import Console
from rich.table import Table

from slm_energy.config.groups import MeasurementConfig
from slm_energy.derive.energy.accounting import account
from slm_energy.meters.base import ReadFailed
from slm_energy.meters.rapl import open_rapl
from slm_energy.record import Series, Window
from slm_energy.testing.faults import FAULTS, PLACES, applies, break_at, judge, undetectable
from slm_energy.testing.scenes import SCENES, record

TOLERANCE = 0.06
"""A little more than half a tick: nobody can know where in a tick something happened."""

DRIVER = Path(__file__).parent / "peers" / "driver.py"
PEERS = ("codecarbon", "zeus", "perun", "pyJoules", "pyRAPL", "carbontracker")
KEEP_OPEN = ("perun", "pyRAPL")
"""A file that is taken away stays readable for these."""

S, MS = 10**9, 10**6
WORDS = {word: word for word in UNREADABLE} | {
    "empty": "",
    "garbage": "????\n",
    "negative": "-5\n",
    "huge": "9" * 19 + "\n",
    "zero": "0\n",
}
STEP_UJ = round(POWER_W * TICK_S * 10**6)
MIDDLE = TICKS // 2


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """What a counter's file holds before the measurement, at its ticks, and after it."""

    fault: str
    place: str
    before: str
    ticks: tuple[str, ...]
    after: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Completion:
    """What a tool said of a case.

    Attributes:
        joules: None where it gave no figure.
        said: warnings and log lines.
        inside: the truth lies in the interval, for a tool that states one.
    """

    joules: float | None
    said: Sequence[str] = ()
    inside: bool = True

    @property
    def verdict(self) -> str:
        """`right`, `refused`, `wrong, warned` or `silently wrong`."""
        if self.joules is None or math.isnan(self.joules):
            return "refused"
        if self.inside and math.isclose(self.joules, TRUE_J, rel_tol=TOLERANCE):
            return "right"
        return "wrong, warned" if self.said else "silently wrong"


def cases() -> list[Case]:
    """A clean counter, and each fault at each place where it can be."""
    first = 7 * 10**9
    clean = [first + k * STEP_UJ for k in range(TICKS + 2)]
    found = [_case("none", "", clean, clean)]
    places = {"first": [0], "middle": [MIDDLE], "last": [TICKS], "all": range(TICKS + 1)}
    for place, ticks in places.items():
        for fault, word in WORDS.items():
            texts = [word if k in ticks else value for k, value in enumerate(clean)]
            found.append(_case(fault, place, clean, texts))
        # A number without its line break.
        half = [str(value)[:5] if k in ticks else value for k, value in enumerate(clean)]
        late = [clean[ticks[0]] - STEP_UJ if k in ticks else v for k, v in enumerate(clean)]
        found += [_case("truncated", place, clean, half), _case("stale", place, clean, late)]
    for place, at in (("middle", MIDDLE), ("last", TICKS)):
        back = [v - 2 * STEP_UJ if k == at else v for k, v in enumerate(clean)]
        reset = [v if k < at else v - clean[at] + STEP_UJ // 2 for k, v in enumerate(clean)]
        wrap = [(v - clean[at] + STEP_UJ // 2) % (RANGE_UJ + 1) for v in clean]
        found += [_case("backward", place, clean, back), _case("reset", place, clean, reset)]
        found.append(_case("one wrap", place, wrap, wrap))
    return found


def _case(fault: str, place: str, clean: Sequence[int], shown: Sequence[int | str]) -> Case:
    before = (clean[0] - STEP_UJ) % (RANGE_UJ + 1)
    *ticks, after = (f"{each}\n" if isinstance(each, int) else each for each in shown)
    return Case(fault=fault, place=place, before=f"{before}\n", ticks=tuple(ticks), after=after)


def ours(case: Case, root: Path) -> Completion:
    """Read the files with the RAPL meter at the script's times, and account for the window."""
    counter = Counter(root)
    counter.show(case.before)
    meter = open_rapl(MeasurementConfig(name="faults", powercap_root=str(root))).meter
    if meter is None:
        raise SystemExit(f"the RAPL meter finds no counter in {root}")
    (channel,) = meter.channels
    # As the sampler does: it reads before the window, and on after it.
    times = [round(k * TICK_S * S) for k in range(-1, TICKS + 2)]
    raw, errors = list[int | float | None](), dict[str, str]()
    around = (case.ticks[0], case.ticks[-1]) if case.place == "all" else (case.before, case.after)
    for row, word in enumerate((around[0], *case.ticks, around[1])):
        counter.show(word)
        try:
            raw.append(channel.read())
        except ReadFailed as failure:
            raw.append(None)
            errors[str(row)] = str(failure)
    meter.close()
    after = tuple(t + MS // 50 for t in times)
    # The first tick opens the window, and the last is sure to know its end.
    edge_ns = 2 * (channel.source.update_period_ns or 0)
    window = Window(name="serve", start_ns=edge_ns, end_ns=round(TICKS * TICK_S * S) - edge_ns)
    series = Series(
        source=channel.source, before_ns=tuple(times), raw=tuple(raw), after_ns=after, errors=errors
    )
    figure = account(series, window, max_gap_ns=2 * S)
    truth_j = POWER_W * window.duration_s
    inside = figure.low_j is not None and figure.low_j <= truth_j <= (figure.high_j or 0)
    return Completion(joules=figure.joules, inside=inside)


def theirs(tool: str, python: str, wanted: Sequence[Case], root: Path) -> dict[str, Any] | str:
    """Let a peer answer in its own environment; a text says why it could not."""
    done = subprocess.run(
        [python, str(DRIVER), tool, str(root)],
        input=json.dumps([dataclasses.asdict(case) for case in wanted]),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        return (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1]
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def applicable(tool: str, case: Case) -> bool:
    """A file that is taken away is not missed by who keeps it open."""
    return not (tool in KEEP_OPEN and set(UNREADABLE) & set(case.ticks))


def sensors(console: Console) -> None:
    """All sensors, all faults: the matrix of the test suite."""
    tally: Tally[str] = Tally()
    why: Tally[str] = Tally()
    for scene in SCENES:
        for spare in (0, 15):
            recording = record(scene, spare=spare)
            for fault in FAULTS:
                for place in PLACES:
                    if not applies(recording, fault, place):
                        continue
                    if reason := undetectable(scene, fault, place):
                        why[reason] += 1
                        continue
                    broken = break_at(recording, fault, place)
                    figure = account(broken.series, broken.window, max_gap_ns=S)
                    tally[judge(broken, figure)] += 1
    console.print(
        f"{len(SCENES)} sensors, {len(FAULTS)} faults, {sum(tally.values())} cells:"
        f" {tally['right']} right, {tally['refused']} refused with a reason,"
        f" [bold]{tally['wrong']} silently wrong[/bold]"
    )
    for reason, count in why.items():
        console.print(f"  {count} more are left out, as one source cannot tell: {reason}")


def show(
    console: Console, wanted: list[Case], answers: dict[str, list[Completion | None]], each: bool
) -> None:
    """Tools side by side: every case if wanted, and totals."""
    table = Table(title=f"one powercap counter, {TRUE_J:.0f} J")
    table.add_column("fault")
    for tool in answers:
        table.add_column(tool, justify="right")
    for row, case in enumerate(wanted if each else ()):
        cells = [_cell(got[row]) for got in answers.values()]
        table.add_row(f"{case.fault} {case.place}".strip(), *cells)
    table.add_section()
    tallies = [Tally(one.verdict for one in got if one) for got in answers.values()]
    for verdict in ("right", "refused", "wrong, warned", "silently wrong"):
        table.add_row(verdict, *(str(tally[verdict]) for tally in tallies))
    table.add_row("not applicable", *(str(got.count(None)) for got in answers.values()))
    console.print(table)
    if each:
        console.print("- not applicable, * it logged a warning")


def _cell(answer: Completion | None) -> str:
    if answer is None:
        return "-"
    if answer.verdict in ("right", "refused"):
        return answer.verdict
    joules = answer.joules or 0.0
    figure = f"{joules:,.0f} J" if abs(joules) < 10**6 else f"{joules:.0e} J"
    return figure + ("*" if answer.said else " ")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peers", metavar="PYTHON", help="interpreter that has the other tools")
    parser.add_argument("--each", action="store_true", help="print every case, not only totals")
    arguments = parser.parse_args()
    if arguments.peers and shutil.which(arguments.peers) is None:
        parser.error(f"--peers: {arguments.peers} is no program")
    console = Console(width=None if sys.stdout.isatty() else 140)
    sensors(console)
    wanted, notes = cases(), list[str]()
    with tempfile.TemporaryDirectory() as folder:
        answers: dict[str, list[Completion | None]] = {
            "slm_energy": [ours(case, Path(folder, str(i))) for i, case in enumerate(wanted)]
        }
        for tool in PEERS if arguments.peers else ():
            fed = {i: case for i, case in enumerate(wanted) if applicable(tool, case)}
            answer = theirs(tool, arguments.peers, list(fed.values()), Path(folder, tool))
            if isinstance(answer, str):
                notes.append(f"{tool}: not measured: {answer}")
                continue
            notes.append(f"{tool} {answer['version']}; patched: {answer['patched']}")
            got = {
                i: Completion(joules=result["joules"], said=result["said"])
                for i, result in zip(fed, answer["results"], strict=True)
            }
            answers[tool] = [got.get(i) for i in range(len(wanted))]
    show(console, wanted, answers, arguments.each)
    for note in notes:
        console.print(note, highlight=False)


if __name__ == "__main__":
    main()
