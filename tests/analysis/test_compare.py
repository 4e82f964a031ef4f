"""Ratios, intervals and verdicts."""

import numpy as np
import pytest
from scipy import stats

from slm_energy.analysis.compare import COARSE, Block, Rule, compare
from slm_energy.analysis.effect import cliffs_delta, half_width, rounds_to_settle

NAN = float("nan")


def block(columns, own_interval=None):
    """Cells a, b, c, ... from their values per round."""
    values = np.array(columns, dtype=float).T
    cells = tuple("abcdefgh"[: values.shape[1]])
    if own_interval is None:
        return Block(cells=cells, values=values)
    low, high = values * (1 - own_interval), values * (1 + own_interval)
    return Block(cells=cells, values=values, low=low, high=high)


def noisy(levels, rounds=6, noise=0.01, seed=0, **kwargs):
    generator = np.random.default_rng(seed)
    drift = generator.normal(0, 0.05, rounds)
    return block(
        [level * np.exp(drift + generator.normal(0, noise, rounds)) for level in levels], **kwargs
    )


def only(result):
    (pair,) = result.pairs
    return pair


def test_ratio_and_interval_are_the_paired_t_test_on_logs():
    data = noisy([10, 20])
    pair = only(compare(data, Rule()))
    theirs = stats.ttest_rel(*np.log(data.values).T).confidence_interval(0.95)
    assert (np.log(pair.low), np.log(pair.high)) == pytest.approx((theirs.low, theirs.high))
    assert pair.ratio == pytest.approx(stats.gmean(data.values[:, 0] / data.values[:, 1]))


def test_a_clear_difference_saves_and_seen_from_the_other_side_is_worse():
    data = noisy([10, 20])
    saves = only(compare(data, Rule(), [("a", "b")]))
    worse = only(compare(data, Rule(), [("b", "a")]))
    assert (saves.verdict, saves.won, saves.rounds) == ("saves", 6, 6)
    assert (worse.verdict, worse.won) == ("worse", 0)
    assert worse.ratio == pytest.approx(1 / saves.ratio)
    assert (saves.delta, worse.delta) == (-1, 1)


def test_more_throughput_is_a_gain():
    result = compare(noisy([10, 20]), Rule(higher_is_better=True))
    assert result.ranked == ("b", "a")
    assert (only(result).verdict, only(result).won) == ("gains", 6)


def test_equal_cells_are_equivalent_only_when_the_interval_is_inside_the_margin():
    tight = only(compare(noisy([10, 10], noise=0.002), Rule(margin=0.02)))
    loose = only(compare(noisy([10, 10], noise=0.03), Rule(margin=0.02)))
    assert tight.verdict == "equivalent"
    assert loose.verdict == "inconclusive"
    assert loose.reason == "the interval reaches across the margin"
    assert loose.more_rounds > 1


def test_the_margin_reads_the_same_from_both_sides():
    data = noisy([10, 10.3], noise=0.001)
    assert only(compare(data, Rule(margin=0.02), [("a", "b")])).verdict == "saves"
    assert only(compare(data, Rule(margin=0.02), [("b", "a")])).verdict == "worse"


def test_with_two_cells_the_interval_decides_where_p_cannot():
    result = compare(noisy([10, 20], rounds=5), Rule())
    assert only(result).p == pytest.approx(1 / 16)
    assert only(result).verdict == "saves"
    assert result.smallest_rounds == 6


def test_with_more_cells_a_difference_also_needs_the_adjusted_p():
    result = compare(noisy([10, 20, 30], rounds=2, noise=0.0001), Rule())
    assert {pair.verdict for pair in result.pairs} == {"inconclusive"}
    assert result.pairs[0].reason == "p adjusted for 3 pairs is above 0.05"
    assert result.pairs[0].more_rounds == 1  # three rounds can be significant


def test_one_round_gives_a_ratio_and_no_verdict():
    pair = only(compare(block([[10], [20]]), Rule()))
    assert (pair.ratio, pair.low, pair.p) == (pytest.approx(0.5), None, None)
    assert (pair.verdict, pair.reason) == ("inconclusive", "one round gives no interval")


def test_values_that_never_vary_have_no_interval():
    pair = only(compare(block([[10] * 5, [20] * 5]), Rule()))
    assert (pair.low, pair.verdict) == (None, "inconclusive")
    assert "spread is unknown" in pair.reason


def test_a_missing_trial_leaves_its_round_out_for_that_pair_only():
    data = noisy([10, 20, 30])
    data.values[2, 1] = NAN
    result = compare(data, Rule())
    assert [pair.rounds for pair in result.pairs] == [5, 6]
    assert result.complete_rounds == 5


def test_a_cell_without_any_value_is_left_out_by_name():
    result = compare(block([[10, 11], [NAN, NAN], [20, 21]]), Rule())
    assert (result.ranked, result.left_out) == (("a", "c"), ("b",))


def test_cells_that_never_share_a_round_are_not_compared():
    pair = only(compare(block([[10, NAN], [NAN, 20]]), Rule()))
    assert (pair.ratio, pair.reason) == (None, "no round in which both are valid")


def test_three_cells_without_two_complete_rounds_get_no_difference():
    data = noisy([10, 20, 30], rounds=4)
    data.values[:3, 2] = NAN
    pair = compare(data, Rule()).pairs[0]
    assert (pair.p, pair.verdict) == (None, "inconclusive")
    assert pair.reason == "fewer than two rounds are complete over all cells"


@pytest.mark.parametrize(
    ("own_interval", "verdict", "reason"), [(0.01, "saves", ""), (0.05, "inconclusive", COARSE)]
)
def test_the_instruments_own_interval_can_undo_a_difference(own_interval, verdict, reason):
    pair = only(compare(noisy([10, 10.7], noise=0.001, own_interval=own_interval), Rule()))
    assert (pair.verdict, pair.reason) == (verdict, reason)
    assert pair.wide_low < pair.low < pair.high < pair.wide_high


def test_the_instruments_own_interval_can_undo_an_equivalence():
    pair = only(compare(noisy([10, 10], noise=0.001, own_interval=0.05), Rule()))
    assert (pair.verdict, pair.reason) == ("inconclusive", COARSE)


def test_an_instrument_that_may_have_seen_nothing_decides_nothing():
    pair = only(compare(noisy([10, 20], own_interval=1.0), Rule()))
    assert (pair.wide_low, pair.wide_high, pair.reason) == (0.0, None, COARSE)


def test_which_pairs_are_compared():
    data = noisy([10, 20, 30])
    best = [(p.a, p.b) for p in compare(data, Rule()).pairs]
    every = [(p.a, p.b) for p in compare(data, Rule(), "all").pairs]
    named = [(p.a, p.b) for p in compare(data, Rule(), [("a", "b"), ("c", "b"), ("x", "b")]).pairs]
    assert best == [("a", "b"), ("a", "c")]
    assert every == [("a", "b"), ("a", "c"), ("b", "c")]
    assert named == [("a", "b"), ("c", "b")]


def test_the_same_seed_gives_the_same_answer():
    data = noisy([10, 10.1, 10.2, 10.3])
    assert compare(data, Rule(seed=4)) == compare(data, Rule(seed=4))


def test_rounds_to_settle_is_the_first_width_below_the_gap():
    n = rounds_to_settle(0.02, 0.01, 0.05, at_least=3)
    widths = {m: stats.t.ppf(0.975, m - 1) * 0.02 / np.sqrt(m) for m in (n - 1, n)}
    assert widths[n] < 0.01 <= widths[n - 1]
    assert rounds_to_settle(0.02, 0.0, 0.05, at_least=3) is None


def test_cliffs_delta_counts_ties_as_neither():
    assert cliffs_delta(np.array([1.0, 2, 2]), np.array([2.0, 3, 2])) == pytest.approx(-5 / 9)


def test_the_t_interval_covers_the_truth_as_often_as_it_says():
    draws = np.random.default_rng(8).normal(0.3, 0.02, (1500, 5))
    halves = np.array([half_width(row, 0.05) for row in draws])
    covered = np.abs(draws.mean(axis=1) - 0.3) <= halves
    assert 0.935 < covered.mean() < 0.965


@pytest.mark.parametrize("noise", [[0.02] * 4, [0.005, 0.005, 0.05, 0.05]])
def test_false_differences_stay_rare_also_when_cells_differ_in_noise(noise):
    """250 studies of 4 equal cells in 6 rounds with drift, margin 0: any false verdict counts."""
    generator = np.random.default_rng(21)
    false = 0
    for study in range(250):
        logs = generator.normal(0, 1, (6, 4)) * noise + generator.normal(0, 0.05, (6, 1))
        result = compare(
            Block(cells=tuple("abcd"), values=np.exp(logs)),
            Rule(margin=0.0, permutations=199, seed=study),
            "all",
        )
        false += any(pair.verdict in ("saves", "worse") for pair in result.pairs)
    assert false / 250 <= 0.08
