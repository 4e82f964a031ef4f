"""Intervals of joules per solved task hold as often as they say, in a small simulation."""

import numpy as np

from tests.benchmark import load

bench = load("solved_intervals")


def test_with_few_solved_tasks_the_intervals_hold():
    shares = [
        bench.coverage(setting, chance, 150, 5, near=True)
        for setting in bench.SETTINGS[1:3]
        for chance in (0.1, 0.3)
    ]
    assert 0.92 <= np.mean([share.like for share in shares]) <= 0.985
    assert 0.92 <= np.mean([share.these for share in shares]) <= 0.985


def test_two_cells_that_differ_by_the_margin_are_seldom_told_apart():
    setting = bench.Setting(tasks=20, alike=0.9)
    chances, costs = np.array([0.3, 0.3]), np.array([1.0, 1 / (1 - bench.MARGIN)])
    seen = bench.errors(setting, chances, costs, 100, 7)
    assert seen.saves <= 0.06
    assert seen.better <= 0.06
    assert seen.ratios >= 0.93
    assert seen.differences >= 0.9
