"""What is summed decides whether a sweep may run: through the command line, on fake sensors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from slm_energy.config.groups import TrackingConfig
from slm_energy.store.connection import store_uri
from slm_energy.testing.nvml import COUNTER, POWER, POWER_INSTANT, FakeGpu, FakeNvml, write_library
from slm_energy.testing.powercap import PowercapTree, Zone
from slm_energy.testing.wall import FakeWallMeter
from slm_energy.testing.waveform import constant
from tests.conftest import Command, refusal, trials

WHOLE = "processor package and DRAM of 1 socket, 1 GPU (NVIDIA Fake 100)"
SHORT = "measurement.target_error=0.2"
"""Windows of less than a second: 0.01 would need seven, as a GPU's latency is not known."""
GPU_ONLY = "GPU only: 1 GPU (NVIDIA Fake 100); processors and memory not included"


@pytest.fixture
def gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU of constantly 70 W, for every process of the sweep."""
    machine = FakeNvml(gpus=(FakeGpu(uuid="GPU-1", waveform=constant(70)),))
    folder = tmp_path / "fake"
    folder.mkdir()
    monkeypatch.setenv("LD_LIBRARY_PATH", str(write_library(machine, folder)))


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[PowercapTree]:
    """A processor of 50 W and its memory."""
    root = tmp_path / "powercap"
    root.mkdir()
    zones = (
        Zone(folder="intel-rapl:0", name="package-0", waveform=constant(50)),
        Zone(folder="intel-rapl:0:0", name="dram", waveform=constant(5)),
    )
    with PowercapTree(root, zones) as tree:
        yield tree


def runs(folder: Path, kind: str, study: str = "default") -> list[Run]:
    client = MlflowClient(store_uri(TrackingConfig(name="local", folder=str(folder / "mlruns"))))
    experiment = client.get_experiment_by_name(study)
    query = f"tags.`slm.kind` = '{kind}'"
    return [] if experiment is None else list(client.search_runs([experiment.experiment_id], query))


def test_a_study_is_not_continued_with_another_scope(
    tmp_path: Path, slm_energy: Command, tree: PowercapTree, gpu: None
) -> None:
    assert slm_energy("measurement=off").returncode == 0  # meters nothing: it has no scope
    words = ("measurement=auto", SHORT, f"measurement.powercap_root={tree.root}")
    begun = slm_energy(*words)
    assert begun.returncode == 0, begun.stdout + begun.stderr
    assert f"energy of: {WHOLE}" in begun.stdout
    assert f"measured: {WHOLE}" in begun.stdout
    [parent, _] = runs(tmp_path, "sweep")
    assert parent.data.tags["slm.measured"] == WHOLE
    assert WHOLE in parent.data.tags["mlflow.note.content"]
    measured = [run.data.tags.get("slm.measured", "") for run in runs(tmp_path, "trial")]
    assert sorted(measured) == sorted(trials(tmp_path)["measured"]) == ["", WHOLE]

    for folder in ("intel-rapl:0", "intel-rapl:0:0"):  # as after a reboot, for all but root
        tree.set_fault(folder, "unreadable")
    more = slm_energy(*words, "study.rounds=2")
    line = refusal(more)
    assert line.startswith("error: study.name=default: the sum was over processor package and DRAM")
    assert f"and is over {GPU_ONLY} (no longer: cpu_package package-0, dram package-0)" in line
    assert "study.name=NAME" in line
    assert len(trials(tmp_path)) == 2
    assert len(runs(tmp_path, "sweep")) == 2

    planned = slm_energy("plan", *words, "study.rounds=2")
    assert f"energy of: {WHOLE}" in planned.stdout

    for folder in ("intel-rapl:0", "intel-rapl:0:0"):
        tree.set_fault(folder, None)
    again = slm_energy(*words, "study.rounds=2")
    assert again.returncode == 0, again.stdout + again.stderr
    assert len(trials(tmp_path)) == 3


def test_a_processor_s_trials_are_refused_or_invalid_where_only_the_gpu_is_metered(
    tmp_path: Path, slm_energy: Command, gpu: None
) -> None:
    words = (f"measurement.powercap_root={tmp_path / 'none'}", "study.attempts=1", SHORT)
    refused = slm_energy("measurement=strict", *words)
    line = refusal(refused)
    assert line.startswith("error: measurement.mode=strict: provider=cpu computes on the processor")
    assert f"which is not in the sum ({GPU_ONLY})" in line
    assert "slm-energy doctor" in line
    assert "measurement=wall" in line
    assert runs(tmp_path, "sweep") == runs(tmp_path, "trial") == []

    ran = slm_energy("measurement=auto", *words)
    assert ran.returncode == 1
    assert "will be invalid: provider=cpu computes on the processor" in ran.stdout
    [trial] = runs(tmp_path, "trial")
    assert trial.data.tags["slm.outcome"] == "invalid"
    assert trial.data.tags["slm.reason"].startswith("energy_known: provider=cpu computes on the")
    true_j = 70 * trial.data.metrics["time/serve_s"]
    bounds = [trial.data.metrics[f"energy/gpu_{end}_j"] for end in ("low", "high")]
    assert bounds[0] <= true_j <= bounds[1]
    assert trial.data.metrics["power/gpu_mean_w"] == pytest.approx(70, rel=0.01)
    assert not [name for name in trial.data.metrics if "total" in name or "per_output" in name]

    doctor = slm_energy("doctor", words[0], quick=False)
    assert doctor.returncode == 1
    assert doctor.stdout.startswith("No total can be measured here: provider=cpu computes on the")
    for_gpu = slm_energy("doctor", words[0], "provider=cuda", "--json", quick=False)
    assert f"measured, no total: {GPU_ONLY}" in for_gpu.stdout


def test_a_gpu_without_joules_is_in_no_total_unless_a_wall_meter_covers_it(
    tmp_path: Path, slm_energy: Command, tree: PowercapTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuses = dict.fromkeys((COUNTER, POWER, POWER_INSTANT), "NotSupported")
    mute = FakeGpu(uuid="GPU-1", waveform=constant(70), errors=refuses)
    folder = tmp_path / "fake"
    folder.mkdir()
    library = write_library(FakeNvml(gpus=(mute,)), folder)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(library))
    words = ("doctor", f"measurement.powercap_root={tree.root}", "provider=cuda")
    refused = slm_energy(*words, quick=False)
    assert refused.returncode == 1
    first = refused.stdout.splitlines()[0]
    assert first.startswith("No total can be measured here: provider=cuda computes on the GPU")
    assert "nvml: GPU 0 (NVIDIA Fake 100) has no energy counter" in first
    with FakeWallMeter(constant(400)) as wall:
        meter = wall.config("power")
        at_the_wall = (
            "measurement=wall",
            f"measurement.wall_meter.url='{meter.url}'",
            f"measurement.wall_meter.path={meter.path}",
            f"measurement.wall_meter.unit={meter.unit}",
        )
        covered = slm_energy(*words, *at_the_wall, "--json", quick=False)
    assert '"detail": "measured: whole machine at the wall"' in covered.stdout


@pytest.mark.parametrize("mode", ["auto", "strict"])
def test_a_wall_meter_that_was_requested_and_cannot_be_reached_refuses(
    tmp_path: Path, slm_energy: Command, tree: PowercapTree, mode: str
) -> None:
    done = slm_energy(
        "measurement=wall",
        f"measurement.mode={mode}",
        f"measurement.powercap_root={tree.root}",
        "measurement.wall_meter.url=http://127.0.0.1:9/",
        "measurement.wall_meter.path=power",
        "measurement.wall_meter.unit=W",
    )
    line = refusal(done)
    assert line.startswith("error: wall: http://127.0.0.1:9/ cannot be reached")
    assert "measurement.wall_meter.url" in line
    assert runs(tmp_path, "sweep") == []
