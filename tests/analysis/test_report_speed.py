"""The store that the speed of reports is measured on, in small."""

from pathlib import Path

from slm_energy.config import TrackingConfig
from slm_energy.tracking import Store
from tests.benchmark import load

bench = load("report_speed")


def test_copies_are_trials_of_a_study_that_can_be_reported(tmp_path: Path) -> None:
    tracking = TrackingConfig(name="local", folder=str(tmp_path / "mlruns"))
    bench.run_template(tracking)
    bench.fill(tracking, "copies", 3 * bench.CELLS)
    frame = Store(tracking).frame("copies")
    assert len(frame) == 3 * bench.CELLS
    assert frame["cell"].nunique() == bench.CELLS
    assert set(frame["round"]) == {1, 2, 3}
    assert (frame["outcome"] == "valid").all()
    [template] = Store(tracking).frame(bench.TEMPLATE).to_dict("records")
    ratio = frame["energy/per_output_token_j"] / template["energy/per_output_token_j"]
    assert ratio.between(0.9, 2).all()
