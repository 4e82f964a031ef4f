"""Ratios, intervals and verdicts."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.weightstats import ttost_paired

from slm_energy.analysis.result.verdict import COARSE
from slm_energy.analysis.stats.comparison import Block, Rule, savings
from slm_energy.analysis.stats.paired import compare

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
    saves = only(compare(data, Rule()))
    worse = only(compare(data, Rule(), reference="a"))
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
    assert loose.reason == "the interval crosses the margin"
    assert loose.more_rounds > 1


def test_the_margin_reads_the_same_from_both_sides():
    data = noisy([10, 10.3], noise=0.001)
    assert only(compare(data, Rule(margin=0.02))).verdict == "saves"
    assert only(compare(data, Rule(margin=0.02), reference="a")).verdict == "worse"


def test_with_two_cells_the_interval_decides_where_p_cannot():
    result = compare(noisy([10, 20], rounds=5), Rule())
    assert only(result).p == pytest.approx(1 / 16)
    assert only(result).verdict == "saves"


def test_three_rounds_of_several_cells_are_refused_by_name():
    result = compare(noisy([10, 20, 30], rounds=3, noise=0.0001), Rule())
    assert {pair.verdict for pair in result.pairs} == {"inconclusive"}
    assert result.pairs[0].reason == "a simultaneous interval needs 4 rounds valid for both"
    assert result.pairs[0].more_rounds is None  # one more gives an interval, not a verdict
    assert (result.pairs[0].joint_low, result.pairs[0].p_margin) == (None, None)


def test_a_difference_that_its_own_interval_shows_may_not_hold_among_many_pairs():
    data = noisy([10, 10.5, 10.5, 10.5, 10.5, 10.5], rounds=8, noise=0.02, seed=4)
    result = compare(data, Rule())
    [pair] = [pair for pair in result.pairs if pair.high < 0.98 and pair.verdict != "saves"]
    assert pair.joint_high > 0.98
    assert pair.reason == "the interval crosses the margin"
    assert pair.more_rounds > 0


def test_a_verdict_says_what_its_simultaneous_interval_says():
    """Of 12 cells at the margin and around it, with 20 seeds: every verdict, both directions."""
    band, seen = 1 - 0.02, set()
    for seed in range(20):
        levels = [10, 10, 10, 10, 10.1, 10.2, 10.2, 10.3, 10.3, 10.4, 10.5, 10.6]
        for pair in compare(noisy(levels[::2], 8, 0.012, seed), Rule(draws=999)).pairs:
            beyond = pair.joint_high <= band + 1e-9 or pair.joint_low >= 1 / band - 1e-9
            within = pair.tost_low > band and pair.tost_high < 1 / band
            expected = "saves" if beyond else "equivalent" if within else "inconclusive"
            assert pair.verdict == expected
            assert (pair.p_margin <= 0.05) == beyond
            assert (pair.p_equivalent <= 0.05) == within
            assert pair.p_margin >= pair.p
            seen.add(pair.verdict)
    assert seen == {"saves", "equivalent", "inconclusive"}


def test_of_two_cells_the_simultaneous_interval_is_the_t_interval():
    pair = only(compare(noisy([10, 20]), Rule()))
    assert (pair.joint_low, pair.joint_high) == pytest.approx((pair.low, pair.high), rel=1e-12)
    one_sided = stats.ttest_rel(*np.log(noisy([10, 20]).values).T).confidence_interval(0.9)
    assert np.log([pair.tost_low, pair.tost_high]) == pytest.approx(list(one_sided))


def test_equivalence_of_two_cells_is_what_statsmodels_says():
    generator = np.random.default_rng(5)
    for _ in range(5):
        x, y = np.exp(generator.normal(0, 0.01, (2, 9)))
        [pair] = compare(block([x, y]), Rule()).pairs
        theirs = ttost_paired(x, y, 0.98, 1 / 0.98, transform=np.log)[0]
        assert pair.p_equivalent == pytest.approx(theirs, abs=1e-9)


def test_more_pairs_have_wider_intervals():
    six, two = (compare(noisy([10] * n, 10), Rule(draws=999)).pairs[0] for n in (6, 2))
    widths = [np.log(pair.joint_high / pair.joint_low) for pair in (six, two)]
    own = [np.log(pair.high / pair.low) for pair in (six, two)]
    assert widths[0] / own[0] > 1.2
    assert widths[1] / own[1] == pytest.approx(1)


def test_comparisons_that_share_alpha_have_wider_intervals_and_larger_p():
    data = noisy([10, 10.3, 10.6])
    alone, shared = (compare(data, Rule(draws=99_999, sharing=n)) for n in (1, 8))
    for a, b in zip(alone.pairs, shared.pairs, strict=True):
        assert b.joint_low < a.joint_low
        assert b.p == pytest.approx(min(1, 8 * a.p))
        assert b.p_margin == pytest.approx(min(1, 8 * a.p_margin))
        assert (b.low, b.high) == (a.low, a.high)  # that of the pair alone


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
    assert [pair.rounds for pair in result.pairs] == [5, 6, 5]
    assert result.complete_rounds == 5


def test_a_cell_without_any_value_is_left_out_by_name():
    result = compare(block([[10, 11], [NAN, NAN], [20, 21]]), Rule())
    assert result.ranked == ("a", "c")


def test_cells_that_never_share_a_round_are_not_compared():
    pair = only(compare(block([[10, NAN], [NAN, 20]]), Rule()))
    assert (pair.ratio, pair.reason) == (None, "no round in which both are valid")


def test_a_round_that_no_cell_shares_with_all_others_still_counts_for_its_pairs():
    data = noisy([10, 20, 30], rounds=11)
    for row in range(11):
        data.values[row, row % 3] = NAN
    result = compare(data, Rule(margin=0.0))
    assert result.complete_rounds == 0
    assert [pair.rounds for pair in result.pairs] == [3, 4, 4]
    assert [pair.p is None for pair in result.pairs] == [True, False, False]


@pytest.mark.parametrize(
    ("own_interval", "verdict", "reason"),
    [
        (0.01, "saves", ""),
        (0.05, COARSE, "the instruments resolve 11 %, and the difference is not larger"),
    ],
)
def test_the_instruments_own_interval_can_undo_a_difference(own_interval, verdict, reason):
    pair = only(compare(noisy([10, 10.7], noise=0.001, own_interval=own_interval), Rule()))
    assert (pair.verdict, pair.reason) == (verdict, reason)
    assert pair.wide_low < pair.low < pair.high < pair.wide_high
    assert pair.instrument == pytest.approx((1 + own_interval) / (1 - own_interval), rel=0.01)


def test_a_difference_just_beyond_the_resolution_takes_more_rounds():
    data = noisy([10, 10.7], noise=0.02, rounds=12, own_interval=0.03)
    pair = only(compare(data, Rule()))
    assert (pair.verdict, pair.more_rounds is not None) == ("inconclusive", True)
    assert pair.reason == "with the instruments' interval added, it includes 1"


def test_the_instruments_own_interval_can_undo_an_equivalence():
    pair = only(compare(noisy([10, 10], noise=0.001, own_interval=0.05), Rule()))
    assert (pair.verdict, pair.reason) == (
        COARSE,
        "the instruments resolve 11 %, and the margin is not larger",
    )


def test_an_instrument_that_may_have_seen_nothing_decides_nothing():
    pair = only(compare(noisy([10, 20], own_interval=1.0), Rule()))
    assert (pair.wide_low, pair.wide_high, pair.verdict) == (None, None, COARSE)
    assert pair.reason == "the interval of an instrument extends to zero"


def test_every_pair_is_compared_and_the_named_reference_comes_last():
    data = noisy([10, 20, 30])
    every = [(p.a, p.b) for p in compare(data, Rule()).pairs]
    named = [(p.a, p.b) for p in compare(data, Rule(), reference="b").pairs]
    assert every == [("a", "b"), ("a", "c"), ("b", "c")]
    assert named == [("a", "b"), ("a", "c"), ("c", "b")]


def test_the_savings_matrix_reads_by_row():
    matrix = savings(compare(noisy([10, 20], noise=1e-6), Rule()), Rule())
    assert matrix.saving_pct[0] == (None, pytest.approx(50, abs=0.01))
    assert matrix.saving_pct[1] == (pytest.approx(-100, abs=0.01), None)
    assert matrix.verdicts == ((None, "saves"), ("worse", None))
    faster = Rule(higher_is_better=True)
    matrix = savings(compare(noisy([10, 20], noise=1e-6), faster), faster)
    assert (matrix.cells, matrix.saving_pct[0][1]) == (("b", "a"), pytest.approx(100, abs=0.01))


def test_the_same_seed_gives_the_same_answer():
    data = noisy([10, 10.1, 10.2, 10.3])
    assert compare(data, Rule(seed=4)) == compare(data, Rule(seed=4))


@pytest.mark.parametrize("noise", [[0.02] * 4, [0.005, 0.005, 0.05, 0.05]])
def test_false_differences_stay_rare_also_when_cells_differ_in_noise(noise):
    """250 studies of 4 equal cells in 6 rounds with drift, margin 0: any false verdict counts."""
    generator = np.random.default_rng(21)
    false = 0
    for study in range(250):
        logs = generator.normal(0, 1, (6, 4)) * noise + generator.normal(0, 0.05, (6, 1))
        result = compare(
            Block(cells=tuple("abcd"), values=np.exp(logs)),
            Rule(margin=0.0, draws=199, seed=study),
        )
        false += any(pair.verdict in ("saves", "worse") for pair in result.pairs)
    assert false / 250 <= 0.075
