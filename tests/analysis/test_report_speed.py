"""The store that the speed of reports is measured on, in small."""

import shutil
from pathlib import Path

from slm_energy.config.groups import RunConfig, TrackingConfig
from slm_energy.running import trial
from slm_energy.store import artifacts
from slm_energy.store.tracking import Store
from tests.benchmark import load
from tests.captures import a_capture
from tests.conftest import a_trial

bench = load("report_speed")


def test_copies_are_trials_of_a_study_that_can_be_reported(
    tmp_path: Path, empty_store: Path, config: RunConfig
) -> None:
    tracking = TrackingConfig(name="local", folder=str(tmp_path))
    shutil.copy(empty_store, tmp_path)
    store = Store(tracking)
    record = trial.derive(a_trial(config, study=bench.TEMPLATE), a_capture(), 0)
    (tmp_path / "record").mkdir()
    artifacts.write(tmp_path / "record", record, {})
    parent = store.open_sweep(bench.TEMPLATE, "s1", "here", "note")
    store.store(record, tmp_path / "record", parent, "here")

    bench.fill(tracking, "copies", 3 * bench.CELLS)
    frame = Store(tracking).frame("copies")
    assert len(frame) == 3 * bench.CELLS
    assert frame["cell"].nunique() == bench.CELLS
    assert set(frame["round"]) == {1, 2, 3}
    assert (frame["outcome"] == "valid").all()
    ratio = frame["energy/per_output_token_j"] / record.metrics["energy/per_output_token_j"]
    assert ratio.between(0.9, 2).all()
