"""Faults of readings, applied to a recording whose true energy is known.

    broken = break_at(record(scene, spare=15), "reset", "middle")
    verdict = judge(broken, account(broken.series, broken.window, max_gap_ns=10**9))

A figure may be right (the truth is in its interval, and the figure is close to it) or refused (no
joules, and a reason). Anything else is a silent error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

from slm_energy.record import EnergyFigure, Window
from slm_energy.testing.scenes import PJ_PER_UNIT, Recording, Row, Scene, reading

Place = Literal["first", "middle", "last", "all"]
Judgement = Literal["right", "refused", "wrong"]

PLACES: tuple[Place, ...] = ("first", "middle", "last", "all")
"""The reading that opens the window, one inside, the one that closes it, and every reading."""

TOLERANCE = 0.05
"""Largest relative error of a right figure, in addition to the truth being in its interval."""

_STEADY = "a steady load looks like this"
_LIKE_A_TRUE_LOAD: dict[tuple[str, Place], str] = {
    ("stale", "all"): _STEADY,
    ("frozen", "first"): _STEADY,
    ("frozen", "middle"): "a load that becomes steady looks like this",
    ("frozen", "all"): _STEADY,
    ("clock forward", "all"): "a clock of wrong rate stretches window and readings alike",
    ("clock back", "all"): "a clock of wrong rate shrinks window and readings alike",
}

_OTHER_SCALE: set[tuple[str, Place]] = {("truncated", "all"), ("spike", "all")}

_RETRY_NS = 900_000_000

_Change = Callable[[Recording, Sequence[int]], Recording]


def break_at(recording: Recording, fault: str, place: Place) -> Recording:
    """Apply one of `FAULTS` to a recording.

    Window and truth are those of the broken recording: a clock step also moves the window's end,
    and three unseen wraps of a counter make the window longer.
    """
    opening, closing = recording.opening, recording.closing
    places: dict[Place, Sequence[int]] = {
        "first": [opening],
        "middle": [(opening + closing) // 2],
        "last": [closing],
        "all": range(len(recording.rows)),
    }
    return FAULTS[fault](recording, places[place])


def applies(recording: Recording, fault: str, place: Place) -> bool:
    """Whether a sensor of this kind can have this fault at this place."""
    source = recording.scene.source
    if fault == "several wraps":
        return source.modulus is not None
    if fault == "backward" and place == "first" and recording.opening == 0:
        return False  # There is no earlier value.
    if fault in ("backward", "reset"):
        return source.kind == "counter"
    return fault != "spike" or source.kind == "power"


def undetectable(scene: Scene, fault: str, place: Place) -> str | None:
    """Why a fault cannot be detected from one column of readings; None if it can.

    If a machine has a second source, `crosscheck.py` compares the two.

    Two more such faults are not in `FAULTS`, because their readings could be true: a counter
    that loses less than it counted between two readings, and one that is reset so shortly before
    the end of its range that the device could have used the rest (200 J of 262 kJ, at 2 kW and
    100 ms).
    """
    if (fault, place) in _OTHER_SCALE:
        return "a sensor of another scale looks like this"
    return _LIKE_A_TRUE_LOAD.get((fault, place)) if scene.source.kind == "power" else None


def judge(recording: Recording, figure: EnergyFigure) -> Judgement:
    """Compare a figure with the truth."""
    low_j, joules, high_j = figure.low_j, figure.joules, figure.high_j
    if joules is None or low_j is None or high_j is None:
        refused = figure.reasons and (low_j, joules, high_j) == (None, None, None)
        return "refused" if refused else "wrong"
    rounding_j = 1e-9 * recording.truth_j
    inside = low_j - rounding_j <= recording.truth_j <= high_j + rounding_j
    close = math.isclose(joules, recording.truth_j, rel_tol=TOLERANCE)
    return "right" if inside and close else "wrong"


# --- values -----------------------------------------------------------------------------------


def _rows(change: Callable[[Recording, int], Row]) -> _Change:
    """Change the rows at all places, one at a time."""

    def broken(recording: Recording, places: Sequence[int]) -> Recording:
        rows = list(recording.rows)
        for place in places:
            rows[place] = change(recording, place)
        return replace(recording, rows=tuple(rows))

    return broken


def _from_there_on(change: _Change) -> _Change:
    return lambda recording, places: change(recording, range(places[0], len(recording.rows)))


def _failed(error: str) -> _Change:
    return _rows(lambda recording, i: replace(recording.rows[i], raw=None, error=error))


def _shows(raw: int) -> _Change:
    return _rows(lambda recording, i: replace(recording.rows[i], raw=raw))


def _full_scale(recording: Recording, i: int) -> Row:
    """All bits set, as from an unresponsive bus."""
    return replace(recording.rows[i], raw=(recording.scene.source.modulus or 2**32) - 1)


def _truncated(recording: Recording, i: int) -> Row:
    """The first half of the digits."""
    digits = str(recording.rows[i].raw)
    return replace(recording.rows[i], raw=int(digits[: (len(digits) + 1) // 2]))


def _spike(recording: Recording, i: int) -> Row:
    """A wrong value within the device's maximum power."""
    return replace(recording.rows[i], raw=2 * (recording.rows[i].raw or 0))


def _stale(recording: Recording, places: Sequence[int]) -> Recording:
    """Repeat the value of the previous reading."""
    return _shows(_before(recording, places[0]).raw or 0)(recording, places)


def _frozen(recording: Recording, places: Sequence[int]) -> Recording:
    return _from_there_on(_shows(recording.rows[places[0]].raw or 0))(recording, places)


def _backward(recording: Recording, places: Sequence[int]) -> Recording:
    """A value lower than the previous one; if at all readings, the counter runs backward."""
    scene, rows = recording.scene, list(recording.rows)
    for i in places:
        if len(places) > 1:
            past_ns = 2 * rows[len(rows) // 2].at_ns - rows[i].at_ns
        else:
            past_ns = rows[i - 1].at_ns - scene.step_ns
            while scene.raw(past_ns) == rows[i - 1].raw:
                past_ns -= scene.step_ns
        rows[i] = replace(rows[i], raw=scene.raw(past_ns))
    return replace(recording, rows=tuple(rows))


def _reset(recording: Recording, places: Sequence[int]) -> Recording:
    """Restart the count at zero shortly before a reading; at all readings, before each of them."""
    scene, rows, since_ns = recording.scene, list(recording.rows), 0
    for i in range(places[0], len(rows)):
        if i in places:
            since_ns = rows[i].at_ns - scene.step_ns // 3
        raw, modulus = scene.raw(rows[i].at_ns) - scene.raw(since_ns), scene.source.modulus
        rows[i] = replace(rows[i], raw=raw % modulus if modulus else raw)
    return replace(recording, rows=tuple(rows))


# --- time -------------------------------------------------------------------------------------


def _duplicate_stamp(recording: Recording, places: Sequence[int]) -> Recording:
    """Repeat the time stamps of the previous reading; at all readings, at every second one."""
    rows = list(recording.rows)
    for i in places[::-2]:
        other = _before(recording, i)
        rows[i] = replace(rows[i], before_ns=other.before_ns, after_ns=other.after_ns)
    return replace(recording, rows=tuple(rows))


def _slow(least_ns: int, *, late: bool) -> _Change:
    """A reading takes `least_ns`, or three steps; its value is that at its start or at its end.

    Readings due meanwhile are skipped. At all readings, each takes until the next one.
    """

    def broken(recording: Recording, places: Sequence[int]) -> Recording:
        scene, rows = recording.scene, list[Row]()
        for i, row in enumerate(recording.rows):
            if rows and row.before_ns < rows[-1].after_ns:
                continue
            if i in places:
                took_ns = max(least_ns, 3 * scene.step_ns)
                if len(places) > 1:
                    after = recording.rows[min(i + 1, len(recording.rows) - 1)]
                    took_ns = max(scene.cost_ns, after.before_ns - row.before_ns)
                end_ns = row.before_ns + took_ns
                at_ns = end_ns if late else row.before_ns
                row = replace(row, at_ns=at_ns, after_ns=end_ns, raw=scene.raw(at_ns))
            rows.append(row)
        return replace(recording, rows=tuple(rows))

    return broken


def _clock_step(sign: int) -> _Change:
    """Step the clock; at all readings, a little each time. It also stamps the window."""

    def broken(recording: Recording, places: Sequence[int]) -> Recording:
        period_ns = recording.scene.source.update_period_ns or 0
        whole_ns = max(2_000_000_000, 4 * period_ns)
        later = _later(recording, places, sign * whole_ns // len(places))
        rows = [
            replace(row, before_ns=later(row.before_ns), after_ns=later(row.after_ns))
            for row in recording.rows
        ]
        return replace(recording, rows=tuple(rows), window=_moved(recording.window, later))

    return broken


def _several_wraps(recording: Recording, places: Sequence[int]) -> Recording:
    """Readings fail for so long that the counter wraps three times.

    At all readings, there are no attempts between any two of them.
    """
    scene, window = recording.scene, recording.window
    wrap_j = float((scene.source.modulus or 0) * PJ_PER_UNIT[scene.source.unit]) / 1e12
    delay_ns = round(3.3 * wrap_j * (window.end_ns - window.start_ns) / recording.truth_j)
    later = _later(recording, places, delay_ns)
    rows = list[Row]()
    for i, row in enumerate(recording.rows):
        if [i] == list(places):
            for attempt_ns in range(row.before_ns, row.before_ns + delay_ns, _RETRY_NS):
                rows.append(replace(reading(scene, attempt_ns), raw=None, error="EIO"))
        rows.append(reading(scene, later(row.before_ns)))
    longer = _moved(window, later)
    truth_j = scene.waveform.joules(longer.start_ns, longer.end_ns)
    return replace(recording, rows=tuple(rows), window=longer, truth_j=truth_j)


def _before(recording: Recording, i: int) -> Row:
    """The reading before row `i`, even before the first that was kept."""
    if i:
        return recording.rows[i - 1]
    return reading(recording.scene, recording.rows[0].before_ns - recording.scene.step_ns)


def _later(recording: Recording, places: Sequence[int], by_ns: int) -> Callable[[int], int]:
    """Map a time to the shifted time: `by_ns` later for each of the places up to then."""
    moments = [recording.rows[place].before_ns for place in places]
    return lambda time_ns: time_ns + by_ns * sum(moment <= time_ns for moment in moments)


def _moved(window: Window, later: Callable[[int], int]) -> Window:
    return replace(window, start_ns=later(window.start_ns), end_ns=later(window.end_ns))


FAULTS: dict[str, _Change] = {
    "EACCES": _failed("EACCES"),
    "ENOENT": _failed("ENOENT"),
    "EIO": _failed("EIO"),
    "empty": _failed("not a number: b''"),
    "garbage": _failed("not a number: b'????'"),
    "device lost": _from_there_on(_failed("GPU is lost")),
    "zero": _shows(0),
    "zero from there on": _from_there_on(_shows(0)),
    "negative": _shows(-5),
    "huge": _shows(2**63),
    "full scale": _rows(_full_scale),
    "truncated": _rows(_truncated),
    "spike": _rows(_spike),
    "stale": _stale,
    "frozen": _frozen,
    "backward": _backward,
    "reset": _reset,
    "several wraps": _several_wraps,
    "slow read, early value": _slow(700_000_000, late=False),
    "slow read, late value": _slow(700_000_000, late=True),
    "hung read": _slow(8_000_000_000, late=True),
    "duplicate stamp": _duplicate_stamp,
    "clock forward": _clock_step(1),
    "clock back": _clock_step(-1),
}
"""Changes of a recording at the given rows, by name."""
