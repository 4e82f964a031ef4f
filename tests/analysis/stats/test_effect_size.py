"""The formulas behind one pair of cells."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from slm_energy.analysis.stats.effect_size import (
    cliffs_delta,
    cliffs_interval,
    half_width,
    holm,
    power,
    rounds_to_settle,
)


def test_rounds_to_settle_is_the_first_width_below_the_gap():
    n = rounds_to_settle(0.02, 0.01, 0.05, at_least=3)
    widths = {m: stats.t.ppf(0.975, m - 1) * 0.02 / np.sqrt(m) for m in (n - 1, n)}
    assert widths[n] < 0.01 <= widths[n - 1]
    assert rounds_to_settle(0.02, 0.0, 0.05, at_least=3) is None


def test_cliffs_delta_counts_ties_as_neither():
    assert cliffs_delta(np.array([1.0, 2, 2]), np.array([2.0, 3, 2])) == pytest.approx(-5 / 9)


def test_cliffs_interval_of_separated_samples_is_wilsons():
    low, high = cliffs_interval(np.arange(10.0), np.arange(10.0) + 20, 0.05)
    z = stats.t.ppf(0.975, 18)
    assert (low, high) == (-1, pytest.approx(-(10 - z**2) / (10 + z**2)))
    assert cliffs_interval(np.array([1.0]), np.array([2.0, 3.0]), 0.05) is None


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


@pytest.mark.parametrize("effect", [0.3, 1.0, 2.5])
def test_power_is_what_statsmodels_says(effect):
    rounds = np.array([3, 8, 30])
    theirs = [TTestPower().power(effect, nobs=n, alpha=0.01) for n in rounds]
    assert power(rounds, effect, 0.01, rounds - 1.0) == pytest.approx(theirs, abs=1e-9)
