"""The simulated laboratory in small: fewer studies, wider bounds."""

import gc
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from simulated_lab import Lab, rejections, score, stopped, together

EQUAL = Lab(launch=(0.01,) * 5)
UNEQUAL = Lab(launch=(0.01, 0.1, 0.1, 0.01, 0.01))
EIGHT = "ours, 8 rounds"


@pytest.fixture
def frozen():
    """Each of Dunn's tests collects garbage: a second, with all that a suite has imported."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.parametrize("lab", [EQUAL, UNEQUAL], ids=["equal noise", "unequal noise"])
def test_ours_errs_as_often_as_it_says(lab):
    found = score(EIGHT, lab, studies=150, effect=0.05, draws=299, seed=3)
    assert 0.01 < found.false_findings < 0.1
    assert 0.91 < found.coverage < 0.98
    assert found.power > 0.85


@pytest.mark.usefixtures("frozen")
def test_common_practice_is_blind_with_prompts_and_led_astray_by_drift_without():
    pooled = score("in a row, prompts pooled, 10 repetitions", EQUAL, 8, 0.05, 0, 3)
    trials = score("in a row, trials, 10 repetitions", EQUAL, 10, 0.05, 0, 3)
    assert pooled.power < 0.2
    assert trials.false_findings > 0.3


def test_with_unequal_noise_permuted_labels_err_and_our_test_does_not():
    assert rejections("permuted labels", "two 10 x", 8, 5, 150)[0] > 0.1
    assert rejections("ours", "two 10 x", 8, 5, 150)[0] < 0.1


def test_with_equal_noise_ours_finds_what_a_pairs_own_t_does_not():
    ours, own = (rejections(test, "equal", 8, 5, 80)[2] for test in ("ours", "pair's own t"))
    assert ours > own + 0.25


def test_ending_when_intervals_are_narrow_costs_little_coverage():
    found = stopped(3, precision=1.5, cap=40, studies=400, seed=2)
    assert 3 < found.rounds < 20
    assert found.coverage > 0.9


@pytest.mark.parametrize(
    ("cells", "rounds", "noise", "blocked"),
    [(4, 10, "equal", True), (12, 5, "two 10 x", True), (4, 8, "two 10 x", False)],
)
def test_verdicts_at_the_margin_err_and_intervals_hold_as_often_as_they_say(
    cells, rounds, noise, blocked
):
    """0.05 and 0.95 within four standard errors of 200 studies."""
    found = together(cells, rounds, noise, 200, 3, blocked)
    assert found.false < 0.11
    assert found.equivalent < 0.11
    assert min(found.held, found.held_inside) > 0.87


def test_the_own_intervals_of_many_pairs_do_not_hold_together():
    found = together(12, 10, "equal", studies=80, seed=4)
    assert found.own > found.false + 0.15
    assert found.extreme < 0.8
