"""Trials that are too far from what their cell and round make of them."""

import numpy as np
import pytest

from slm_energy.analysis.stats.outliers import find


def study(rounds=8, cells=4, seed=0, wander=0.1):
    generator = np.random.default_rng(seed)
    logs = generator.normal(0, 0.01, (rounds, cells)) + generator.normal(0, wander, (rounds, 1))
    return np.exp(logs)


def flagged(values, **keys):
    return np.argwhere(find(values, 0.05, **{"rounds": True, **keys}).flags).tolist()


def test_a_trial_far_from_its_cell_and_round_is_flagged_in_rounds_that_differ():
    values = study()
    assert flagged(values) == []
    values[3, 2] *= 1.15
    assert flagged(values) == [[3, 2]]
    seen = find(values, 0.05, rounds=True)
    assert seen.scores[3, 2] > seen.limit > np.delete(seen.scores, 2, axis=1).max()


def test_a_round_that_is_dearer_as_a_whole_has_no_outlier():
    values = study(wander=0.0)
    values[3] *= 1.5
    assert flagged(values) == []
    assert flagged(values, rounds=False) == [[3, 0], [3, 1], [3, 2], [3, 3]]


def test_with_missing_trials_and_an_empty_round_it_is_found_as_well():
    values = study(rounds=9)
    values[3, 2] *= 1.15
    values[[0, 5], [1, 2]] = np.nan
    values[8] = np.nan
    seen = find(values, 0.05, rounds=True)
    assert np.argwhere(seen.flags).tolist() == [[3, 2]]
    assert np.isnan(seen.scores[8]).all()


def test_of_two_cells_the_one_that_left_its_median_is_flagged():
    values = study(cells=2, wander=0.005)
    values[5, 1] *= 1.2
    assert flagged(values) == [[5, 1]]


def test_one_cell_has_no_rounds_to_take_out():
    values = study(cells=1, wander=0.0)
    values[5] *= 1.2
    assert flagged(values) == [[5, 0]]


def test_a_noisy_cell_is_no_outlier():
    values = study(rounds=10)
    values[:, 1] = np.exp(np.random.default_rng(5).normal(0, 0.3, 10))
    assert flagged(values) == []


@pytest.mark.parametrize("values", [[1.0, 1.0, 1.0, 9.0], [1.0, 1.0, 1.0, 1.0, 9.0]])
def test_four_trials_or_trials_that_are_equal_but_for_one_have_no_score(values):
    seen = find(np.array(values)[:, None], 0.05, rounds=True)
    assert seen.limit is None
    assert not seen.flags.any()


def test_a_cell_that_does_not_vary_leaves_the_others_their_scores():
    values = study()
    values[:, 0] = 1.0
    values[3, 2] *= 1.4
    seen = find(values, 0.05, rounds=False)
    assert np.isnan(seen.scores[:, 0]).all()
    assert seen.flags[3, 2]


def test_seeded_scores_of_a_study_with_gaps_stay_what_they_were():
    values = np.random.default_rng(7).normal(0, 0.01, (9, 5)) + 0.01 * np.arange(5)
    values[2, 1] = values[5, 3] = np.nan
    found = find(np.exp(values), 0.05, rounds=True)
    assert found.limit == pytest.approx(8.075260960520, rel=1e-9)
    assert np.nanmax(found.scores) == pytest.approx(14.620810319097, rel=1e-9)
    assert np.isnan(found.scores).sum() == 2
