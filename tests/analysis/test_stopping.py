"""When a study has run enough rounds."""

import pytest

from slm_energy.analysis import options
from slm_energy.analysis.stopping import settled
from slm_energy.errors import AnalysisError

THREE = {"torch/cpu": 0.033, "onnx/cpu": 0.012, "openvino/cpu": 0.0121}


def asked(frame, precision_pct=2.0, without=(), **keys):
    cells = [cell for cell in frame["cell"].unique() if cell not in without]
    return settled(frame, options({"study": "toy", **keys}), precision_pct, cells)


def test_it_ends_when_every_interval_is_narrow_enough(study):
    found = asked(study(THREE, 8, noise=0.005))
    assert found.stop
    assert found.reason.startswith("after 8 rounds every pair's own interval is within ±0.")


def test_it_goes_on_while_one_interval_is_wider(study):
    frame = study(THREE, 8, noise=0.005)
    torch = frame["engine.name"] == "torch"
    frame.loc[torch & (frame["round"] % 2 == 0), "energy/per_output_token_j"] *= 1.1
    found = asked(frame)
    assert not found.stop
    assert "torch against" in found.reason or "against torch" in found.reason
    assert "an interval of ±" in found.reason
    assert asked(frame, precision_pct=10).stop


@pytest.mark.parametrize(("cells", "fewest"), [(2, 6), (3, 4)])
def test_it_never_ends_before_a_difference_could_be_found(study, cells, fewest):
    costs = dict(list(THREE.items())[:cells])
    early = asked(study(costs, fewest - 1, noise=0.001), 50)
    assert not early.stop
    assert f"{fewest - 1} rounds of at least {fewest}" in early.reason
    assert asked(study(costs, fewest, noise=0.001), 50).stop


def test_a_round_is_looked_at_when_it_is_complete(study):
    frame = study(THREE, 8, noise=0.001)
    assert asked(frame.iloc[:-1]).reason == "round 8 is not complete"


def test_a_cell_that_always_fails_does_not_keep_the_others_running(study):
    frame = study(THREE, 8, noise=0.001)
    frame.loc[frame["engine.name"] == "torch", "outcome"] = "failed"
    assert asked(frame).stop


def test_cells_of_an_earlier_grid_do_not_count(study):
    frame = study(THREE, 8, noise=0.001)
    frame = frame[(frame["engine.name"] != "torch") | (frame["round"] == 1)]
    assert not asked(frame).stop
    assert asked(frame, without=["torch-cpu"]).stop


def test_without_a_spread_or_a_pair_it_goes_on(study):
    constant = study(THREE, 8).assign(**{"energy/per_output_token_j": 0.5})
    assert "its spread is unknown" in asked(constant).reason
    assert asked(study({"torch/cpu": 0.03})).reason == "no two cells are compared"


def test_it_needs_a_valid_trial(study):
    with pytest.raises(AnalysisError, match="no valid trial"):
        asked(study(THREE).assign(outcome="failed", reason="broken"))
