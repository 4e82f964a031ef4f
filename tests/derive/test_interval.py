"""An energy with two intervals: sums, shares, differences, names."""

import dataclasses

import pytest

from slm_energy.derive.interval import Interval
from slm_energy.record import EnergyFigure

FIGURE = EnergyFigure(
    source_id="rapl/0",
    domain="cpu_package",
    kind="counter",
    window="serve",
    joules=100.0,
    low_j=98.0,
    high_j=103.0,
    summed=True,
    low_with_gain_j=93.1,
    high_with_gain_j=108.15,
)
SERVE = Interval(best=100.0, bounds=(98.0, 103.0), with_gain=(93.1, 108.15))
IDLE = Interval(best=40.0, bounds=(39.0, 42.0), with_gain=(37.05, 44.1))


def test_a_figure_has_both_intervals():
    assert Interval.of(FIGURE) == SERVE


@pytest.mark.parametrize("end", ["joules", "low_j", "high_j"])
def test_a_figure_without_joules_or_bounds_is_unknown(end):
    assert Interval.of(dataclasses.replace(FIGURE, **{end: None})) is None


@pytest.mark.parametrize("end", ["low_with_gain_j", "high_with_gain_j"])
def test_an_unknown_gain_leaves_the_first_interval(end):
    found = Interval.of(dataclasses.replace(FIGURE, **{end: None}))
    assert found == Interval(best=100.0, bounds=(98.0, 103.0), with_gain=None)


def test_intervals_add():
    assert Interval.total([SERVE, IDLE]) == Interval(
        best=140.0,
        bounds=(137.0, 145.0),
        with_gain=(pytest.approx(130.15), pytest.approx(152.25)),
    )
    unknown = dataclasses.replace(IDLE, with_gain=None)
    assert Interval.total([SERVE, unknown]).with_gain is None
    assert Interval.total([SERVE, unknown]).bounds == (137.0, 145.0)


def test_a_share_divides_everything():
    assert SERVE.per(4) == Interval(
        best=25.0, bounds=(24.5, 25.75), with_gain=(93.1 / 4, 108.15 / 4)
    )
    assert Interval(best=1.0, bounds=None, with_gain=None).per(2) == Interval(
        best=0.5, bounds=None, with_gain=None
    )


def test_sampling_errors_subtract_crosswise_and_gain_is_shared():
    net = SERVE.less(IDLE, 2.0)
    assert net.best == 20.0
    assert net.bounds == (98 - 2 * 42, 103 - 2 * 39)
    # 5 % of 98 J down and of 2 x 39 J up: 1 J less, not 8.8; of 103 J and 2 x 42 J: 0.95 J more.
    assert net.with_gain == pytest.approx((14 - 1.0, 25 + 0.95))


def test_gain_that_moves_both_ends_one_way_leaves_the_first_interval_inside():
    calibrated = Interval(best=100.0, bounds=(98.0, 103.0), with_gain=(90.0, 95.0))
    assert calibrated.less(Interval(best=0.0, bounds=(0, 0), with_gain=(0, 0)), 1.0).with_gain == (
        90.0,
        103.0,
    )
    low = Interval(best=100.0, bounds=(98.0, 103.0), with_gain=(105.0, 112.0))
    assert low.less(Interval(best=0.0, bounds=(0, 0), with_gain=(0, 0)), 1.0).with_gain == (
        98.0,
        112.0,
    )


def test_what_is_unknown_of_one_is_unknown_of_the_difference():
    without = dataclasses.replace(IDLE, with_gain=None)
    for net in (SERVE.less(without, 2.0), dataclasses.replace(SERVE, with_gain=None).less(IDLE, 2)):
        assert net == Interval(best=20.0, bounds=(14.0, 25.0), with_gain=None)
    nothing = dataclasses.replace(IDLE, bounds=None)
    for net in (SERVE.less(nothing, 2.0), dataclasses.replace(SERVE, bounds=None).less(IDLE, 2)):
        assert net == Interval(best=20.0, bounds=None, with_gain=None)


def test_both_intervals_become_wider():
    assert IDLE.wider(1.0, 3.0) == Interval(
        best=40.0, bounds=(38.0, 45.0), with_gain=(pytest.approx(36.05), pytest.approx(47.1))
    )
    assert dataclasses.replace(IDLE, with_gain=None).wider(1.0, 3.0).with_gain is None


def test_only_what_is_known_has_a_name():
    assert SERVE.named("energy/total_j") == {
        "energy/total_j": 100.0,
        "energy/total_low_j": 98.0,
        "energy/total_high_j": 103.0,
        "energy/total_low_with_gain_j": 93.1,
        "energy/total_high_with_gain_j": 108.15,
    }
    assert Interval(best=1.0, bounds=None, with_gain=None).named("x_j") == {"x_j": 1.0}
