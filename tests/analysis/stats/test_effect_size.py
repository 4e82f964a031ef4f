"""The formulas behind one pair of cells."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from slm_energy.analysis.stats.effect_size import (
    cliffs_delta,
    cliffs_interval,
    half_width,
    holm,
    welch_half_width,
)


def test_cliffs_delta_counts_ties_as_neither():
    assert cliffs_delta(np.array([1.0, 2, 2]), np.array([2.0, 3, 2])) == pytest.approx(-5 / 9)


def test_cliffs_interval_of_separated_samples_is_newcombes_score_interval():
    """Its end is where the A12 that is seen, 1, is 1.96 of that A12's own deviations away."""
    n, m = 5, 8
    low, high = cliffs_interval(np.arange(n) + 0.0, np.arange(m) + 20.0, 0.05)
    a12 = (1 - high) / 2
    rest = (n + m) / 2 - 1
    variance = a12 * (1 - a12) * (1 + rest * ((1 - a12) / (2 - a12) + a12 / (1 + a12))) / (n * m)
    assert low == -1
    assert (1 - a12) / np.sqrt(variance) == pytest.approx(stats.norm.ppf(0.975), rel=1e-6)
    assert cliffs_interval(np.array([1.0]), np.array([2.0, 3.0]), 0.05) is None


def test_cells_that_five_trials_separate_completely_are_not_said_to_be_perhaps_alike():
    """Mann and Whitney's exact p is 2 / 252: an interval with 0 in it would contradict it."""
    low, high = cliffs_interval(np.arange(5.0) + 10, np.arange(5.0), 0.05)
    assert (low > 0.2, high) == (True, 1.0)
    wider = cliffs_interval(np.arange(5.0) + 10, np.arange(5.0), 0.01)
    more = cliffs_interval(np.arange(10.0) + 20, np.arange(10.0), 0.05)
    assert wider[0] < low < more[0]


@pytest.mark.parametrize("apart", [2.0, 3.0])
def test_intervals_of_samples_that_are_mostly_separated_cover_the_truth(apart):
    generator, inside = np.random.default_rng(4), 0
    truth = 2 * stats.norm.cdf(apart / np.sqrt(2)) - 1
    for _ in range(500):
        low, high = cliffs_interval(generator.normal(apart, 1, 6), generator.normal(0, 1, 6), 0.05)
        inside += low <= truth <= high
    assert inside / 500 > 0.93


def test_cliffs_interval_covers_the_truth_as_often_as_it_says():
    """Normal samples of 10 one standard deviation apart: delta = 2 Phi(1 / sqrt 2) - 1."""
    generator, truth = np.random.default_rng(4), 2 * stats.norm.cdf(1 / np.sqrt(2)) - 1
    inside = 0
    for _ in range(600):
        low, high = cliffs_interval(generator.normal(1, 1, 10), generator.normal(0, 1, 10), 0.05)
        inside += low <= truth <= high
    assert 0.92 < inside / 600 < 0.98


def test_the_t_interval_covers_the_truth_as_often_as_it_says():
    draws = np.random.default_rng(8).normal(0.3, 0.02, (1500, 5))
    halves = np.array([half_width(row, 0.05) for row in draws])
    covered = np.abs(draws.mean(axis=1) - 0.3) <= halves
    assert 0.935 < covered.mean() < 0.965


def test_holm_is_what_statsmodels_says():
    p = np.random.default_rng(6).random(20) ** 3
    assert np.abs(holm(p) - multipletests(p, method="holm")[1]).max() < 1e-12


def test_welchs_interval_is_scipys():
    x, y = np.random.default_rng(3).normal(0, [[1], [4]], (2, 7))
    ends = stats.ttest_ind(x, y[:5], equal_var=False).confidence_interval(0.9)
    assert welch_half_width(x, y[:5], 0.1) == pytest.approx((ends.high - ends.low) / 2)
    assert welch_half_width(x, y[:1], 0.1) is None
    assert welch_half_width(np.ones(3), np.ones(3), 0.1) is None


def test_cliffs_delta_and_its_variance_count_every_pair_of_values():
    generator = np.random.default_rng(4)
    x, y = generator.integers(0, 9, 23) + 1.0, generator.integers(0, 9, 17) + 0.0
    signs = np.sign(x[:, None] - y[None, :])
    delta = signs.mean()
    assert cliffs_delta(x, y) == delta
    rows = ((signs.mean(axis=1) - delta) ** 2).sum()
    columns = ((signs.mean(axis=0) - delta) ** 2).sum()
    rest = ((signs - delta) ** 2).sum()
    variance = (17**2 * rows + 23**2 * columns - rest) / (23 * 17 * 22 * 16)
    z = stats.t.ppf(0.975, 38)
    root = z * np.sqrt(variance * ((1 - delta**2) ** 2 + z**2 * variance))
    ends = [(delta - delta**3 + side * root) / (1 - delta**2 + z**2 * variance) for side in (-1, 1)]
    assert cliffs_interval(x, y, 0.05) == pytest.approx(ends, rel=1e-12)
