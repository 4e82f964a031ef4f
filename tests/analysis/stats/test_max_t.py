"""Which pairs differ, adjusted for all of them."""

import numpy as np
import pytest
from scipy import stats

from slm_energy.analysis.stats import max_t as module
from slm_energy.analysis.stats.max_t import max_t, smallest_rounds


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
    ours = max_t(values, draws=9999, seed=0)
    assert ours.exact
    assert ours.draws == 2**6  # half of scipy's: a flip of all signs changes nothing
    assert ours.p[0, 1] == pytest.approx(theirs.pvalue, abs=1e-12)


def test_drawn_permutations_agree_with_all_of_them():
    values = logs(10, 2, seed=5)
    exact, drawn = max_t(values, 9999, 0), max_t(values, 511, 0)
    assert exact.exact
    assert not drawn.exact
    assert exact.p[0, 1] == pytest.approx(drawn.p[0, 1], abs=0.06)


def test_of_independent_pairs_the_largest_t_is_as_the_t_distribution_says():
    """Three cells, one much noisier: its two pairs share one t; the quiet pair has another."""
    values = logs(6, 3, seed=2) * [1, 1, 1000]
    p = max_t(values, 40_000, 1).p
    t = stats.ttest_rel(values[:, 0], values[:, 2]).statistic
    alone = 2 * stats.t.sf(abs(t), 5)
    assert p[0, 2] == pytest.approx(1 - (1 - alone) ** 2, abs=0.01)


def test_drift_between_rounds_changes_nothing():
    values = logs(4, 3)
    drift = np.array([[0.0], [5.0], [-3.0], [1.0]])
    assert np.allclose(max_t(values, 999, 0).p, max_t(values + drift, 999, 0).p)


def test_a_missing_value_takes_its_round_from_its_pairs_only():
    values = logs(8, 3, seed=4) + np.array([0, 0, 1])
    values[2, 0] += 3
    whole = max_t(values, 9999, 0).p
    values[2, 0] = np.nan
    broken = max_t(values, 9999, 0).p
    assert broken[0, 2] < whole[0, 2] / 2
    assert broken[1, 2] == pytest.approx(whole[1, 2], abs=0.05)


def test_equal_noise_is_pooled_and_unequal_noise_is_not():
    """Of 12 equal cells the pooled t has (rounds - 1) x 11 degrees of freedom."""
    generator = np.random.default_rng(0)
    equal = [max_t(generator.normal(0, 1, (6, 12)), 999, 0).prior_df for _ in range(9)]
    scale = np.repeat([1, 30], 6)
    unequal = [max_t(generator.normal(0, 1, (6, 12)) * scale, 999, 0).prior_df for _ in range(9)]
    assert np.median(equal) > 20
    assert np.median(unequal) < 2


def test_a_difference_is_found_in_five_rounds_where_a_paired_t_would_not():
    """8 cells, 2.5 times the noise: a paired t at 0.05 / 28 finds it in 0.1 of studies."""
    generator = np.random.default_rng(14)
    found = 0
    for study in range(200):
        values = generator.normal(0, 1, (5, 8)) + generator.normal(0, 5, (5, 1))
        values[:, 7] += 2.5
        found += max_t(values, 199, study).p[0, 7] <= 0.05
    assert found / 200 > 0.45


def test_a_round_without_any_value_changes_nothing():
    values = logs(6, 3)
    empty = np.vstack([values, np.full((1, 3), np.nan)])
    assert max_t(empty, 9999, 0).p == pytest.approx(max_t(values, 9999, 0).p, abs=0.03)


def test_a_pair_of_several_cells_needs_four_shared_rounds():
    values = logs(6, 3)
    values[:3, 0] = np.nan
    p = max_t(values, 999, 0).p
    assert np.isnan(p[0, 1])
    assert not np.isnan(p[1, 2])


def test_values_that_do_not_vary_are_no_evidence():
    assert np.all(max_t(np.zeros((5, 3)), 999, 0).p == 1)


@pytest.mark.parametrize("shape", [(1, 3), (3, 3), (0, 3), (5, 1), (1, 2)])
def test_no_p_without_rounds_and_cells(shape):
    assert max_t(np.zeros(shape), 999, 0).p is None


@pytest.mark.parametrize(("cells", "rounds"), [(2, 6), (3, 4), (84, 4)])
def test_fewest_rounds_that_can_be_significant(cells, rounds):
    assert smallest_rounds(cells, 0.05) == rounds


@pytest.mark.parametrize("noise", [[1.0] * 8, [10.0, 10.0, *[1.0] * 6]])
@pytest.mark.parametrize("rounds", [5, 12])
def test_the_family_wise_error_is_what_it_says_also_when_cells_differ_in_noise(noise, rounds):
    """400 studies of 8 equal cells with drift; 0.05 within four standard errors of 400 studies."""
    generator = np.random.default_rng(11)
    false = 0
    for study in range(400):
        values = generator.normal(0, 1, (rounds, 8)) * noise + generator.normal(0, 5, (rounds, 1))
        false += max_t(values, 199, study).p.min() <= 0.05
    assert 0.01 < false / 400 < 0.094


def test_missing_trials_do_not_make_differences():
    generator = np.random.default_rng(12)
    false = 0
    for study in range(300):
        values = generator.normal(0, 1, (8, 5)) + generator.normal(0, 5, (8, 1))
        values[generator.random((8, 5)) < 0.15] = np.nan
        false += np.nanmin(max_t(values, 199, study).p) <= 0.05
    assert false / 300 < 0.1


def test_a_difference_of_four_times_the_noise_is_found_in_eight_rounds():
    generator = np.random.default_rng(13)
    found = 0
    for study in range(100):
        values = generator.normal(0, 0.02, (8, 4)) + generator.normal(0, 0.05, (8, 1))
        found += max_t(values + np.array([0, 0, 0, 0.08]), 199, study).p[3, 0] <= 0.05
    assert found / 100 > 0.9


def test_seeded_figures_of_a_study_with_gaps_stay_what_they_were():
    values = np.random.default_rng(7).normal(0, 0.01, (9, 5)) + 0.01 * np.arange(5)
    values[2, 1] = values[5, 3] = np.nan
    found = max_t(values, draws=999, seed=0, band=0.02)
    assert found.draws == 999
    assert found.p[0].tolist() == pytest.approx([1, 0.169, 0.001, 0.001, 0.001])
    criticals = (found.pairs.difference, found.pairs.margin, found.pairs.equivalence)
    assert criticals == pytest.approx((3.0023807626, 2.4541979032, 2.4541979032), rel=1e-9)
    errors = [1, 0.00439933, 0.00414773, 0.00439933, 0.00414773]
    assert found.pairs.error[0].tolist() == pytest.approx(errors, rel=2e-6)


def test_a_family_of_many_trials_has_fewer_draws_and_says_so(monkeypatch):
    values = logs(10, 4)
    assert max_t(values, draws=1999, seed=0).draws == 1999
    monkeypatch.setattr(module, "_MOST_VALUES", 1200 * values.size)
    assert max_t(values, draws=1999, seed=0).draws == 1200
    monkeypatch.setattr(module, "_MOST_VALUES", values.size)
    assert max_t(values, draws=1999, seed=0).draws == 999
