"""Studies as a store gives them to a comparison."""

from pathlib import Path

from slm_energy.analysis.noise_floor import to_text
from slm_energy.analysis.result.diagnostics import MetricNoise, NoiseFloor
from slm_energy.config.groups import TrackingConfig
from slm_energy.running.report import open_sides
from slm_energy.store.tracking import Store
from tests.conftest import ready_store


def test_each_side_of_a_comparison_knows_the_noise_floors_of_its_store(
    tmp_path: Path, empty_store: Path
) -> None:
    noise = MetricNoise(name="time/a_s", ratio=1.0, low=0.99, high=1.02, sd_pct=1.0, trials=9)
    floor = NoiseFloor(
        study="aa", machine="here", cell="m / e / p", day="", rounds=4, metrics=(noise,)
    )
    ready_store(tmp_path / "mlruns", empty_store)
    tracking = TrackingConfig(name="local", folder=str(tmp_path / "mlruns"))
    store = Store(tracking)
    for study in ("old", "new"):
        store.open_sweep(study, "s1", "here", "")
    store.set_noise_floor(store.open_sweep("aa", "s2", "here", ""), "here", to_text(floor))
    for side in open_sides("old", "new", tracking):
        assert side.stored_floor("here") == floor
        assert side.stored_floor("elsewhere") is None
