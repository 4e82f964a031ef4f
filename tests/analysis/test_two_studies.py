"""Comparisons of two studies in which nothing has changed, in small."""

import pytest

from tests.benchmark import load

bench = load("two_studies")


@pytest.mark.parametrize(("rounds", "correlation"), [(5, 0.5), (8, 0.5), (8, 0.7), (12, 0.7)])
def test_correlated_rounds_cause_hardly_more_false_alarms_than_stated(rounds, correlation):
    found = bench.of_correlated_rounds(4, rounds, correlation, studies=250, seed=4)
    assert found.independent > 0.12
    assert found.ours < 0.1


def test_independent_rounds_cost_little():
    found = bench.of_correlated_rounds(4, 12, 0.0, studies=250, seed=5)
    assert found.ours < 0.07
    assert found.width < 1.15


def test_a_floor_is_for_what_shifts_a_whole_study():
    without, with_floor = (
        bench.of_shifted_studies(4, 10, 0.02, floor, studies=200, seed=6) for floor in (0.0, 0.04)
    )
    assert without > 0.1
    assert with_floor < 0.06
