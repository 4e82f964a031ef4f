"""Trials on unlike nodes of a cluster are never pooled."""

from slm_energy.analysis.build import build
from slm_energy.analysis.options import options
from slm_energy.analysis.trials.frame import tidy

COSTS = {"torch/cpu": 0.3, "onnx/cpu": 0.2}
ALIKE, OTHER = "Zeta 9 x 64", "Zeta 5 x 32"


def on_nodes(rows, *kinds):
    """One kind of node for each round, on nodes named after the rounds."""
    rounds = rows["round"] - 1
    return rows.assign(node_kind=[kinds[n] for n in rounds], node=[f"n{n + 1}" for n in rounds])


def test_rounds_on_another_kind_of_node_are_left_out_by_name(study):
    rows = on_nodes(study(COSTS, rounds=5), ALIKE, OTHER, ALIKE, OTHER, ALIKE)
    report = build(rows, options({"study": "toy"}))
    assert report.audit.outcomes == {"valid": 6, "invalid": 4}
    [out] = [out for out in report.left_out if out.name == "4 trials on another kind of node"]
    assert out.reason == (
        "ran on n2, n4 (Zeta 5 x 32), not on nodes as most of the study (Zeta 9 x 64)"
    )


def test_of_equally_many_trials_those_of_the_first_rounds_count(study):
    found = tidy(on_nodes(study(COSTS, rounds=4), OTHER, ALIKE, OTHER, ALIKE), "toy")
    assert set(found.valid["round"]) == {1, 3}


def test_nodes_whose_kind_is_not_recorded_are_kept(study):
    rows = study(COSTS, rounds=3)
    assert len(tidy(rows, "toy").valid) == 6
    assert len(tidy(on_nodes(rows, "", ALIKE, ALIKE), "toy").valid) == 6
