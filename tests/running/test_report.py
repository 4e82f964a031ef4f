"""Studies as a store gives them to a comparison."""

from pathlib import Path

from slm_energy.analysis.noise_floor import to_text
from slm_energy.analysis.result.diagnostics import MetricNoise, NoiseFloor
from slm_energy.config.groups import TrackingConfig
from slm_energy.running.report import open_sides
from slm_energy.running.stop_rule import noise_floor
from slm_energy.store.tracking import Store
from tests.conftest import ready_store


def test_a_noise_floor_of_other_nodes_does_not_count(tmp_path: Path, empty_store: Path) -> None:
    ready_store(tmp_path / "mlruns", empty_store)
    store = Store(TrackingConfig(name="local", folder=str(tmp_path / "mlruns")))
    noise = MetricNoise(name="time/a_s", ratio=1.0, low=0.99, high=1.02, sd_pct=1.0, trials=9)
    for kind in ("Zeta 9", "Eta 4"):
        floor = NoiseFloor(
            study=f"aa {kind}",
            machine="alpha",
            cell="m / e / p",
            day="",
            rounds=4,
            metrics=(noise,),
            node_kind=kind,
        )
        run = store.open_sweep("aa", kind, "alpha", "")
        store.set_noise_floor(run, "alpha", to_text(floor))
    found = [noise_floor(store, "alpha", kind) for kind in ("", "Zeta 9", "Eta 4", "Theta 1")]
    assert [each and each.study for each in found] == ["aa Eta 4", "aa Zeta 9", "aa Eta 4", None]


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
