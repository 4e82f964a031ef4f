"""One pair of cells, from either side."""

from __future__ import annotations

import dataclasses

import pytest

from slm_energy import analysis
from tests.analysis.conftest import make_study


def test_a_turned_pair_says_the_same_of_the_other_cell() -> None:
    frame = make_study({"torch/cpu": 2.0, "onnx/cpu": 1.0}, 6)
    options = analysis.options({"study": "toy", "metrics": ["energy/per_output_token_j"]})
    [pair] = analysis.build(frame, options).metrics[0].families[0].pairs
    turned = pair.turned()
    assert (turned.a, turned.b, turned.won) == (pair.b, pair.a, pair.rounds - pair.won)
    assert (pair.verdict, turned.verdict) == ("saves", "worse")
    assert turned.ratio == pytest.approx(2.0, rel=0.05)
    assert turned.low < turned.ratio < turned.high
    assert turned.delta_low <= turned.delta <= turned.delta_high
    assert turned.a12_low <= turned.a12 <= turned.a12_high
    again = dataclasses.asdict(turned.turned())
    for name, value in dataclasses.asdict(pair).items():
        expected = pytest.approx(value) if isinstance(value, float) else value
        assert again[name] == expected, name
