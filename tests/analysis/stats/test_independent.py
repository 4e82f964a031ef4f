"""Repetitions that are no rounds: independent samples, equal to scipy where it does the same."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from slm_energy.analysis.result.metric import Metric
from slm_energy.analysis.stats.comparison import Block, Rule
from slm_energy.analysis.stats.independent import compare

JOULES = Metric(name="energy/total_j")
TOKENS = Metric(name="throughput/output_tokens_per_s")


def block(*columns: list[float]) -> Block:
    rows = max(map(len, columns))
    filled = [[*column, *[np.nan] * (rows - len(column))] for column in columns]
    return Block(cells=tuple("abcd"[: len(columns)]), values=np.array(filled).T)


A, B, C = [1.00, 1.03, 0.98, 1.01], [1.50, 1.47, 1.55], [1.52, 1.40, 1.61, 1.56, 1.49]


def test_interval_and_p_of_two_cells_are_welchs() -> None:
    [pair] = compare(block(A, B), JOULES, Rule()).pairs
    welch = stats.ttest_ind(np.log(A), np.log(B), equal_var=False)
    ends = welch.confidence_interval(0.95)
    assert (pair.a, pair.b, pair.verdict) == ("a", "b", "saves")
    assert pair.ratio == pytest.approx(np.exp(np.log(A).mean() - np.log(B).mean()), rel=1e-12)
    assert pair.low is not None
    assert pair.high is not None
    assert [pair.low, pair.high] == pytest.approx([np.exp(ends.low), np.exp(ends.high)], rel=1e-9)
    assert pair.p == pytest.approx(welch.pvalue, rel=1e-6)


def test_p_of_several_cells_is_adjusted_with_holm() -> None:
    found = compare(block(A, B, C), JOULES, Rule())
    assert [(pair.a, pair.b) for pair in found.pairs] == [("a", "b"), ("a", "c"), ("b", "c")]
    samples = {"a": np.log(A), "b": np.log(B), "c": np.log(C)}
    raw = [
        stats.ttest_ind(samples[pair.a], samples[pair.b], equal_var=False).pvalue
        for pair in found.pairs
    ]
    expected = multipletests(raw, method="holm")[1]
    assert [pair.p for pair in found.pairs] == pytest.approx(expected, rel=1e-9)
    assert {(pair.verdict, pair.reason) for pair in found.pairs} == {
        ("inconclusive", "a simultaneous interval needs 5 values of each cell")
    }


def test_the_verdicts_of_several_cells_hold_together() -> None:
    generator = np.random.default_rng(5)
    cells = [np.exp(np.log(cost) + generator.normal(0, 0.01, 8)) for cost in (1, 1.002, 1.03, 1.2)]
    found = compare(block(*cells), JOULES, Rule())
    assert [(pair.a, pair.b, pair.verdict) for pair in found.pairs] == [
        ("a", "b", "equivalent"),
        ("a", "c", "inconclusive"),
        ("a", "d", "saves"),
        ("b", "c", "inconclusive"),
        ("b", "d", "saves"),
        ("c", "d", "saves"),
    ]
    for pair in found.pairs:
        assert pair.joint_low < pair.low < pair.high < pair.joint_high
        assert (pair.verdict == "saves") == (pair.joint_high <= 0.98) == (pair.p_margin <= 0.05)


def test_a_single_pair_needs_no_adjustment() -> None:
    [pair] = compare(block(A, B), JOULES, Rule()).pairs
    assert (pair.joint_low, pair.joint_high) == pytest.approx((pair.low, pair.high), rel=1e-9)


def test_the_order_of_repetitions_says_nothing() -> None:
    # Paired by row these would be equal in every row but for a constant.
    assert compare(block(A, C), JOULES, Rule()) == compare(
        block(A[::-1], [C[2], *C[:2], *C[3:]]), JOULES, Rule()
    )
    assert all(
        (pair.rounds, pair.won) == (0, 0) for pair in compare(block(A, C), JOULES, Rule()).pairs
    )


def test_cells_are_ranked_by_all_their_repetitions() -> None:
    # The first two rows alone would put a before b.
    assert compare(block([1.0, 1.0, 9.0], [2.0, 2.0]), JOULES, Rule()).ranked == ("b", "a")


def test_equal_cells_are_equivalent_within_a_wide_margin_and_open_within_a_narrow_one() -> None:
    [wide] = compare(block(A, A), JOULES, Rule(margin=0.1)).pairs
    [narrow] = compare(block(A, A), JOULES, Rule(margin=0.001)).pairs
    assert wide.verdict == "equivalent"
    assert (narrow.verdict, narrow.reason) == (
        "inconclusive",
        "the interval crosses the margin",
    )


def test_more_is_better_for_throughput_and_a_reference_comes_last() -> None:
    [pair] = compare(block(A, B), TOKENS, Rule(higher_is_better=True)).pairs
    assert (pair.a, pair.verdict) == ("b", "gains")
    [turned] = compare(block(A, B), TOKENS, Rule(higher_is_better=True), "b").pairs
    assert (turned.a, turned.b, turned.verdict) == ("a", "b", "worse")


def test_one_value_gives_a_ratio_and_nothing_else() -> None:
    found = compare(block([1.0], [2.0], [4.0]), JOULES, Rule())
    assert [pair.ratio for pair in found.pairs] == pytest.approx([0.5, 0.25, 0.5])
    assert {(pair.low, pair.p, pair.delta, pair.verdict) for pair in found.pairs} == {
        (None, None, None, "inconclusive")
    }
    assert "nothing to test" in found.reason


def test_a_constant_cell_is_judged_by_the_spread_of_the_other() -> None:
    cells = block([*A, 1.0], [*B, 1.5, 1.51], [3.0] * 5)
    found = {(p.a, p.b): p for p in compare(cells, JOULES, Rule()).pairs}
    assert found["a", "b"].verdict == "saves"
    assert found["b", "c"].verdict == "saves"
