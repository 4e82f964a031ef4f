"""The best trade-offs."""

import numpy as np
import pytest

from slm_energy.analysis.result.metric import Metric
from slm_energy.analysis.stats.pareto import pareto

ENERGY, LATENCY = Metric(name="energy/total_j"), Metric(name="latency/e2e_p50_s")
QUALITY = Metric(name="quality/pass_at_1")


def front(x, y, second=LATENCY, rounds=6, noise=0.001):
    generator = np.random.default_rng(0)
    x, y = (np.array(v) * np.exp(generator.normal(0, noise, (rounds, len(v)))) for v in (x, y))
    found = pareto(tuple("abcd"[: x.shape[1]]), (ENERGY, x), (second, y), 0.05, 0)
    return {point.cell: point for point in found.points}


def test_what_another_cell_beats_in_both_is_not_on_the_front():
    points = front([1, 2, 3, 4], [4, 2, 3, 1])
    assert {cell for cell, point in points.items() if point.front} == {"a", "b", "d"}
    assert points["c"].probability == 0
    assert points["a"].probability == 1
    assert points["a"].x_low < 1.001
    assert points["a"].x_high > 0.999


def test_more_quality_is_better_and_may_be_zero():
    points = front([1, 2, 3], [0.0, 0.6, 0.5], QUALITY)
    assert {cell for cell, point in points.items() if point.front} == {"a", "b"}
    assert points["a"].y == 0


def test_a_close_call_is_a_share():
    points = front([1, 1], [1, 2], noise=0.2)
    assert points["a"].probability > 0.9
    assert 0 < points["b"].probability < 1


def test_equal_cells_are_both_on_the_front():
    points = front([1, 1], [2, 2], noise=0)
    assert [point.front for point in points.values()] == [True, True]


@pytest.mark.parametrize("gone", [np.nan, np.inf])
def test_it_takes_two_cells_that_have_both(gone):
    x, y = np.ones((3, 2)), np.ones((3, 2))
    y[:, 1] = gone
    assert pareto(("a", "b"), (ENERGY, x), (LATENCY, y), 0.05, 0) is None


def test_as_good_in_one_and_worse_in_the_other_is_not_on_the_front():
    points = front([1, 2, 2], [2, 2, 1], noise=0)
    assert [point.front for point in points.values()] == [True, False, True]
