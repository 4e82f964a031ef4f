"""The conventional chain."""

import numpy as np
import pandas as pd
import pytest
import scikit_posthocs
from scipy import stats

from slm_energy.analysis.stats.comparison import Block, Rule
from slm_energy.analysis.stats.conventional import chain
from slm_energy.analysis.stats.games_howell import studentised_range
from slm_energy.analysis.stats.paired import compare
from slm_energy.analysis.text.disagreement import disagreements


def both(values):
    """The comparison, and the chain on the same values."""
    block = Block(cells=tuple("abcd"[: values.shape[1]]), values=values)
    comparison = compare(block, Rule(draws=999))
    return comparison, chain(block, comparison.pairs, 0.05, "")[0]


def values(levels, rounds=6, drift=0.0, seed=0):
    generator = np.random.default_rng(seed)
    logs = generator.normal(0, 0.01, (rounds, len(levels))) + generator.normal(
        0, drift or 1e-9, (rounds, 1)
    )
    return np.array(levels) * np.exp(logs)


def differences(data):
    comparison, conventional = both(data)
    block = Block(cells=tuple("abcd"[: data.shape[1]]), values=data)
    return disagreements(conventional, comparison.pairs, block, 0.05)


def test_it_is_what_the_libraries_say():
    data = values([10, 10.1, 10.4])
    result = both(data)[1]
    h, p = stats.kruskal(*data.T)
    chi2, friedman_p = stats.friedmanchisquare(*data.T)
    levene = stats.levene(*data.T)
    assert (result.kruskal_h, result.kruskal_p) == pytest.approx((h, p), abs=1e-12)
    assert (result.levene_w, result.levene_p) == pytest.approx(tuple(levene), abs=1e-12)
    assert (result.friedman_chi2, result.friedman_p) == pytest.approx((chi2, friedman_p), abs=1e-12)
    assert (result.epsilon_squared, result.kendall_w) == pytest.approx((h / 17, chi2 / 12))
    theirs = stats.shapiro(data[:, 0])
    assert (result.cells[0].shapiro_w, result.cells[0].shapiro_p) == pytest.approx(
        (theirs.statistic, theirs.pvalue), abs=1e-12
    )


def test_its_pairs_are_what_scikit_posthocs_says():
    data = values([10, 10.1, 10.4, 10.2], seed=3)
    result = both(data)[1]
    groups, place = list(data.T), {cell: i for i, cell in enumerate("abcd")}
    dunn = scikit_posthocs.posthoc_dunn(groups, p_adjust="holm").to_numpy()
    howell = scikit_posthocs.posthoc_games_howell(groups).to_numpy()
    conover = scikit_posthocs.posthoc_conover_friedman(data, p_adjust="holm").to_numpy()
    letters = scikit_posthocs.compact_letter_display(pd.DataFrame(dunn), alpha=0.05)
    assert len(result.pairs) == 6
    for pair in result.pairs:
        at = place[pair.a], place[pair.b]
        assert pair.dunn_p == pytest.approx(dunn[at], abs=1e-12)
        assert pair.games_howell_p == pytest.approx(howell[at], abs=1e-12)
        assert pair.conover_p == pytest.approx(conover[at], abs=1e-12)
    assert [cell.letters for cell in result.cells] == list(letters)


def test_cells_are_matched_by_name_not_by_place():
    """The comparison ranks c first; its p belongs to it all the same."""
    data = values([10.4, 10.2, 10.0], seed=2)
    result = both(data)[1]
    dunn = scikit_posthocs.posthoc_dunn(list(data.T), p_adjust="holm").to_numpy()
    pair = next(pair for pair in result.pairs if {pair.a, pair.b} == {"a", "b"})
    assert pair.dunn_p == pytest.approx(dunn[0, 1], abs=1e-12)


def test_a_missing_trial_leaves_friedman_its_complete_rounds():
    data = values([10, 10.1, 10.4], rounds=8)
    data[3, 1] = np.nan
    result = both(data)[1]
    kept = np.delete(data, 3, axis=0)
    assert result.friedman_rounds == 7
    assert result.friedman_chi2 == pytest.approx(stats.friedmanchisquare(*kept.T)[0])
    assert [cell.trials for cell in result.cells] == [8, 7, 8]


def test_it_says_where_drift_hides_a_difference_from_it():
    found = differences(values([10, 10.6, 11.2], rounds=8, drift=0.2))
    assert {each.found_by for each in found} == {"rounds"}
    assert found[0].why.startswith("Dunn's test treats drift between rounds as noise")


def test_it_says_where_dunn_has_too_few_trials_to_ever_find_anything():
    found = differences(values([10, 20, 30, 40], rounds=4))
    assert {each.found_by for each in found} == {"rounds"}
    assert {each.why[:8] for each in found} <= {"Dunn's t", "With so "}


def test_it_says_where_only_dunn_finds_a_difference():
    generator = np.random.default_rng(0)
    data = np.exp(generator.normal(0, [0.01, 0.01], (8, 2)))
    data[:, 1] *= 1.02
    data[0] = [1.0, 2.5]  # one wild trial: ranks do not see how wild it is
    (found,) = differences(data)
    assert (found.found_by, found.dunn_p <= 0.05) == ("dunn", True)
    assert "the difference is not larger than the noise" in found.why


def test_agreement_is_no_disagreement():
    assert differences(values([10, 20], rounds=8)) == ()


@pytest.mark.parametrize("case", ["two rounds", "constant", "half missing"])
def test_it_needs_three_trials_of_two_cells_that_vary(case):
    data = values([10, 20], rounds=2 if case == "two rounds" else 6)
    if case == "constant":
        data[:] = 3.0
    if case == "half missing":
        data[1:, 1] = np.nan
    block = Block(cells=("a", "b"), values=data)
    result, left_out = chain(block, compare(block, Rule()).pairs, 0.05, " (small)")
    assert result is None
    assert left_out[0].name == "conventional tests (small)"


@pytest.mark.parametrize("cells", [3, 20])
def test_the_studentised_range_is_scipys(cells):
    q, freedom = np.array([0.1, 2.0, 4.5, 9.0]), np.array([2.0, 3.7, 18.0, 150.0])
    theirs = stats.studentized_range.sf(q, cells, freedom)
    assert studentised_range(q, cells, freedom) == pytest.approx(theirs, abs=1e-9)
