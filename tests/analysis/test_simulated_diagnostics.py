"""The simulated figures of what stands beside verdicts, in small: fewer studies, wider bounds."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from simulated_diagnostics import (
    delta_coverage,
    drift_alarms,
    factor_alarms,
    model_alarms,
    outlier_alarms,
    outlier_found,
    settled_share,
    verdict_share,
)

NOISES = pytest.mark.parametrize("noisy", [1.0, 10.0], ids=["equal noise", "one 10 x"])


@NOISES
def test_rounds_that_differ_do_not_drift(noisy):
    assert drift_alarms(4, 8, noisy, 100) < 0.12


@NOISES
def test_clean_studies_are_rarely_flagged_and_an_outlier_mostly(noisy):
    assert outlier_alarms(4, 8, noisy, 60) < 0.15
    assert outlier_found(6, 8, 1.0, 25) > 0.7


def test_a_noisy_cell_makes_no_factor_matter():
    ours, by_f = factor_alarms(12, 5, 10.0, 60)
    assert ours < 0.12
    assert by_f > 0.1


@pytest.mark.parametrize(("cells", "rounds"), [(2, 8), (4, 6)])
def test_a_difference_gets_a_verdict_as_often_as_said(cells, rounds):
    assert 0.68 < verdict_share(cells, rounds, 120) < 0.92


def test_more_rounds_settle_a_pair_as_often_as_said():
    assert 0.65 < settled_share(2, 8, 300) < 0.95


def test_intervals_of_delta_hold_where_cells_are_separated():
    assert delta_coverage(5, 3.0, 400) > 0.92


def test_engines_that_differ_by_model_do_not_differ_over_models():
    ours, fixed = model_alarms(5, 4, 100)
    assert ours < 0.12
    assert fixed > 0.9
