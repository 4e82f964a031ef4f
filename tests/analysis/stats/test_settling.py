"""How many more rounds bring a verdict."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from slm_energy.analysis.stats.settling import Outlook, chance, more_rounds

PAIR = Outlook(
    mean=0.03,
    error=0.01,
    rounds=5,
    freedom=4.0,
    margin=stats.t.ppf(0.975, 4),
    difference=stats.t.ppf(0.975, 4),
    equivalence=stats.t.ppf(0.95, 4),
    band=0.02,
    resolution=0.0,
)


def test_it_is_the_first_number_of_rounds_with_a_chance_of_0_8():
    more = more_rounds(PAIR)
    before, reached = chance(PAIR, PAIR.rounds + np.array([more - 1.0, more]))
    assert before < 0.8 <= reached


def test_the_chance_is_that_of_simulated_rounds_to_come():
    """Spread and mean drawn from what five rounds say of them, then the rounds, then the rule."""
    generator, more, n = np.random.default_rng(7), 30, 40_000
    spread = PAIR.error * np.sqrt(5 * PAIR.freedom / generator.chisquare(PAIR.freedom, n))
    truth = PAIR.mean + generator.normal(0, 1, n) * spread / np.sqrt(5)
    further = truth + generator.normal(0, 1, n) * spread / np.sqrt(more)
    mean = (5 * PAIR.mean + more * further) / (5 + more)
    error = spread / np.sqrt(5 + more)
    beyond = np.abs(mean) - stats.t.ppf(0.975, 34) * error > PAIR.band
    within = np.abs(mean) + stats.t.ppf(0.95, 34) * error < PAIR.band
    [said] = chance(PAIR, np.array([35.0]))
    assert said == pytest.approx((beyond | within).mean(), abs=0.02)


def test_a_mean_at_the_margin_takes_longer_than_one_far_from_it():
    near, far = (more_rounds(dataclasses.replace(PAIR, mean=m)) for m in (0.02, 0.045))
    assert far < more_rounds(PAIR) < near


def test_an_equivalence_settles_it_as_well_unless_the_instruments_are_too_coarse():
    equal = dataclasses.replace(PAIR, mean=0.0)
    assert more_rounds(equal) is not None
    assert more_rounds(dataclasses.replace(equal, resolution=0.019)) is None


def test_beyond_a_thousand_rounds_nothing_is_said():
    assert more_rounds(dataclasses.replace(PAIR, rounds=1000)) is None
