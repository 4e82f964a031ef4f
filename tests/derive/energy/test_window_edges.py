"""What a counter had counted between two publications: best figure and bounds, by hand."""

from fractions import Fraction

import pytest

from slm_energy.derive.energy.window_edges import Publication, best_at, bounds_at, edge


def at(time, value, early=0, late=0):
    return Publication(earliest_ns=time - early, latest_ns=time + late, value=value)


IDLE_TO_LOAD = [at(0, 0), at(100, 100), at(200, 500), at(300, 1000)]
"""Power 1, from 120 on power 5."""


@pytest.mark.parametrize(
    ("time", "value"),
    [(100, 100), (110, 110), (120, 120), (125, 125), (126, 130), (150, 250), (200, 500)],
)
def test_power_changes_once_between_two_publications(time, value):
    assert best_at(IDLE_TO_LOAD, time) == value


def test_the_other_way_round_too():
    load_to_idle = [at(0, 0), at(100, 500), at(200, 700), at(300, 800)]
    found = [best_at(load_to_idle, time) for time in (100, 110, 125, 126, 150, 199)]
    assert found == [500, 550, 625, 626, 650, 699]


def test_power_that_does_not_explain_the_energy_gives_a_straight_line():
    for rise in (50, 100, 500, 600):
        seen = [at(0, 0), at(100, 100), at(200, 100 + rise), at(300, 600 + rise)]
        for time in (101, 130, 160, 199):
            assert best_at(seen, time) == 100 + Fraction((time - 100) * rise, 100)


@pytest.mark.parametrize("cut", [slice(1, 4), slice(0, 3)])
def test_power_known_on_one_side_only_gives_a_straight_line(cut):
    assert best_at(IDLE_TO_LOAD[cut], 130) == 100 + 120


def test_power_before_the_first_publication_is_not_made_up_from_the_last():
    seen = [at(0, 0), at(100, 300), at(200, 800), at(300, 800)]
    assert best_at(seen, 50) == 150


def test_the_last_publication_may_be_the_moment_itself():
    assert best_at(IDLE_TO_LOAD[:2], 100) == 100
    assert best_at(IDLE_TO_LOAD, 300) == 1000


def test_the_moment_of_a_publication_is_the_middle_of_what_is_known_of_it():
    seen = [at(0, 0, late=10), at(100, 100, early=20, late=2)]
    assert best_at(seen, 48) == 50


UNSURE = [at(0, 0, early=4, late=6), at(100, 100, early=3, late=5)]


@pytest.mark.parametrize(
    ("time", "low", "high"),
    [
        (6, 0, 97 - 6 + 100 - 97 - 2 + 1),
        (50, 22, 78),
        (97, 100 - 16 * 1, 101),
    ],
)
def test_bounds_follow_from_least_and_greatest_power(time, low, high):
    least, most = Fraction(1, 2), Fraction(2)
    lows = [0 + least * (time - 6), 100 - most * (105 - time)]
    highs = [1 + most * (time + 4), 101 - least * (97 - time)]
    assert bounds_at(UNSURE, time, least, most) == (max(lows), min(highs))


def test_without_a_greatest_power_energy_only_grows():
    assert bounds_at(UNSURE, 50, Fraction(0), None) == (0, 101)
    assert bounds_at(UNSURE, 97, Fraction(0), None) == (0, 101)
    assert bounds_at(UNSURE, 6, Fraction(0), None) == (0, 101)


def test_bounds_at_the_limits_of_what_is_known_of_a_publication():
    # Just when it is surely over, and just before it can have come, greatest power plays no part.
    assert bounds_at([*UNSURE, at(200, 300)], 105, Fraction(0), None)[0] == 100
    assert bounds_at([*UNSURE, at(200, 300)], 97, Fraction(0), None)[1] == 101
    assert bounds_at([*UNSURE, at(200, 300)], 98, Fraction(0), None)[1] == 301


def steady(power=8, publications=6):
    return [at(100 * i, 100 * power * i) for i in range(publications)]


def test_practical_power_is_between_a_quarter_and_three_times_of_what_is_seen():
    found = edge(steady(), 250, None)
    assert found.best == 2000
    assert found.low == 1600 + 2 * 50
    assert found.high == 2400 + 1 - 2 * 50
    near = edge(steady(), 210, None)
    assert (near.low, near.high) == (1600 + 2 * 10, 1601 + 24 * 10)


def test_the_greatest_power_of_the_device_caps_the_practical_interval():
    found = edge(steady(), 210, Fraction(10))
    assert (found.low, found.high) == (1600 + 2 * 10, 1601 + 10 * 10)
    assert (found.certain_low, found.certain_high) == (2400 - 10 * 90 + 100, 1601 + 100)


def test_certain_bounds_need_no_power_seen():
    found = edge(steady(), 250, None)
    assert (found.certain_low, found.certain_high) == (1600, 2401)


def test_the_least_power_seen_is_taken_cautiously():
    # From the earliest moment of one publication to the latest of the next: 120 ns, not 100.
    seen = [at(100 * i, 1200 * i, early=10, late=10) for i in range(6)]
    assert edge(seen, 250, None).low == 2400 + Fraction(1200, 120) / 4 * 40


def test_the_greatest_power_seen_decides_not_that_at_the_edge():
    seen = [at(0, 0), at(100, 100), at(200, 1100), at(300, 1200), at(400, 1300)]
    assert edge(seen, 201, None).high == 1101 + 30 * 1


def test_the_interval_contains_the_best_figure():
    # The second publication may have come at any time: energy at 55 may be more than is likely.
    seen = [at(0, 0), at(60, 1000, early=30, late=30), at(100, 1001), at(200, 1002)]
    found = edge(seen, 59, None)
    assert found.low <= found.best <= found.high
    assert found.certain_low <= found.best <= found.certain_high


def test_a_device_beyond_its_greatest_power_has_an_interval_all_the_same():
    seen = steady(power=10)
    found = edge(seen, 250, Fraction(5))
    assert bounds_at(seen, 250, Fraction(0), Fraction(5)) == (3750, 1251)
    assert (found.low, found.best, found.high) == (1251, 2500, 3750)
    assert (found.certain_low, found.certain_high) == (1251, 3750)


def test_the_interval_contains_the_best_figure_though_publications_are_not_where_they_seem():
    # The device draws all it can, 5, but the middle of what is known of one publication is early.
    seen = [at(0, 0), at(100, 500), at(200, 1000, early=50), at(300, 1500)]
    found = edge(seen, 160, Fraction(5))
    assert found.best > 801
    assert found.high == found.certain_high == found.best
    seen = [at(0, 0), at(100, 500, late=50), at(200, 1000), at(300, 1500)]
    found = edge(seen, 140, Fraction(5))
    assert found.best < 700
    assert found.low == found.certain_low == found.best
