"""Configurations compared over models."""

import numpy as np
import pytest
from scipy import stats

from slm_energy.analysis.stats.comparison import Block, Rule
from slm_energy.analysis.stats.population import ModelBlock, population

RULE = Rule(draws=1999)


def sample(ratios, models=5, rounds=6, interaction=0.05, seed=0, missing=(), **ends):
    """Models that each have configurations a, b, ...; `ratios` are their mean costs."""
    names, blocks = "abcdef"[: len(ratios)], []
    for m in range(models):
        generator = np.random.default_rng([seed, m])
        logs = np.log(ratios) + generator.normal(0, interaction, len(ratios)) + m
        kept = [i for i in range(len(ratios)) if (m, names[i]) not in missing]
        values = np.exp(logs + generator.normal(0, 0.01, (rounds, len(ratios))))[:, kept]
        bounds = {key: values * factor for key, factor in ends.items()}
        block = Block(cells=tuple(names[i] for i in kept), values=values, **bounds)
        blocks.append(ModelBlock(model=f"m{m}", block=block))
    return blocks


def means(blocks, name):
    return np.array([np.log(b.block.values[:, b.block.cells.index(name)]).mean() for b in blocks])


def test_of_two_configurations_it_is_the_paired_t_test_over_models():
    blocks = sample([1.0, 1.3])
    [pair] = population(blocks, RULE).pairs
    theirs = stats.ttest_rel(means(blocks, "a"), means(blocks, "b"))
    ends = np.exp(theirs.confidence_interval(0.95))
    assert (pair.a, pair.b, pair.won) == ("a", "b", 5)
    assert (pair.low, pair.high) == pytest.approx(tuple(ends))
    assert (pair.joint_low, pair.joint_high) == pytest.approx(tuple(ends), rel=1e-2)
    assert pair.p == pytest.approx(theirs.pvalue, abs=1e-3)
    assert pair.verdict == "saves"


def test_more_rounds_say_no_more_of_other_models():
    few, many = (population(sample([1.0, 1.05], rounds=n), RULE).pairs[0] for n in (5, 200))
    assert many.models[0].high / many.models[0].low < few.models[0].high / few.models[0].low
    assert np.log(many.high / many.low) == pytest.approx(np.log(few.high / few.low), rel=0.2)


def test_all_pairs_share_the_error_rate():
    seen = population(sample([1.0, 1.3, 1.4, 1.5], models=8, interaction=0.02), RULE)
    assert [pair.a + pair.b for pair in seen.pairs] == ["ab", "ac", "ad", "bc", "bd", "cd"]
    for pair in seen.pairs:
        assert pair.joint_low < pair.low < pair.ratio < pair.high < pair.joint_high
        assert (pair.p <= 0.05) == (not pair.joint_low <= 1 <= pair.joint_high)


def test_models_without_a_configuration_are_left_out_of_its_pairs():
    blocks = sample([1.0, 1.3, 1.5], models=5, missing={(0, "c"), (1, "c"), (2, "c")})
    seen = {pair.a + pair.b: pair for pair in population(blocks, RULE).pairs}
    assert [model.model for model in seen["ac"].models] == ["m3", "m4"]
    assert (seen["ac"].p, seen["ac"].joint_low) == (None, None)
    assert seen["ab"].p is not None


def test_a_model_with_configurations_of_its_own_takes_no_part():
    blocks = sample([1.0, 1.3])
    values = np.full((6, 1), 9.0)
    alone = ModelBlock(model="odd", block=Block(cells=("own",), values=values))
    with_odd, without = population([*blocks, alone], RULE), population(blocks, RULE)
    assert with_odd.pairs == without.pairs
    assert with_odd.ranked == ("a", "b")


@pytest.mark.parametrize("models", [1, 2])
def test_fewer_than_three_models_say_nothing_of_others(models):
    seen = population(sample([1.0, 1.3], models=models), RULE)
    assert not any(pair.p is not None for pair in seen.pairs)
    assert seen.reason == (
        f"that takes 3 models that share two configurations, and this study has {models}"
    )


def test_a_small_difference_on_all_models_is_equivalent():
    [pair] = population(sample([1.0, 1.001], interaction=0.002), RULE).pairs
    assert pair.verdict == "equivalent"


def test_what_the_instruments_do_not_resolve_is_no_verdict():
    [pair] = population(sample([1.0, 1.3], low=0.7, high=1.5), RULE).pairs
    assert pair.verdict == "below the instrument's resolution"


def test_more_is_better_for_throughput():
    rule = Rule(draws=1999, higher_is_better=True)
    [pair] = population(sample([1.0, 1.3]), rule).pairs
    assert (pair.a, pair.verdict) == ("b", "gains")


def test_repetitions_that_are_not_rounds_have_welchs_interval_on_each_model():
    blocks = [
        ModelBlock(model=b.model, block=b.block, rounds=False) for b in sample([1.0, 1.3], models=3)
    ]
    [pair] = population(blocks, RULE).pairs
    logs = np.log(blocks[0].block.values)
    ends = stats.ttest_ind(*logs.T, equal_var=False).confidence_interval(0.95)
    assert (pair.models[0].low, pair.models[0].high) == pytest.approx(tuple(np.exp(ends)))
