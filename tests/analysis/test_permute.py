"""The max-T permutation test."""

import numpy as np
import pytest
from scipy import stats

from slm_energy.analysis.permute import max_t, smallest_rounds


def logs(rounds, cells, seed=0, spread=1.0):
    return np.random.default_rng(seed).normal(0, spread, (rounds, cells))


def test_two_cells_are_scipys_paired_permutation_test():
    values = logs(7, 2, seed=3)
    theirs = stats.permutation_test(
        (values[:, 0], values[:, 1]),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        n_resamples=np.inf,
        vectorized=True,
    )
    ours = max_t(values, permutations=9999, seed=0)
    assert ours.exact
    assert ours.permutations == 2**6  # half of scipy's: a flip of all signs changes nothing
    assert ours.p[0, 1] == pytest.approx(theirs.pvalue, abs=1e-12)


def test_drawn_permutations_agree_with_all_of_them():
    values = logs(3, 4, seed=5)
    exact = max_t(values, permutations=9999, seed=0)
    drawn = max_t(values, permutations=575, seed=0)  # one less than there are
    assert exact.exact
    assert not drawn.exact
    assert exact.permutations == 576
    assert np.abs(exact.p - drawn.p).max() < 0.06


def test_a_pair_alone_is_the_range_statistic_of_the_additive_model():
    values = logs(4, 3, seed=2)
    residual = values - values.mean(1, keepdims=True) - values.mean(0) + values.mean()
    error = np.sqrt(2 * (residual**2).sum() / (3 * 2) / 4)
    t = abs(values[:, 0].mean() - values[:, 1].mean()) / error
    generator, reached = np.random.default_rng(1), 0
    for _ in range(2000):
        shuffled = generator.permuted(values, axis=1)
        rest = shuffled - shuffled.mean(1, keepdims=True) - shuffled.mean(0) + shuffled.mean()
        scale = np.sqrt(2 * (rest**2).sum() / (3 * 2) / 4)
        reached += np.ptp(shuffled.mean(0)) / scale >= t
    assert max_t(values, 9999, 0).p[0, 1] == pytest.approx(reached / 2000, abs=0.04)


def test_drift_between_rounds_changes_nothing():
    values = logs(4, 3)
    drift = np.array([[0.0], [5.0], [-3.0], [1.0]])
    assert np.allclose(max_t(values, 999, 0).p, max_t(values + drift, 999, 0).p)


def test_the_smallest_p_is_one_arrangement():
    separated = np.array([0.0, 1.0, 2.0]) + logs(3, 3, spread=0.001)
    assert max_t(separated, 9999, 0).p[0, 2] == pytest.approx(1 / 36)


def test_values_that_do_not_vary_are_no_evidence():
    assert np.all(max_t(np.zeros((5, 3)), 9999, 0).p == 1)


@pytest.mark.parametrize("shape", [(1, 3), (0, 3), (5, 1)])
def test_no_p_without_two_rounds_and_two_cells(shape):
    assert max_t(np.zeros(shape), 9999, 0).p is None


@pytest.mark.parametrize(("cells", "rounds"), [(2, 6), (3, 3), (4, 2), (84, 2)])
def test_fewest_rounds_that_can_be_significant(cells, rounds):
    assert smallest_rounds(cells, 0.05) == rounds


def test_family_wise_error_and_power_under_drift():
    """400 studies of 4 cells and 5 rounds; noise 2 %, drift 5 %; null, then one cell 8 % dearer."""
    generator = np.random.default_rng(11)
    false, found = 0, 0
    for study in range(400):
        values = generator.normal(0, 0.02, (5, 4)) + generator.normal(0, 0.05, (5, 1))
        false += max_t(values, 199, study).p.min() <= 0.05
        found += max_t(values + np.array([0, 0, 0, 0.08]), 199, study).p[3, 0] <= 0.05
    assert false / 400 < 0.075
    assert found / 400 > 0.9
