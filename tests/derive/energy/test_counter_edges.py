"""What a counter leaves unknown at the edges of a window, and that the interval contains it."""

from dataclasses import replace

import pytest

from slm_energy.derive.energy.usable_readings import Fault
from slm_energy.testing.waveform import constant, stairs
from tests.derive.energy.conftest import (
    BUSY,
    COUNTER,
    MS,
    SLOW,
    WINDOW,
    S,
    change,
    counted,
    followed,
    idle_load_idle,
    refused,
    series,
    serve,
    span,
    times,
)


@pytest.mark.parametrize("step_ms", [10, 70, 333, 500])
def test_the_interval_contains_the_truth_of_a_busy_load(step_ms):
    figure = serve(counted(BUSY, times(step_ms * MS)))
    assert figure.low_j <= BUSY.joules(WINDOW.start_ns, WINDOW.end_ns) <= figure.high_j


@pytest.mark.parametrize("period_ms", [20, 100])
@pytest.mark.parametrize("shift_ms", [0, 13, 50, 99])
def test_the_interval_contains_the_truth_of_a_counter_that_lags(period_ms, shift_ms):
    source = replace(COUNTER, update_period_ns=period_ms * MS)
    at = [t + shift_ms * MS for t in times(30 * MS)]
    published = [BUSY.energy_pj(t // (period_ms * MS) * period_ms * MS) // 10**6 for t in at]
    figure = serve(series(source, at, published))
    assert figure.low_j <= BUSY.joules(WINDOW.start_ns, WINDOW.end_ns) <= figure.high_j


def test_failures_at_an_edge_widen_the_interval():
    whole = counted(constant(50), times())
    broken = whole
    for row in range(8, 13):
        broken = change(broken, row, None)
    assert serve(broken).high_j > serve(whole).high_j
    assert serve(broken).low_j < serve(whole).low_j


@pytest.mark.parametrize(("more_ms", "known"), [(100, False), (109, False), (110, True)])
def test_a_reading_too_soon_after_the_end_may_not_know_the_end(more_ms, known):
    source = replace(COUNTER, update_period_ns=100 * MS)
    at = [*times(until_ns=6 * S), WINDOW.end_ns - 1, WINDOW.end_ns + more_ms * MS]
    figure = serve(counted(constant(50), at, source))
    assert known or refused(figure).startswith(Fault.EARLY)
    assert known == (figure.joules is not None)


def test_a_new_value_is_newer_than_the_reading_before_it():
    source = replace(COUNTER, update_period_ns=100 * MS)
    at = [*times(until_ns=6 * S), WINDOW.end_ns, WINDOW.end_ns + 1 * MS]
    assert serve(counted(constant(50), at, source)).joules is not None
    at[-2] -= 1
    assert refused(serve(counted(constant(50), at, source))).startswith(Fault.EARLY)


@pytest.mark.parametrize("end_ms", range(1500, 1600, 7))
def test_idle_load_idle_has_no_bias_where_the_start_is_aligned(end_ms):
    # 100 ms counter, 1 s window: reading off the last values at both edges is 3.8 % low on average.
    window = span(S // 2 + MS, S + end_ms * MS - S // 2 + MS)
    waveform = idle_load_idle(window)
    truth = waveform.joules(window.start_ns, window.end_ns)
    figure = serve(followed(waveform, window, first_ns=-S // 2), window)
    assert figure.joules == pytest.approx(truth, rel=0.001)
    assert figure.low_j <= truth <= figure.high_j


def test_ten_seconds_are_known_to_two_permille_between_ticks_and_to_one_percent_without():
    aligned = span(S + 500 * MS + MS, 11 * S + 500 * MS + MS)
    figure = serve(followed(constant(200), aligned), aligned)
    assert figure.high_j - figure.low_j <= 0.002 * figure.joules
    half_way = span(S + 500 * MS + MS, 11 * S + 550 * MS)
    figure = serve(followed(constant(200), half_way), half_way)
    assert 0.004 * figure.joules <= figure.high_j - figure.low_j <= 0.01 * figure.joules


def test_the_pedigree_tells_what_is_unknown_at_each_edge():
    window = span(S + 500 * MS + MS, 11 * S + 550 * MS)
    figure = serve(followed(constant(200), window), window)
    pedigree = figure.pedigree
    # The start is 0.5 to 1.5 ms after a tick: power is between 50 W and 600 W there.
    assert pedigree["edge_start_j"] == pytest.approx(0.6 * 1.5 - 0.05 * 0.5 + 0.001, rel=0.02)
    # The end is half way between two ticks that are 20 J apart, and 50 W are certain enough.
    assert pedigree["edge_end_j"] == pytest.approx(20 - 0.05 * 100, rel=0.02)
    edges_j = pedigree["edge_start_j"] + pedigree["edge_end_j"]
    assert figure.high_j - figure.low_j == pytest.approx(edges_j)
    # What is certain without a greatest power is a tick at each edge.
    certain_j = pedigree["certain_high_j"] - pedigree["certain_low_j"]
    assert certain_j == pytest.approx(40, rel=0.01)
    assert pedigree["certain_low_j"] <= figure.low_j <= figure.high_j <= pedigree["certain_high_j"]
    assert pedigree["update_period_measured"] is False
    assert (pedigree["kind"], pedigree["interval"]) == ("counter", "practical")
    assert pedigree["estimator"] == (
        "counter, one change of power between two publications at each edge"
    )


def test_a_greatest_power_narrows_what_is_certain():
    window = span(S + 500 * MS + MS, 11 * S + 500 * MS + MS)
    source = replace(SLOW, max_power_w=800.0)
    pedigree = serve(followed(constant(200), window, source=source), window).pedigree
    certain_j = pedigree["certain_high_j"] - pedigree["certain_low_j"]
    assert certain_j == pytest.approx(2 * (0.8 * 1.5 + 0.001), rel=0.01)


def test_a_counter_of_unknown_period_is_as_stale_as_it_was_seen_to_be():
    source = replace(SLOW, update_period_ns=None)
    window = span(S + 550 * MS, 11 * S + 550 * MS)
    readings = replace(followed(idle_load_idle(window), window), source=source)
    figure = serve(readings, window)
    truth = idle_load_idle(window).joules(window.start_ns, window.end_ns)
    assert figure.low_j <= truth <= figure.high_j
    assert figure.joules == pytest.approx(truth, rel=0.001)


def test_a_value_that_stands_at_an_edge_is_older_than_the_update_period_says():
    at = [*times(until_ns=6 * S), *range(6 * S, 8 * S, 10 * MS)]
    raw = list(counted(constant(50), at).raw)
    stale = at.index(6 * S + 40 * MS)
    # Five readings show the value of 40 ms past, until 20 ms after the window's end.
    raw[stale : stale + 6] = [raw[stale]] * 6
    figure = serve(series(COUNTER, at, raw), span(S, 6 * S + 70 * MS))
    assert figure.low_j <= 50 * 5.07 <= figure.high_j


def test_a_value_that_stands_from_the_end_on_tells_nothing_of_the_end():
    at = [*times(until_ns=6 * S), *range(6 * S, 6 * S + 200 * MS, 10 * MS)]
    raw = [min(value, 50 * 6 * 10**6) for value in counted(constant(50), at).raw]
    reason = refused(serve(series(COUNTER, at, raw), span(S, 6 * S + 70 * MS)))
    assert reason == "frozen: the counter was stuck at an edge of the window"


def test_a_slow_reading_widens_the_interval():
    whole = counted(constant(50), times())
    slow = replace(whole, after_ns=(*whole.after_ns[:10], 1_090 * MS, *whole.after_ns[11:]))
    for readings in (whole, slow):
        figure = serve(readings, span(1_095 * MS, 6 * S))
        assert figure.low_j <= 50 * 4.905 <= figure.high_j
    assert (
        figure.pedigree["edge_start_j"]
        > serve(whole, span(1_095 * MS, 6 * S)).pedigree["edge_start_j"]
    )


def test_three_publications_on_each_side_tell_what_power_may_be():
    # 50 W, but 500 W from 0.7 s to 0.8 s: the third publication before a window at 1 s shows it.
    curve = stairs([(0, 50_000), (700 * MS, 500_000), (800 * MS, 50_000)])
    source = replace(COUNTER, update_period_ns=0)
    near, far = (
        serve(counted(curve, times(), source), span(S + ms * MS + 10 * MS, 6 * S))
        for ms in (-100, 0)
    )
    assert near.pedigree["edge_start_j"] > far.pedigree["edge_start_j"]
    assert far.pedigree["edge_start_j"] == pytest.approx(150 * 0.01 - 12.5 * 0.01, rel=0.01)


def test_one_unit_more_is_a_new_publication():
    # 1 mJ each 100 ms, but 100 mJ before 0.3 s: far from the edge, so that it does not matter.
    source = replace(SLOW, update_period_ns=0)
    raw = [t // (100 * MS) + (100 if t >= 300 * MS else 0) for t in times()]
    figure = serve(series(source, times(), raw), span(S + 10 * MS, 6 * S))
    # Between a quarter of 10 mW and 30 mW for 10 ms, and the 1 mJ that is rounded off.
    assert figure.pedigree["edge_start_j"] == pytest.approx(0.001 + 0.0003 - 0.000025)


def test_what_is_certain_just_before_ticks():
    window = span(S + 598 * MS, 11 * S + 598 * MS)
    source = replace(SLOW, max_power_w=800.0)
    pedigree = serve(followed(constant(200), window, source=source), window).pedigree
    # A tick follows in 1.5 to 2.5 ms: at 800 W it takes at most 2 J to get there.
    assert pedigree["certain_low_j"] == pytest.approx(2000 - 2 - 0.001)
    assert pedigree["certain_high_j"] == pytest.approx(2000 + 2 + 0.001)


def test_a_longer_stand_makes_values_older():
    # Renewed every 40 ms though said to be renewed every 10 ms: edges are known worse.
    at = times(10 * MS)
    source = replace(COUNTER, update_period_ns=10 * MS)
    every = {ms: [50 * (t // (ms * MS)) * ms * 1000 for t in at] for ms in (10, 40)}
    figures = {ms: serve(series(source, at, every[ms]), span(1005 * MS, 6015 * MS)) for ms in every}
    for figure in figures.values():
        assert figure.low_j <= 50 * 5.01 <= figure.high_j
    assert figures[40].pedigree["edge_end_j"] > 1.5 * figures[10].pedigree["edge_end_j"]


@pytest.mark.parametrize(
    ("stood_ms", "stale_ms"), [(500, 1.1), (2000, 80), (3500, 80), (4500, 1.1)]
)
def test_a_value_near_an_edge_may_be_as_old_as_one_was_seen_to_become(stood_ms, stale_ms):
    # Two more readings show that a value stood for 80 ms. Three publications on each side count.
    at = sorted([*times(500 * MS), (stood_ms + 40) * MS, (stood_ms + 80) * MS])
    raw = [50 * (t // (500 * MS)) * 500_000 for t in at]
    source = replace(COUNTER, modulus=None, max_power_w=None)
    figure = serve(series(source, at, raw), span(2510 * MS, 6510 * MS))
    # 150 W since the value was published at the earliest, a quarter of 50 W since it was read; the
    # least power seen is cautious: 25 J within 500 ms and the time that a value may be stale.
    most_j, least_j = 0.150 * (10 + stale_ms), 25 / (500 + stale_ms) / 4 * 10
    assert figure.pedigree["edge_start_j"] == pytest.approx(most_j - least_j, abs=2e-6)


def test_values_that_stand_until_the_first_new_one_after_the_end():
    at = [*times(until_ns=6 * S), 6010 * MS, 6050 * MS, 6090 * MS, 6130 * MS, 6170 * MS]
    raw = [50 * t // 1000 for t in at[:-5]] + [300_500_000] * 3 + [306_500_000, 308_500_000]
    figure = serve(series(COUNTER, at, raw), span(S, 6020 * MS))
    # It stood for 80 ms, so that a new value is no older than the reading before it, and the
    # value seen at 6.01 s may be as old as 5.93 s: but not older than the reading at 5.9 s.
    assert figure.low_j <= 251 <= figure.high_j
    assert figure.pedigree["edge_end_j"] > 2


def test_no_interval_of_a_counter_begins_below_zero():
    window = span(S + 550 * MS, S + 650 * MS)
    figure = serve(followed(constant(0.01), window), window)
    assert figure.joules == pytest.approx(0.001)
    assert figure.low_j == figure.pedigree["certain_low_j"] == 0
