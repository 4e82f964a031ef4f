"""The chance of a verdict, and how many rounds it takes."""

import math

import numpy as np
import pytest
from scipy import stats

from slm_energy.analysis.stats.comparison import Block, Rule
from slm_energy.analysis.stats.paired import compare
from slm_energy.analysis.stats.power import minimum_detectable, plan


def planned(cells=2, rounds=10, noise=0.01, seed=0, margin=0.02, instrument=None):
    logs = np.random.default_rng(seed).normal(0, noise, (rounds, cells))
    values = np.exp(logs)
    ends = {} if instrument is None else {
        "low": values / (1 + instrument), "high": values * (1 + instrument),
    }  # fmt: skip
    block = Block(cells=tuple("abcdefgh"[:cells]), values=values, **ends)
    rule = Rule(draws=999, margin=margin)
    return plan(compare(block, rule), rule)


def test_of_two_cells_the_chance_is_that_of_a_t_interval_beyond_the_margin():
    sd, rounds, rule = 0.01, 10, Rule(margin=0.02)
    effect = np.log1p(minimum_detectable(sd, rounds, 2, rule) / 100)
    error = math.sqrt(2) * sd / math.sqrt(rounds)
    beyond = stats.nct.sf(stats.t.ppf(0.975, rounds - 1), rounds - 1, (effect - rule.band) / error)
    assert beyond == pytest.approx(0.8, abs=1e-6)


def test_a_difference_of_the_margin_has_the_chance_of_an_error_and_a_larger_one_more():
    rows = {round(row.difference_pct): row.power for row in planned(noise=0.03).rows}
    assert rows[1] < rows[2] == pytest.approx(0.025)
    assert rows[2] < rows[5] < rows[10] <= 1


def test_more_noise_takes_more_rounds_and_so_do_more_cells():
    rounds = [
        next(row.rounds for row in each.rows if row.difference_pct == pytest.approx(5))
        for each in (planned(), planned(noise=0.06), planned(cells=8, noise=0.06))
    ]
    assert rounds == sorted(set(rounds))


def test_no_margin_is_easier_to_exceed_and_a_coarse_instrument_harder():
    wide, plain, none = planned(instrument=0.03), planned(), planned(margin=0.0)
    assert none.detectable_pct < plain.detectable_pct < wide.detectable_pct
    assert wide.detectable_pct > 6
    assert plain.margin_pct == 2


def test_too_few_rounds_of_several_cells_find_nothing_however_large():
    found = planned(cells=3, rounds=3)
    assert found.detectable_pct is None
    assert {row.power for row in found.rows} == {0.0}


def test_two_cells_have_a_chance_before_p_can_be_small():
    """Their verdict is that of the t interval."""
    found = planned(rounds=4)
    assert found.smallest_rounds == 6
    assert found.detectable_pct is not None


def test_without_a_spread_there_is_no_plan():
    assert planned(rounds=1) is None
