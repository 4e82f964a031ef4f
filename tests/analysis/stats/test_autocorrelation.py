"""What rounds are worth that resemble their neighbours."""

import numpy as np
import pytest

from slm_energy.analysis.stats.autocorrelation import dependence, neighbour_correlation


def wave(correlation, rounds, generator):
    """A stationary first-order autoregression of variance 1."""
    values = [generator.normal()]
    for _ in range(rounds - 1):
        step = np.sqrt(1 - correlation**2) * generator.normal()
        values.append(correlation * values[-1] + step)
    return np.array(values)


def by_round(values, first=1):
    return dict(enumerate(map(float, values), start=first))


@pytest.mark.parametrize(("rounds", "correlation"), [(2, 0.5), (5, 0.3), (8, 0.7), (30, 0.9)])
def test_the_variance_of_a_mean_and_the_variance_within_are_those_of_the_model(rounds, correlation):
    apart = np.abs(np.subtract.outer(np.arange(rounds), np.arange(rounds)))
    covariance = correlation**apart
    worth = dependence(rounds, correlation)
    assert worth.inflation == pytest.approx(covariance.sum() / rounds)
    centre = np.eye(rounds) - 1 / rounds
    assert worth.shrinkage == pytest.approx(np.trace(centre @ covariance) / (rounds - 1))
    assert worth.effective == pytest.approx(rounds / worth.inflation)


def test_independent_rounds_are_worth_their_number():
    assert dependence(7, 0.0).effective == 7
    assert dependence(7, 0.0).shrinkage == 1
    assert dependence(1, 0.5).effective == 1


@pytest.mark.parametrize("correlation", [0.0, 0.4, 0.7])
def test_the_correlation_is_found_without_bias_from_short_series(correlation):
    generator = np.random.default_rng(1)
    found = []
    for _ in range(300):
        studies = [
            [by_round(shared + generator.normal(0, 0.2, 20)) for _ in range(4)]
            for shared in (wave(correlation, 20, generator), wave(correlation, 20, generator))
        ]
        found.append(neighbour_correlation(studies))
    assert np.median(found) == pytest.approx(correlation, abs=0.1)


def test_rounds_are_neighbours_by_number_not_by_place():
    generator = np.random.default_rng(2)
    values = wave(0.8, 200, generator)
    whole = by_round(values)
    half = {number: value for number, value in whole.items() if number % 2}
    assert neighbour_correlation([[whole], [whole]]) > 0.6
    assert neighbour_correlation([[half], [half]]) == 0.0  # no round has its neighbour


def test_without_variation_or_with_one_round_there_is_none():
    still = by_round([1.0] * 6)
    assert neighbour_correlation([[still], [still]]) == 0.0
    assert neighbour_correlation([[{1: 0.3}], [{1: 0.4}]]) == 0.0
