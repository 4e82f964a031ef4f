"""The store that the speed of reports is measured on, in small."""

import shutil
from pathlib import Path

from slm_energy.analysis.trials.frame import tidy
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

    shape = bench.Shape(models=1, engines=10, batches=2)
    bench.fill(tracking, "copies", 5 * shape.cells, shape)
    frame = Store(tracking).frame("copies")
    assert len(frame) == 5 * shape.cells
    assert frame["cell"].nunique() == shape.cells
    assert set(frame["round"]) == {1, 2, 3, 4, 5}
    valid = tidy(frame, "copies").valid
    assert len(valid) == len(frame) - 1  # drawn with a seed
    ratio = frame["energy/per_output_token_j"] / record.metrics["energy/per_output_token_j"]
    assert ratio.between(0.9, 2).all()
