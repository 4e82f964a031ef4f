"""What the rounds can find, and how many it takes."""

import numpy as np
import pytest
from statsmodels.stats.power import TTestPower

from slm_energy.analysis.stats.comparison import Block, Rule
from slm_energy.analysis.stats.paired import compare
from slm_energy.analysis.stats.power import plan


def planned(cells=2, rounds=10, noise=0.01, seed=0):
    logs = np.random.default_rng(seed).normal(0, noise, (rounds, cells))
    block = Block(cells=tuple("abcdefgh"[:cells]), values=np.exp(logs))
    rule = Rule(draws=999)
    return plan(compare(block, rule), rule)


def test_the_detectable_difference_is_found_with_a_chance_of_0_8():
    found = planned()
    effect = np.log1p(found.detectable_pct / 100) / np.log1p(found.spread_pct / 100)
    assert TTestPower().power(effect, nobs=10, alpha=0.05) == pytest.approx(0.8, abs=1e-3)


def test_more_noise_takes_more_rounds_and_so_do_more_cells():
    rounds = [
        next(row.rounds for row in each.rows if row.difference_pct == pytest.approx(5))
        for each in (planned(), planned(noise=0.06), planned(cells=8, noise=0.06))
    ]
    assert rounds == sorted(set(rounds))


def test_too_few_rounds_find_nothing_however_large():
    found = planned(rounds=4)
    assert (found.smallest_rounds, found.detectable_pct) == (6, None)
    assert {row.power for row in found.rows} == {0.0}


def test_without_a_spread_there_is_no_plan():
    assert planned(rounds=1) is None
