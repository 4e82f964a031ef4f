"""Whether a verdict rests on one round."""

import numpy as np
import pandas as pd
import pytest

from slm_energy.analysis import build, options
from slm_energy.analysis.stats.comparison import Block, Rule
from slm_energy.analysis.stats.leave_one_out import MOST_TRIALS, rests_on
from slm_energy.analysis.stats.paired import compare

ENERGY = "energy/per_output_token_j"


def block(values):
    return Block(cells=tuple("abcdefgh"[: values.shape[1]]), values=np.exp(values))


def examined(values, **keys):
    rule = Rule(draws=999, **keys)
    own = block(values)
    pairs = compare(own, rule).pairs
    return pairs, rests_on(own, pairs, lambda kept: compare(kept, rule), rule.higher_is_better)


def apart(rounds=8, gap=0.1, noise=0.005, cells=2, seed=0):
    """Logs of cells that are `gap` apart, in rounds that drift."""
    generator = np.random.default_rng(seed)
    drift = generator.normal(0, 0.05, (rounds, 1))
    return gap * np.arange(cells) + drift + generator.normal(0, noise, (rounds, cells))


def test_a_clear_difference_rests_on_no_round():
    [pair], gone = examined(apart())
    assert pair.verdict == "saves"
    assert gone == ()


def test_the_round_that_spoils_a_verdict_is_named():
    values = apart(rounds=6)
    values[3, 1] -= 0.2  # in round 4 the dearer cell is cheaper
    [pair], gone = examined(values)
    assert pair.verdict == "inconclusive"
    assert [(each.round, each.verdict) for each in gone] == [(4, "saves")]


@pytest.mark.parametrize("without", range(6))
def test_it_is_what_the_comparison_says_without_that_round(without):
    values = apart(rounds=6, gap=0.035, noise=0.012, cells=3, seed=5)
    pairs, gone = examined(values)
    kept = np.delete(values, without, axis=0)
    again = {frozenset((p.a, p.b)): p for p in compare(block(kept), Rule(draws=999)).pairs}
    for pair in pairs:
        other = again[frozenset((pair.a, pair.b))]
        assert (other.a, other.b) == (pair.a, pair.b)
        named = [
            each for each in gone if (each.a, each.b, each.round) == (pair.a, pair.b, without + 1)
        ]
        assert bool(named) == (other.verdict != pair.verdict)


def test_cells_that_change_their_order_without_a_round_keep_their_names():
    values = apart(rounds=5, gap=0.0, noise=1e-4)
    values[2, 0] += 1.0  # a is dearer only in round 3
    [pair], gone = examined(values, margin=0.01)
    assert (pair.a, pair.b) == ("b", "a")
    assert [(each.a, each.b, each.round, each.verdict) for each in gone] == [
        ("b", "a", 3, "equivalent")
    ]


def test_one_round_or_too_many_trials_are_not_examined():
    assert examined(apart(rounds=1))[1] is None
    assert examined(apart(rounds=MOST_TRIALS // 2 + 1))[1] is None
    assert examined(apart(rounds=MOST_TRIALS // 10))[1] is not None


def findings(study, spoil=(), rounds=6, **keys) -> str:
    costs = {"torch/cpu": 0.033, "onnx/cpu": 0.030}
    frame: pd.DataFrame = study(costs, rounds, noise=0.004)
    for number in spoil:
        frame.loc[(frame["round"] == number) & (frame["cell"] == "torch-cpu"), ENERGY] *= 0.8
    return build(frame, options({"study": "toy", "draws": 999, **keys})).findings[0]


def test_each_finding_says_whether_it_holds_without_any_round(study):
    assert findings(study).endswith("The verdict holds without any single round.")
    assert findings(study, spoil=[4]).endswith("Without round 4 it would be a saving.")
    assert "single round" not in findings(study, rounds=1)


def test_a_verdict_that_needs_every_round_says_so(study):
    """Of three cells no pair has a verdict from three rounds."""
    costs = {"torch/cpu": 0.033, "onnx/cpu": 0.020, "openvino/cpu": 0.045}
    report = build(study(costs, 4), options({"study": "toy", "draws": 999}))
    assert report.findings[0].endswith("Without any one of its rounds it would be inconclusive.")


def test_a_family_of_many_trials_says_that_it_was_not_examined(study, monkeypatch):
    costs = {"torch/cpu": 0.033, "onnx/cpu": 0.020}
    small = build(study(costs, 6), options({"study": "toy", "draws": 999}))
    assert any("without each round" in text for text in small.methods)
    for module in ("stats.leave_one_out", "text.findings"):
        monkeypatch.setattr(f"slm_energy.analysis.{module}.MOST_TRIALS", 11)
    report = build(study(costs, 6), options({"study": "toy", "draws": 999}))
    assert "single round" not in report.findings[0]
    assert any("With more than 11 trials" in note for note in report.notes)
    assert not any("without each round" in text for text in report.methods)
