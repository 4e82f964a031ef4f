"""The conventional chain."""

import numpy as np
import pytest
import scikit_posthocs
from scipy import stats

from slm_energy.analysis.classic import chain
from slm_energy.analysis.compare import Block, Rule, compare


def run(values):
    block = Block(cells=tuple("abcd"[: values.shape[1]]), values=values)
    return chain(block, compare(block, Rule(), "all"), 0.05)


def values(levels, rounds=6, drift=0.0, seed=0):
    generator = np.random.default_rng(seed)
    logs = generator.normal(0, 0.01, (rounds, len(levels))) + generator.normal(
        0, drift or 1e-9, (rounds, 1)
    )
    return np.array(levels) * np.exp(logs)


def test_it_is_what_the_libraries_say():
    data = values([10, 10.1, 10.4])
    result = run(data)
    h, p = stats.kruskal(*data.T)
    dunn = scikit_posthocs.posthoc_dunn(list(data.T), p_adjust="holm").to_numpy()
    place = {cell: i for i, cell in enumerate("abc")}
    assert (result.kruskal_h, result.kruskal_p) == pytest.approx((h, p), abs=1e-12)
    assert result.levene_p == pytest.approx(stats.levene(*data.T).pvalue, abs=1e-12)
    assert result.shapiro_p["a"] == pytest.approx(stats.shapiro(data[:, 0]).pvalue, abs=1e-12)
    for pair in result.dunn:
        assert pair.p == pytest.approx(dunn[place[pair.a], place[pair.b]], abs=1e-12)
    assert result.epsilon_squared == pytest.approx(h / 17)


def test_a12_is_the_chance_of_a_larger_value():
    (pair,) = run(values([10, 20])).dunn
    assert (pair.a, pair.b, pair.a12) == ("a", "b", 0)


def test_it_says_where_drift_hides_a_difference_from_it():
    result = run(values([10, 10.6, 11.2], rounds=8, drift=0.2))
    lines = result.lines({"a": "onnx", "b": "torch", "c": "jit"})
    assert lines[1].startswith("They disagree on onnx against")
    assert "Only the block comparison finds a difference" in lines[1]


def test_agreement_needs_no_line():
    assert len(run(values([10, 20], rounds=8)).lines({"a": "onnx", "b": "torch"})) == 1


def test_it_needs_three_trials_of_two_cells_that_vary():
    assert run(values([10, 20], rounds=2)) is None
    assert run(np.full((5, 2), 3.0)) is None
    half = values([10, 20])
    half[1:, 1] = np.nan
    assert run(half) is None
