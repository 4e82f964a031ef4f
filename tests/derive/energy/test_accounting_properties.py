"""What must hold for every load: properties of the accounting, and coverage in a reduced form."""

import itertools
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slm_energy.derive.energy.accounting import account, total
from slm_energy.record import Series, Source, Window
from slm_energy.testing.scenes import Scene, record
from slm_energy.testing.waveform import Waveform
from tests.benchmark import load

S, MS = 10**9, 10**6
MODULUS = 262_143_328_851
coverage = load("coverage")
given_few = settings(derandomize=True, max_examples=40, deadline=None, database=None)

EXACT = Source(
    id="counter",
    kind="counter",
    domain="gpu",
    unit="uJ",
    modulus=MODULUS,
    update_period_ns=0,
    max_power_w=2000.0,
    summed=True,
)
"""Always up to date, so that a reading is the truth at its moment."""

# Powers in mW for 100 ms each: every reading is a whole number of uJ.
loads = st.lists(st.integers(1, 400).map(lambda w: w * 1000), min_size=70, max_size=70)
tenths = st.integers(10, 60)
windows = st.tuples(tenths, tenths).filter(lambda pair: pair[0] != pair[1]).map(sorted)
moments = st.integers(1 * S, 6 * S)


def waveform(powers):
    return Waveform(steps=tuple((100 * MS, power) for power in powers))


def read(powers, *, source=EXACT, first=0, offset_ns=0, every=1, keep=frozenset()):
    """Readings of every so manyth tenth of a second, and of those in `keep`."""
    at = [t for t in range(71) if t % every == 0 or t in keep]
    curve = waveform(powers)
    raw = [(first + curve.energy_pj(t * 100 * MS) // 10**6) % MODULUS for t in at]
    stamps = tuple(t * 100 * MS + offset_ns for t in at)
    return Series(source=source, before_ns=stamps, raw=tuple(raw), after_ns=stamps)


def joules(readings, start_ns, end_ns):
    window = Window(name="serve", start_ns=start_ns, end_ns=end_ns)
    return account(readings, window, max_gap_ns=2 * S)


def tenth(number):
    return number * 100 * MS


@given_few
@given(loads, windows)
def test_a_window_between_two_readings_has_the_integral_exactly(powers, pair):
    start_ns, end_ns = map(tenth, pair)
    figure = joules(read(powers), start_ns, end_ns)
    assert figure.joules == waveform(powers).joules(start_ns, end_ns)
    assert figure.low_j <= figure.joules <= figure.high_j


@given_few
@given(loads, windows, st.integers(0, MODULUS - 1))
def test_where_the_counter_wraps_does_not_matter(powers, pair, first):
    start_ns, end_ns = (tenth(t) + 1 for t in pair)
    here, there = (joules(read(powers, first=f), start_ns, end_ns) for f in (0, first))
    assert (here.low_j, here.joules, here.high_j) == (there.low_j, there.joules, there.high_j)


@given_few
@given(loads, windows, st.integers(2, 9))
def test_the_sampling_grid_does_not_matter_where_edges_are_read(powers, pair, every):
    start_ns, end_ns = map(tenth, pair)
    figure = joules(read(powers, every=every, keep=frozenset(pair)), start_ns, end_ns)
    assert figure.joules == joules(read(powers), start_ns, end_ns).joules


@given_few
@given(loads, moments, moments, st.integers(0, 2 * 10**9 * S))
def test_time_has_no_origin(powers, one, other, offset_ns):
    start_ns, end_ns = sorted((one, other + 1))
    here = joules(read(powers), start_ns, end_ns)
    there = joules(read(powers, offset_ns=offset_ns), start_ns + offset_ns, end_ns + offset_ns)
    assert (here.low_j, here.joules, here.high_j) == (there.low_j, there.joules, there.high_j)


@given_few
@given(loads, st.lists(moments, min_size=3, max_size=3, unique=True).map(sorted))
def test_adjacent_windows_add_up(powers, edges):
    begin, middle, end = edges
    readings = read(powers)
    left, right, whole = (
        joules(readings, *pair) for pair in ((begin, middle), (middle, end), (begin, end))
    )
    assert left.joules + right.joules == pytest.approx(whole.joules, rel=1e-12)


@given_few
@given(loads, windows, tenths.map(tenth))
def test_adjacent_windows_that_meet_at_a_reading_add_up_exactly(powers, pair, middle_ns):
    begin, end = map(tenth, pair)
    if begin < middle_ns < end:
        readings = read(powers)
        left = joules(readings, begin, middle_ns).joules * 10**6
        right = joules(readings, middle_ns, end).joules * 10**6
        assert round(left) + round(right) == round(joules(readings, begin, end).joules * 10**6)


@given_few
@given(loads, st.lists(moments, min_size=4, max_size=4, unique=True).map(sorted))
def test_a_window_within_a_window_has_no_more_energy(powers, edges):
    readings = read(powers)
    inner = joules(readings, edges[1], edges[2])
    outer = joules(readings, edges[0], edges[3])
    assert 0 < inner.joules <= outer.joules


@given_few
@given(loads, windows, st.integers(2, 4))
def test_energy_scales_with_power(powers, pair, factor):
    start_ns, end_ns = (tenth(t) + 7 for t in pair)
    source = replace(EXACT, max_power_w=None)
    once = joules(read(powers, source=source), start_ns, end_ns)
    more = joules(read([factor * power for power in powers], source=source), start_ns, end_ns)
    assert more.joules == pytest.approx(factor * once.joules, rel=1e-12)
    assert more.high_j - more.low_j == pytest.approx(factor * (once.high_j - once.low_j), abs=1e-5)


@given_few
@given(loads, windows)
def test_power_is_no_less_exact_on_its_own_lines(powers, pair):
    source = Source(id="power", kind="power", domain="gpu", unit="mW")
    stamps = tuple(map(tenth, range(70)))
    readings = Series(source=source, before_ns=stamps, raw=tuple(powers), after_ns=stamps)
    begin, end = pair
    knots = powers[begin : end + 1]
    area_mj = sum(100 * (p0 + p1) for p0, p1 in itertools.pairwise(knots)) / 2000
    assert joules(readings, tenth(begin), tenth(end)).joules == pytest.approx(area_mj / 1000)


@given_few
@given(st.permutations(range(4)), st.lists(loads, min_size=4, max_size=4))
def test_the_order_of_devices_does_not_matter(order, devices):
    figures = [
        joules(read(powers, source=replace(EXACT, id=str(i))), S + 5, 5 * S)
        for i, powers in enumerate(devices)
    ]
    one, other = total(figures), total([figures[i] for i in order])
    assert (one.low_j, one.joules, one.high_j) == (other.low_j, other.joules, other.high_j)


@given_few
@given(loads, loads)
def test_a_device_that_fails_spoils_itself_and_the_total_only(powers, others):
    good = read(powers)
    bad = replace(read(others, source=replace(EXACT, id="bad")), raw=(None,) * 71)
    alone = joules(good, S, 5 * S)
    beside = [joules(series, S, 5 * S) for series in (good, bad)]
    assert beside[0] == alone
    assert beside[1].joules is None
    assert total(beside).joules is None
    assert total([alone]).joules == alone.joules


# --- coverage ---------------------------------------------------------------------------------

SENSORS = {sensor.name: sensor for sensor in coverage.SENSORS}


@pytest.mark.parametrize("family", coverage.FAMILIES)
def test_the_truth_lies_in_the_interval(family):
    rng = random.Random(f"coverage {family}")
    covered = [
        each
        for sensor in coverage.SENSORS
        for each in coverage.run(sensor, coverage.FAMILIES[family], 6, rng).covered
    ]
    assert sum(covered) >= 0.95 * len(covered)


IMPERFECT = {
    "20 ms, late": {"lag_ns": 0, "lag_error_ns": 0},
    "power, late": {"lag_ns": 0, "lag_error_ns": 0},
    "counter, 25 of 100": {"averaging_ns": 0},
    "wall power, late": {"lag_ns": 0, "lag_error_ns": 0},
    "RAPL, filtered": {"step_noise_pct": 0.0},
}
"""Sensors, and what their sources would state if nobody knew of the imperfection."""


@pytest.mark.parametrize("name", IMPERFECT)
def test_the_interval_of_an_imperfect_sensor_holds_the_truth_because_it_knows(name):
    sensor, covered, unaware = SENSORS[name], [], []
    ignorant = replace(sensor.source, **IMPERFECT[name])
    for family in ("idle-load-idle", "10 Hz, shifted", "decode bursts"):
        for number in range(8):
            for source, results in ((sensor.source, covered), (ignorant, unaware)):
                rng = random.Random(f"{name} {family} {number}")
                seen, truth_j = coverage.figure_of(
                    sensor, coverage.FAMILIES[family], rng, stated=source
                )
                results.append(seen.low_j <= truth_j <= seen.high_j)
    assert sum(covered) >= 23
    assert sum(unaware) < 0.9 * len(unaware)


@pytest.mark.parametrize(
    ("name", "widest_pct"),
    [("1 ms, marked", 0.1), ("100 ms, aligned", 1.0), ("100 ms", 2.0), ("20 ms", 1.0)],
)
@pytest.mark.parametrize("family", ["constant", "decode bursts", "idle-load-idle"])
def test_intervals_of_ten_seconds_are_useful(name, widest_pct, family):
    rng = random.Random(f"width {name}")
    row = coverage.run(SENSORS[name], coverage.FAMILIES[family], 20, rng)
    assert max(row.widths_pct) <= widest_pct


@pytest.mark.parametrize(("step_mj", "widest_j"), [(3_600, 30), (10_800, 50)])
def test_a_counter_of_coarse_steps_does_not_hide_what_it_has_not_yet_shown(step_mj, widest_j):
    # A renewal brings 2 to 5 J: less than a step, or a fraction of one.
    scene = Scene(
        name="wall meter",
        source=Source(
            id="wall/energy",
            kind="counter",
            domain="wall",
            unit="mJ",
            update_period_ns=50 * MS,
            quantum=step_mj,
        ),
        waveform=Waveform(steps=((200 * MS, 40_000), (100 * MS, 100_000))),
        window=Window(name="serve", start_ns=5 * S, end_ns=7 * S),
        step_ns=20 * MS,
    )
    for seed in range(300):
        begin = 5 * S + seed * 7 * MS
        moved = replace(scene, window=Window(name="serve", start_ns=begin, end_ns=begin + 2 * S))
        figure = account(record(moved, spare=18, seed=seed).series, moved.window, max_gap_ns=S)
        truth = scene.waveform.joules(begin, begin + 2 * S)
        assert not figure.reasons
        assert figure.low_j <= truth <= figure.high_j
        assert figure.pedigree["certain_low_j"] <= truth <= figure.pedigree["certain_high_j"]
        assert figure.high_j - figure.low_j < widest_j
