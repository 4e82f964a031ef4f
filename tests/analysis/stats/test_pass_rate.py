"""Pass rates: their intervals, and two cells that answered the same tasks."""

import numpy as np
import pytest
from scipy import stats

from slm_energy.analysis.stats.pass_rate import (
    difference_interval,
    holm,
    mcnemar,
    rate_interval,
)


def solved(count, tasks):
    return np.repeat([1.0, 0.0], [count, tasks - count])


def test_no_task_solved_has_the_exact_upper_limit():
    low, high = rate_interval(solved(0, 40), 0.05)
    assert low == 0
    assert (1 - high) ** 40 == pytest.approx(0.05)  # 7.2 %
    assert rate_interval(solved(40, 40), 0.05) == (pytest.approx(1 - high), 1.0)


@pytest.mark.parametrize("count", [1, 5, 20, 39])
def test_the_interval_is_wilsons(count):
    expected = stats.binomtest(count, 40).proportion_ci(0.95, method="wilson")
    assert rate_interval(solved(count, 40), 0.05) == pytest.approx(tuple(expected))


def test_answers_that_differ_between_rounds_are_worth_more_tasks_but_not_without_end():
    low, high = rate_interval(np.full(40, 0.5), 0.05)
    plain_low, plain_high = rate_interval(solved(20, 40), 0.05)
    assert plain_low < low < 0.5 < high < plain_high
    assert high - low > 0.05


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (5, 1), (2, 9), (10, 0)])
def test_mcnemar_is_the_exact_binomial_test_whatever_the_unit(only_a, only_b):
    apart = [3] * only_a + [-3] * only_b + [0] * 7
    n = only_a + only_b
    expected = stats.binomtest(only_a, n).pvalue if n else 1.0
    assert mcnemar(apart) == pytest.approx(expected)


def test_mcnemar_of_partly_solved_tasks_counts_all_changes_of_sign():
    # sums of +-1 +-2 +-3: 8 equally likely ones, two of them as large as 6
    assert mcnemar([1, 2, 3, 0]) == pytest.approx(2 / 8)


def test_holm_is_the_step_down_adjustment():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []


def test_the_paired_interval_is_newcombes():
    # Newcombe 1998, Statistics in Medicine 17: method 10 of 36 both, 12 and 2 one, 0 neither
    a, b = np.repeat([1.0, 1, 0, 0], [36, 12, 2, 0]), np.repeat([1.0, 0, 1, 0], [36, 12, 2, 0])
    assert difference_interval(a, b, 0.05) == pytest.approx((0.0569, 0.3404), abs=5e-5)


def test_the_interval_of_a_difference_changes_sign_with_its_cells():
    a, b = solved(10, 40), np.roll(solved(8, 40), 3)
    low, high = difference_interval(a, b, 0.05)
    assert difference_interval(b, a, 0.05) == pytest.approx((-high, -low))
