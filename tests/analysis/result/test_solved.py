"""The verdict about a pass rate, from either side."""

from __future__ import annotations

import pytest

from slm_energy.analysis.result.solved import quality_verdict


@pytest.mark.parametrize(
    ("low", "high", "differs", "ours", "theirs"),
    [
        (0.05, 0.20, True, "better", "worse"),
        (0.01, 0.20, True, "better", "inconclusive"),  # the loss may be within the margin
        (0.05, 0.20, False, "not worse", "worse"),  # the exact test does not reject
        (-0.01, 0.01, False, "not worse", "not worse"),
        (-0.10, 0.10, False, "inconclusive", "inconclusive"),
        (0.0, 0.0, False, "not worse", "not worse"),
    ],
)
def test_each_cell_of_a_pair_has_its_verdict(low, high, differs, ours, theirs) -> None:
    assert quality_verdict(low, high, differs, 0.02) == ours
    assert quality_verdict(-high, -low, differs, 0.02) == theirs


def test_without_a_margin_identical_answers_are_not_worse() -> None:
    assert quality_verdict(0.0, 0.0, False, 0.0) == "not worse"
    assert quality_verdict(-0.01, 0.01, False, 0.0) == "inconclusive"
