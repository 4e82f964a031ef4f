"""Intervals and p-values that hold for all pairs at once."""

import numpy as np
import pytest

from slm_energy.analysis.stats.independent_max_t import independent_max_t
from slm_energy.analysis.stats.max_t import max_t

BAND = -np.log1p(-0.02)


def study(seed, cells=6, rounds=8, noise=0.01):
    return np.random.default_rng(seed).normal(0, noise, (rounds, cells))


def test_a_p_is_at_most_alpha_where_the_statistic_exceeds_the_critical_value():
    upper = np.triu_indices(6, 1)
    for seed in range(20):
        logs = study(seed) + np.linspace(0, 0.06, 6)
        found = max_t(logs, 999, seed, band=BAND, alpha=0.1).pairs
        apart = np.abs(logs.mean(axis=0)[upper[0]] - logs.mean(axis=0)[upper[1]])
        error = found.error[upper]
        assert np.array_equal(found.p[upper] <= 0.1, apart / error > found.difference)
        beyond = ((apart - BAND) / error > found.margin) & (apart / error > found.difference)
        assert np.array_equal(found.p_margin[upper] <= 0.1, beyond)
        within = (BAND - apart) / error > found.equivalence
        assert np.array_equal(found.p_equivalent[upper] <= 0.1, within)


def test_without_a_margin_its_test_is_the_test_of_no_difference():
    found = max_t(study(1), 999, 0, band=0.0).pairs
    assert found.margin == found.difference
    assert np.array_equal(found.p_margin, found.p)


def test_a_wide_margin_is_crossed_in_one_direction_only_so_less_is_needed_beyond_it():
    logs = study(2, cells=8)
    critical = [max_t(logs, 4999, 0, band=band).pairs.margin for band in (0.0, 0.003, 0.1)]
    assert critical == sorted(critical, reverse=True)
    wide = max_t(logs, 4999, 0, band=0.1).pairs
    assert wide.margin == wide.equivalence < wide.difference


def test_a_smaller_error_rate_needs_more_and_too_few_draws_never_suffice():
    loose, strict = (max_t(study(3), 999, 0, band=BAND, alpha=a).pairs for a in (0.05, 0.005))
    assert strict.difference > loose.difference
    assert max_t(study(3), 999, 0, band=BAND, alpha=0.0005).pairs.difference == np.inf


def test_repetitions_have_the_critical_values_of_the_studentised_range():
    """Of equal cells with many values Tukey's range over the square root of 2."""
    from scipy.stats import studentized_range

    samples = list(study(4, cells=5, rounds=60).T)
    found = independent_max_t(samples, 39_999, 0, band=BAND, alpha=0.05)
    expected = studentized_range.ppf(0.95, 5, 5 * 59) / np.sqrt(2)
    assert found.difference == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("noise", [[0.01] * 6, [0.1, *[0.01] * 5]], ids=["equal", "one 10 x"])
def test_independent_cells_at_the_margin_are_seldom_taken_for_different(noise):
    """300 studies of 6 cells, half of them dearer by the margin; 0.05 within 4 standard errors."""
    generator = np.random.default_rng(6)
    levels, upper = np.repeat([0, BAND], 3), np.triu_indices(6, 1)
    false = missed = 0
    for seed in range(300):
        logs = levels + generator.normal(0, 1, (6, 6)) * noise
        found = independent_max_t(list(logs.T), 199, seed, band=BAND, alpha=0.05)
        apart = (logs.mean(axis=0) - levels)[upper[0]] - (logs.mean(axis=0) - levels)[upper[1]]
        false += bool((found.p_margin <= 0.05).any())
        missed += bool((np.abs(apart) > found.difference * found.error[upper]).any())
    assert 0.01 < false / 300 < 0.1
    assert 0.01 < missed / 300 < 0.1
