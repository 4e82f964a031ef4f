"""What a part-time or noisy counter does not show, in exact figures."""

from dataclasses import replace

import pytest

from slm_energy.derive.energy.unobserved import filtered, observed_in_part
from slm_energy.derive.energy.usable_readings import Energy, UnknownJoules
from tests.derive.energy.conftest import MS, SLOW, S, span

SOURCE = replace(SLOW, averaging_ns=25 * MS)
WINDOW = span(2 * S, 2800 * MS)
ENERGY = Energy(
    low_j=39.0,
    best_j=40.0,
    high_j=41.0,
    start_j=0.5,
    end_j=0.5,
    estimator="counter",
    details={"wraps": 0, "certain_low_j": 38.0, "certain_high_j": 42.0},
    flags=("hot",),
)


def increments(*each_j, first_ns=2100 * MS):
    """One per period of 100 ms, in mJ."""
    return [(first_ns + n * 100 * MS, round(1000 * each)) for n, each in enumerate(each_j)]


def test_equal_increments_leave_the_interval():
    found = observed_in_part(ENERGY, SOURCE, increments(*[5.0] * 8), WINDOW)
    assert (found.low_j, found.best_j, found.high_j) == (39.0, 40.0, 41.0)
    assert found.details == {"wraps": 0, "observed_share": 0.25, "part_time_j": 0}
    assert found.flags[0] == "hot"
    assert found.flags[1].startswith("the sensor observes 25 % of the time;")


def test_the_spread_of_increments_widens_the_interval():
    # Means of eight batches of one: 3 standard errors of 8 x 5 J. Successive differences are 2 J.
    found = observed_in_part(ENERGY, SOURCE, increments(4, 6, 4, 6, 4, 6, 4, 6), WINDOW)
    deviation_j = (8 / 7) ** 0.5
    noise_j = max(3 * deviation_j * 8**0.5, 2 * (7 * 2**2 / 2) ** 0.5)
    edges_j = 0.75 * 2 + 0.75 * 2
    assert found.details["part_time_j"] == pytest.approx(noise_j + edges_j)
    assert found.low_j == pytest.approx(39 - noise_j - edges_j)
    assert found.high_j == pytest.approx(41 + noise_j + edges_j)


def test_slow_change_counts_by_its_batches():
    slow = observed_in_part(ENERGY, SOURCE, increments(2, 3, 4, 5, 6, 7, 8, 9), WINDOW)
    deviation_j = (42 / 7) ** 0.5
    # Within three periods of the start 2 to 4 J were counted, and of the end 6 to 9 J.
    edges_j = 0.75 * (2 + 3)
    assert slow.details["part_time_j"] == pytest.approx(3 * deviation_j * 8**0.5 + edges_j)


def test_what_is_counted_partly_before_or_after_the_window_counts_at_its_edges_only():
    before, inside, after = (
        increments(1.0, first_ns=2 * S),
        increments(*[5.0] * 8),
        increments(2.0, first_ns=2900 * MS),
    )
    found = observed_in_part(ENERGY, SOURCE, [*before, *inside, *after], WINDOW)
    assert found.details["part_time_j"] == pytest.approx(0.75 * 4 + 0.75 * 3)


@pytest.mark.parametrize("periods", [3, 4])
def test_four_periods_are_enough(periods):
    window = span(2 * S, 2 * S + periods * 100 * MS)
    each = increments(*[5.0] * periods)
    if periods == 4:
        assert observed_in_part(ENERGY, SOURCE, each, window).best_j == 40.0
    else:
        with pytest.raises(UnknownJoules, match="and 3 of these are not enough: raise measurement"):
            observed_in_part(ENERGY, SOURCE, each, window)


def test_no_energy_begins_below_zero():
    found = observed_in_part(ENERGY, SOURCE, increments(*[1, 90] * 4), WINDOW)
    assert found.low_j == 0


def test_noise_falls_with_the_root_of_the_number_of_steps():
    source = replace(SLOW, update_period_ns=MS, step_noise_pct=50.0)
    found = filtered(ENERGY, source, WINDOW)
    noise_j = 3 * 0.5 / 3**0.5 * 40 / 800**0.5
    assert found.details == {"wraps": 0, "filter_j": pytest.approx(noise_j)}
    assert (found.low_j, found.high_j) == pytest.approx((39 - noise_j, 41 + noise_j))
