"""Joules of power samples: integration, lag, averaging, noise and gaps."""

import math
import statistics
from dataclasses import replace

import pytest

from slm_energy.derive.energy.usable_readings import Fault
from slm_energy.record import Window
from slm_energy.testing.waveform import Waveform, constant
from tests.derive.energy.conftest import (
    BUSY,
    MS,
    POWER,
    WINDOW,
    S,
    change,
    idle_load_idle,
    powered,
    refused,
    series,
    serve,
    span,
    times,
)


def test_constant_power_is_exact():
    assert serve(powered(constant(70), times())).joules == 70 * WINDOW.duration_s


def test_a_ramp_is_exact_between_samples():
    figure = serve(series(POWER, times(), [t // MS for t in times()]), span(S, 6 * S))
    assert figure.joules == 17.5


def test_the_interval_of_power_contains_half_a_milliwatt_and_no_gain():
    source = replace(POWER, gain_pct=5.0)
    figure = serve(powered(constant(70), times(), source))
    half_j = 0.0005 * WINDOW.duration_s
    assert figure.low_j == pytest.approx(figure.joules - half_j)
    assert figure.high_j == pytest.approx(figure.joules + half_j)


def test_the_interval_of_power_contains_half_a_step_of_the_sensor():
    source = replace(POWER, unit="W", resolution=0.5)
    figure = serve(series(source, times(), [70.5 for _ in times()]))
    assert figure.joules == 70.5 * WINDOW.duration_s
    assert figure.high_j - figure.joules == pytest.approx(0.25 * WINDOW.duration_s)


def test_the_interval_of_power_contains_a_step_at_the_edge():
    step = Waveform(steps=((WINDOW.start_ns, 60_000), (100 * S, 300_000)))
    figure = serve(powered(step, times()))
    assert figure.low_j <= step.joules(WINDOW.start_ns, WINDOW.end_ns) <= figure.high_j


def test_polls_of_one_publication_are_one_sample():
    source = replace(POWER, update_period_ns=500 * MS)
    raw = [BUSY.power_mw(t // (500 * MS) * 500 * MS) for t in times()]
    assert serve(series(source, times(), raw)).pedigree["samples"] < 15


def test_a_gap_in_power_is_refused():
    readings = powered(constant(70), times())
    for row in range(20, 35):
        readings = change(readings, row, None)
    assert refused(serve(readings)).startswith("gap: no power is known for 1.6 s")


def test_power_needs_readings_on_both_sides():
    late, early = powered(constant(70), times()[11:]), powered(constant(70), times(until_ns=6 * S))
    assert refused(serve(late)).startswith(Fault.LATE)
    assert refused(serve(early)).startswith(Fault.EARLY)


def test_power_needs_two_readings_inside():
    window = Window(name="serve", start_ns=S, end_ns=S + 50 * MS)
    assert "window too short: fewer than two" in refused(
        serve(powered(constant(70), times()), window)
    )


def test_power_of_zero_is_no_figure():
    assert refused(serve(powered(constant(0), times()))) == (
        "no power: the sensor read 0 W, which no device that is on draws"
    )


def test_more_power_than_the_device_can_draw_is_a_failed_reading():
    source = replace(POWER, max_power_w=400.0)
    figure = serve(change(powered(constant(70), times(), source), 30, 10**9))
    assert figure.joules == pytest.approx(70 * WINDOW.duration_s)


def test_an_averaged_value_describes_the_time_before_it():
    source = replace(POWER, averaging_ns=S)
    ramp = series(source, times(), [t // MS for t in times()])
    # A mean over 1 s that grows by 1 W/s is the power of half a second before.
    assert serve(ramp, span(S, 6 * S)).joules == pytest.approx(17.5 + 2.5, abs=0.06)


def test_a_stale_value_describes_a_moment_before_it():
    source = replace(POWER, update_period_ns=100 * MS)
    ramp = series(source, times(), [t // MS for t in times()])
    # Each is new, so it was published after the reading before: 50 ms ago on average.
    assert serve(ramp, span(S, 6 * S)).joules == pytest.approx(17.5 + 5 * 0.05, abs=0.006)


def test_the_half_width_of_power_is_noise_and_edges():
    rhythm = [100_000, 300_000]
    readings = series(POWER, times(), [rhythm[t // (100 * MS) % 2] for t in times()])
    figure = serve(readings, span(1050 * MS, 6050 * MS))
    # 49 differences of 200 W over 100 ms; the standard error is the root of half their squares.
    noise_j = 2 * math.sqrt(49 / 2) * 200 * 0.1
    assert figure.pedigree["noise_j"] == pytest.approx(noise_j)
    # At each edge power may have changed by 200 W within the 50 ms that a sample is held.
    assert figure.pedigree["edge_start_j"] == pytest.approx(2 * 200 * 0.05)
    assert figure.pedigree["edge_end_j"] == pytest.approx(2 * 200 * 0.05)
    half_j = noise_j + 20 + 0.0005 * 5
    assert figure.high_j - figure.joules == pytest.approx(half_j)
    assert figure.joules - figure.low_j == pytest.approx(half_j)
    assert figure.pedigree["samples"] == 50
    assert figure.pedigree["averaging_s"] == 0
    assert figure.pedigree["gain_pct"] == 0
    assert figure.pedigree["estimator"].startswith("power, trapezoidal")


def test_an_average_smears_a_change_at_an_edge():
    source = replace(POWER, averaging_ns=S, update_period_ns=100 * MS)
    window = span(2 * S, 6 * S)
    waveform = idle_load_idle(window)
    raw = [(waveform.energy_pj(t) - waveform.energy_pj(t - S)) // S for t in times()]
    figure = serve(series(source, times(), raw), window)
    truth = waveform.joules(window.start_ns, window.end_ns)
    assert figure.low_j <= truth <= figure.high_j
    # 240 W over 1 s, of which an eighth is lost and a quarter allowed; and a tenth for what is
    # too fast to be seen, of the 180 W that are shown at the edge.
    assert figure.joules == pytest.approx(truth - 2 * 240 / 8, rel=0.01)
    assert figure.pedigree["edge_start_j"] == pytest.approx(2 * (240 / 4 + 18), rel=0.05)
    assert figure.pedigree["edge_end_j"] == pytest.approx(2 * (240 / 4 + 18), rel=0.05)


def test_a_sensor_that_looks_part_of_the_time_may_be_in_step_with_the_load():
    at = times(100 * MS, until_ns=8 * S + 1)
    raw = [300_000 if t // (800 * MS) % 2 else 100_000 for t in at]
    blind = replace(POWER, averaging_ns=25 * MS, update_period_ns=100 * MS)
    seeing = replace(blind, averaging_ns=100 * MS)
    figures = [serve(series(source, at, raw), span(S, 7 * S)) for source in (blind, seeing)]
    assert figures[0].pedigree["noise_j"] > 2.5 * figures[1].pedigree["noise_j"]


def test_a_sensor_of_moments_is_not_blind():
    at = times(100 * MS, until_ns=8 * S + 1)
    readings = series(POWER, at, [300_000 if t // (800 * MS) % 2 else 100_000 for t in at])
    renewed = replace(readings, source=replace(POWER, update_period_ns=MS))
    noise_j = [serve(each, span(S, 7 * S)).pedigree["noise_j"] for each in (readings, renewed)]
    assert noise_j[1] == pytest.approx(noise_j[0])


def test_few_samples_of_a_sensor_that_looks_part_of_the_time_are_a_batch_each():
    source = replace(POWER, averaging_ns=25 * MS, update_period_ns=100 * MS)
    raw = [70_000 + t // (100 * MS) % 2 * 1000 for t in times()]
    figure = serve(series(source, times(), raw), span(S, S + 150 * MS))
    assert figure.pedigree["samples"] == 2
    # The standard deviation of 70 W and 71 W is 1 W over the root of 2.
    assert figure.pedigree["noise_j"] == pytest.approx(3 * 0.5 * 0.15)


def test_three_standard_errors_of_eight_batches():
    at = [t * 100 * MS for t in range(100)]
    powers = [100_000 + 1000 * ((t // 10) % 2) + t % 2 for t in range(100)]
    source = replace(POWER, averaging_ns=25 * MS, update_period_ns=100 * MS)
    readings = series(source, at, powers)
    begin, end = 912, 8900
    figure = serve(readings, span(begin * MS, end * MS))
    assert figure.pedigree["samples"] == 80
    means_w = [100 + (t % 2) for t in range(8)]
    noise_j = 3 * statistics.stdev(means_w) / math.sqrt(8) * (end - begin) / 1000
    assert figure.pedigree["noise_j"] == pytest.approx(noise_j)


def test_power_that_never_changes_is_flagged():
    assert serve(powered(constant(70), times())).flags == (
        "every sample was 70 W: steady power, or a sensor that hangs",
    )
    few = span(S, S + 850 * MS)
    assert serve(powered(constant(70), times()), few).flags == ()
    assert serve(powered(constant(70), times()), span(S, S + 900 * MS)).flags != ()
    assert serve(powered(BUSY, times())).flags == ()


def test_constant_power_is_sampled_as_often_as_it_is_published():
    source = replace(POWER, update_period_ns=250 * MS)
    assert serve(powered(constant(70), times(), source)).pedigree["samples"] in (12, 13, 17)


def test_power_may_have_a_gap_as_long_as_the_limit():
    readings = powered(constant(70), times())
    for row in range(20, 29):
        readings = change(readings, row, None)
    assert serve(readings).joules == pytest.approx(70 * WINDOW.duration_s)
    assert refused(serve(change(readings, 29, None))).startswith(Fault.GAP)


def test_two_samples_are_enough():
    figure = serve(powered(constant(70), times()), span(S, S + 100 * MS))
    assert figure.joules == pytest.approx(7)


def test_the_outer_samples_inside_are_held():
    raw = [t // MS for t in times()]
    figure = serve(series(POWER, times(), raw), span(1050 * MS, 6050 * MS))
    assert figure.joules == pytest.approx((6**2 - 1.1**2) / 2 + 0.05 * 1.1 + 0.05 * 6)
    # A sample is 100 mW away from its neighbour beyond the edge.
    assert figure.pedigree["edge_start_j"] == pytest.approx(2 * 0.1 * 0.05)
    assert figure.pedigree["edge_end_j"] == pytest.approx(2 * 0.1 * 0.05)


def test_averaging_smears_what_changes_within_its_time_around_an_edge():
    source = replace(POWER, averaging_ns=S)
    ramp = series(source, times(until_ns=12 * S), [t // MS for t in times(until_ns=12 * S)])
    figure = serve(ramp, span(3 * S, 8 * S))
    # 2 W from a second before to a second after, and a tenth of what is shown before the edge.
    assert figure.pedigree["edge_start_j"] == pytest.approx(2 * (2 / 4 + 0.34))
    assert figure.pedigree["edge_end_j"] == pytest.approx(2 * (2 / 4 + 0.85))
    assert figure.pedigree["averaging_s"] == 1


def test_very_little_power_is_not_none():
    figure = serve(series(POWER, times(), [1 for _ in times()]), span(S, 6 * S))
    assert figure.joules == 0.005
    assert (figure.low_j, figure.high_j) == (0.0025, 0.0075)


def test_no_interval_of_power_begins_below_zero():
    readings = series(POWER, times(), [300 if t % (200 * MS) else 1 for t in times()])
    assert serve(readings, span(S, S + 300 * MS)).low_j == 0


@pytest.mark.parametrize(
    ("unit", "raw", "resolution", "half_w"),
    [("mW", 70_000, 100, 0.05), ("mW", 70_000, None, 0.0005), ("W", 70.0, None, 0.0005)],
)
def test_rounding_is_half_a_step(unit, raw, resolution, half_w):
    source = replace(POWER, unit=unit, resolution=resolution)
    figure = serve(series(source, times(), [raw for _ in times()]), span(S, 6 * S))
    assert figure.high_j - figure.joules == pytest.approx(half_w * 5)


def test_a_change_next_to_an_edge_is_smeared_however_short_the_average():
    source = replace(POWER, averaging_ns=20 * MS)
    raw = [100_000 if t < S else 300_000 for t in times()]
    figure = serve(series(source, times(), raw), span(950 * MS, 6 * S))
    # 200 W within the 40 ms to the first sample inside, a quarter of it over 20 ms, and a tenth of
    # the 100 W before the edge.
    half_j = 200 * 0.04 + (200 / 4 + 10) * 0.02
    assert figure.pedigree["edge_start_j"] == pytest.approx(2 * half_j)


def test_the_last_reading_of_all_may_describe_a_moment_inside_the_window():
    source = replace(POWER, update_period_ns=100 * MS)
    ramp = series(source, times(), [t // MS for t in times()])
    figure = serve(ramp, span(S, 7890 * MS))
    assert figure.pedigree["samples"] == 69
    assert figure.pedigree["edge_end_j"] == 0


def test_the_first_value_of_all_was_published_before_it_was_read():
    source = replace(POWER, update_period_ns=100 * MS)
    ramp = series(source, times(), [t // MS + 1 for t in times()])
    # The second one was published between both readings.
    assert serve(ramp, span(20 * MS, 1020 * MS)).pedigree["samples"] == 10


def test_an_equal_value_is_new_when_the_last_one_would_be_too_old():
    # Stale after 100 ms and after 99 ms: the reading 100 ms later may, and must, be a new one.
    for period_ns, samples in ((90_909_091, 25), (90_000_000, 50)):
        source = replace(POWER, update_period_ns=period_ns)
        figure = serve(powered(constant(70), times(), source), span(S + MS, 6 * S + MS))
        assert figure.pedigree["samples"] == samples
