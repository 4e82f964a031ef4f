"""When sources are read: simulated counters, so that no machine is too busy for it."""

import random

import pytest

from slm_energy.record import Source
from slm_energy.sampler.schedule import POLL_NS, TickTracker, pause_ns, tracker_for

MS = 10**6


def source(kind="counter", summed=True, **more):
    return Source(id="x", kind=kind, domain="gpu", unit="mJ", summed=summed, **more)


class Ticking:
    """A counter whose n-th tick comes at n periods, plus or minus a jitter."""

    def __init__(self, period_ns, jitter=0.0, seed=1):
        chance = random.Random(seed)
        self.period_ns = period_ns
        self.ticks = [
            round(period_ns * (n + chance.uniform(-jitter, jitter))) for n in range(1, 3000)
        ]
        self.now = 0

    def at(self, time_ns):
        while self.ticks[self.now] <= time_ns:
            self.now += 1
        return self.now


def follow(counter, tracker, until_ns, from_ns=0):
    """Read when the tracker says; how often, and (when, how closely) ticks were located."""
    time_ns, last, known = from_ns, None, []
    readings = 0
    while time_ns < until_ns:
        value = counter.at(time_ns)
        tracker.saw(time_ns, value, time_ns)
        if last is not None and value != last[1] and time_ns - last[0] < counter.period_ns:
            known.append((time_ns, time_ns - last[0]))
        readings, last = readings + 1, (time_ns, value)
        time_ns = tracker.next_ns(time_ns)
    return readings, known


@pytest.mark.parametrize("period_ms", [10, 20, 33, 100, 1500])
def test_a_steady_counter_costs_few_readings_and_its_ticks_are_known_closely(period_ms):
    seconds = 30 * max(1, period_ms / 100)
    counter, tracker = Ticking(period_ms * MS), TickTracker(period_ms * MS)
    readings, known = follow(counter, tracker, seconds * 1000 * MS)
    assert readings < 30 * seconds
    assert len(known) > 0.9 * 1000 * seconds / max(200, period_ms)
    late = [width for time, width in known if time > seconds * 500 * MS]
    assert max(late) <= 1.5 * POLL_NS


def test_a_period_that_is_slightly_off_is_learnt():
    counter, tracker = Ticking(103 * MS), TickTracker(100 * MS)
    _, known = follow(counter, tracker, 60_000 * MS)
    assert max(width for time, width in known if time > 30_000 * MS) <= 1.5 * POLL_NS


def test_a_jittery_counter_is_found_again_at_a_bounded_cost():
    counter, tracker = Ticking(100 * MS, jitter=0.15), TickTracker(100 * MS)
    readings, known = follow(counter, tracker, 60_000 * MS)
    assert readings < 60 * 120
    assert len(known) > 250
    assert sorted(width for _, width in known)[len(known) // 2] <= 15 * MS


def test_a_missed_tick_is_looked_for_gently_and_the_lock_comes_back():
    counter, tracker = Ticking(100 * MS), TickTracker(100 * MS)
    # From tick 20 on everything comes half a period late, after a second without any tick.
    counter.ticks = counter.ticks[:20] + [tick + 1050 * MS for tick in counter.ticks[20:]]
    readings, known = follow(counter, tracker, 10_000 * MS)
    assert readings < 10 * 60
    assert max(width for time, width in known if time > 6_000 * MS) <= 1.5 * POLL_NS


def test_a_frozen_counter_is_read_on():
    tracker = TickTracker(100 * MS)
    for time_ns in range(0, 500 * MS, 10 * MS):
        tracker.saw(time_ns, 7, time_ns)
        assert time_ns < tracker.next_ns(time_ns) <= time_ns + 100 * MS


@pytest.mark.parametrize("period_ms", [20, 100])
@pytest.mark.parametrize("locked", [False, True])
def test_a_followed_counter_shows_every_tick_at_once(period_ms, locked):
    counter, tracker = Ticking(period_ms * MS), TickTracker(period_ms * MS)
    until = 1037 * MS if locked else 0
    follow(counter, tracker, until)
    tracker.follow(until)
    readings, known = follow(counter, tracker, until + 10 * period_ms * MS, from_ns=until)
    assert len(known) >= 9
    assert max(width for _, width in known) <= POLL_NS
    assert readings < (100 if locked else 200)
    tracker.relax()
    readings, _ = follow(counter, tracker, until + 2000 * MS, from_ns=until + 1000 * MS)
    assert readings < 50


@pytest.mark.parametrize(
    ("read", "asked_s", "pause_ms"),
    [
        (source(update_period_ns=MS), None, 100),
        (source(update_period_ns=MS), 0.01, 10),
        (source("power", update_period_ns=100 * MS), None, 50),
        (source("power", update_period_ns=25 * MS), None, 20),
        (source("power", summed=False, update_period_ns=25 * MS), None, 100),
        (source("power", update_period_ns=1000 * MS), None, 100),
        (source("power"), None, 100),
        (source("power", update_period_ns=100 * MS), 0.5, 500),
        (source("gauge", update_period_ns=250 * MS), None, 250),
        (source("gauge", update_period_ns=250 * MS), 0.5, 500),
        (source("estimate", update_period_ns=500 * MS), 0.02, 500),
    ],
)
def test_each_kind_of_source_has_its_own_pace(read, asked_s, pause_ms):
    assert pause_ns(read, asked_s) == pause_ms * MS


def test_only_slow_summed_counters_are_tracked_and_only_if_no_period_is_asked_for():
    assert not tracker_for(source(summed=False, update_period_ns=20 * MS), None)
    assert tracker_for(source(update_period_ns=20 * MS), None)
    assert not tracker_for(source(update_period_ns=20 * MS), 0.1)
    assert not tracker_for(source(update_period_ns=5 * MS), None)
    assert not tracker_for(source(), None)
    assert not tracker_for(source("power", update_period_ns=100 * MS), None)


@pytest.mark.parametrize(("period_ns", "tracked"), [(10 * MS, True), (10 * MS - 1, False)])
def test_a_counter_of_ten_milliseconds_is_slow_enough_to_be_tracked(period_ns, tracked):
    assert (tracker_for(source(update_period_ns=period_ns), None) is not None) == tracked


def seen(tracker, *ticks_ms):
    """Let it see ticks that are known to within 1 ms before these moments, in ms."""
    for value, tick_ms in enumerate(ticks_ms, start=1):
        time_ns = round(tick_ms * MS)
        tracker.saw(time_ns - MS, value - 1, time_ns - MS)
        tracker.saw(time_ns, value, time_ns)
    return tracker


def test_the_first_tick_is_looked_for_in_a_tenth_of_the_period_then_before_the_next():
    tracker = TickTracker(100 * MS)
    assert tracker.next_ns(0) == 10 * MS
    seen(tracker, 50)
    # It came between 49 and 50 ms; the margin is half of what it takes to look once.
    assert tracker.next_ns(60 * MS) == 148.5 * MS
    assert tracker.next_ns(149 * MS) == 150 * MS
    assert tracker.next_ns(160 * MS) == 170 * MS


def test_an_eighth_of_a_deviation_is_learnt_and_a_quarter_of_its_size_is_the_spread():
    tracker = seen(TickTracker(100 * MS), 50, 158)
    # The period is 101 ms now, the spread 2 ms, and the margin twice that.
    assert tracker.next_ns(160 * MS) == (157 + 101 - 4) * MS


def test_several_periods_are_learnt_from_as_so_many():
    tracker = seen(TickTracker(100 * MS), 50, 258)
    # Twice 100 ms were 208 ms: each was 4 ms longer, of which an eighth counts.
    assert tracker.next_ns(260 * MS) == (257 + 100.5 - 4) * MS
