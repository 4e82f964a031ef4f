"""Joules per solved task: intervals that choose tasks anew."""

import numpy as np
import pytest

from slm_energy.analysis.stats.comparison import Block, Rule
from slm_energy.analysis.stats.paired import compare
from slm_energy.analysis.stats.pass_rate import rate_interval
from slm_energy.analysis.stats.per_solved import lasting, like_interval

SOLVED = np.repeat([1.0, 0.0], [10, 30])
EQUAL = np.ones(40)


def test_without_noise_of_energy_the_interval_is_that_of_the_pass_rate():
    low, high = like_interval(np.log(4.0), 0.0, EQUAL, SOLVED, 0.05)
    assert (1 / np.exp(high), 1 / np.exp(low)) == pytest.approx(rate_interval(SOLVED, 0.05))


def test_longer_failing_answers_make_the_interval_wider_and_shorter_ones_narrower():
    def width(share):
        low, high = like_interval(0.0, 0.01, share / share.mean(), SOLVED, 0.05)
        return high - low

    assert width(1.5 - SOLVED) > width(EQUAL) > width(1 + 0.2 * SOLVED)


def block(logs, columns):
    return Block(cells=tuple("abcd"[: logs.shape[1]]), values=np.exp(logs), lasting=columns)


@pytest.mark.parametrize("cells", [2, 4])
def test_identical_answers_compare_as_energies_do(cells):
    logs = np.random.default_rng(3).normal(0, 0.01, (6, cells))
    own = lasting(np.ones((cells, 40)), np.tile(SOLVED, (cells, 1)), [0] * cells)
    with_tasks, without = (compare(block(logs, f), Rule(draws=999)).pairs for f in (own, None))
    for pair, plain in zip(with_tasks, without, strict=True):
        assert pair.joint_low == pytest.approx(plain.joint_low)
        assert pair.joint_high == pytest.approx(plain.joint_high)
        assert pair.verdict == plain.verdict


def test_the_fewer_tasks_are_solved_the_wider_a_ratio_although_they_are_the_same_tasks():
    logs = np.random.default_rng(3).normal(0, 0.01, (6, 2))

    def width(count):
        both = np.tile(np.repeat([1.0, 0.0], [count, 40 - count]), (2, 1))
        [pair] = compare(block(logs, lasting(np.ones((2, 40)), both, [0, 1])), Rule()).pairs
        return np.log(pair.joint_high / pair.joint_low)

    assert width(1) > 2 * width(4) > 2 * width(20) > width(40)


def test_errors_that_rounds_do_not_reduce_ask_for_no_further_rounds():
    logs = np.random.default_rng(3).normal(0, 0.01, (6, 2))
    own = lasting(np.ones((2, 40)), np.stack([SOLVED, SOLVED[::-1]]), [0, 1])
    [pair] = compare(block(logs, own), Rule()).pairs
    assert pair.verdict == "inconclusive"
    assert pair.more_rounds is None
    assert "rounds" not in pair.reason
