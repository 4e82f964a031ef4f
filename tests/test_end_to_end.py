"""The main job through the command line: real engines, and meters on files and devices."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from mlflow import MlflowClient
from mlflow.store.artifact.cli import commands as mlflow_artifacts

from slm_energy.config.groups import TrackingConfig
from slm_energy.models.folder import BUNDLED_MODEL
from slm_energy.store.connection import store_uri
from slm_energy.testing.nvml import FakeGpu, FakeNvml, write_library
from slm_energy.testing.powercap import PowercapTree, Zone
from slm_energy.testing.waveform import constant
from tests.conftest import LENIENT, Command, ready_store, refusal, trials

SHORT = (
    *LENIENT,
    "study.sandbox=off",
    "measurement.baseline_s=0.2",
    "measurement.warmup_s=1",
    "measurement.serve_s=1.0",
    "workload.limit=3",
)


def test_two_engines_do_the_same_work_and_are_compared(
    tmp_path: Path, slm_energy: Command, empty_store: Path
) -> None:
    ready_store(tmp_path / "mlruns", empty_store)
    words = ("-m", "engine=torch,onnx", "provider=cpu,cuda", "workload.new_tokens=8", *SHORT)
    cache = f"cache.folder={tmp_path / 'cache'}"
    done = slm_energy(*words, "engine.threads=1", cache, quick=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "estimated" in done.stdout
    assert " against " in done.stdout
    frame = trials(tmp_path)
    assert frame["outcome"].value_counts().to_dict() == {"valid": 2, "unsupported": 2}
    assert frame[frame["outcome"] == "unsupported"]["reason"].str.contains("cuda").all()
    valid = frame[frame["outcome"] == "valid"]
    assert (valid["energy_estimated/per_output_token_j"] > 0).all()
    assert not [name for name in frame if name.startswith("energy/")]
    assert (valid["latency/ttft_p50_s"] > 0).all()
    assert (valid["memory/process_peak_mb"] > 50).all()

    uri = store_uri(TrackingConfig(name="local", folder=str(tmp_path / "mlruns")))
    client = MlflowClient(uri)
    tables = []
    for run_id in valid["run_id"]:
        names = {each.path for each in client.list_artifacts(run_id)}
        assert {"config", "capture", "outputs", "environment.json", "power.svg"} <= names
        place = client.download_artifacts(run_id, "outputs/generations.json", str(tmp_path))
        tables.append(json.loads(Path(place).read_text())["data"])
        found = client.download_artifacts(run_id, "environment.json", str(tmp_path))
        effective = json.loads(Path(found).read_text())["effective"]
        assert (effective["provider"], effective["threads"]) == ("cpu", 1)
    assert tables[0] == tables[1]
    assert len(tables[0]) == 3
    assert (valid["quality/agreement"] == 1).all()


def test_the_messages_of_a_mapped_column_are_asked_and_the_answers_are_tested(
    tmp_path: Path, slm_energy: Command, bubblewrap: None
) -> None:
    shutil.copytree(BUNDLED_MODEL, tmp_path / "chatty")
    settings = tmp_path / "chatty" / "tokenizer_config.json"
    template = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"chat_template": template}))
    asked = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Write f."}]
    row = {"id": 7, "ask": asked, "solution": "def f(a):\n    return a\n", "tests": ["assert f(1)"]}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    columns = "workload.columns={task_id: id, prompt: ask, code: solution, test_list: tests}"
    words = (f"model={tmp_path}/chatty", "workload.source=rows.jsonl", columns)
    done = slm_energy(*words, "workload.prompt=chat", "study.sandbox=bubblewrap")
    assert done.returncode == 0, done.stdout + done.stderr
    [trial] = (tmp_path / "mlruns" / "artifacts" / "default").glob("*/artifacts/outputs")
    table = json.loads((trial / "generations.json").read_text())["data"]
    assert [entry[:2] for entry in table] == [["7", "<system>Be short.<user>Write f."]]
    [score] = json.loads((trial / "scores.json").read_text())["scores"]
    assert (score["task_id"], score["verdict"]) == ("7", "syntax error")


def test_joules_from_powercap_files_reach_the_report(tmp_path: Path, slm_energy: Command) -> None:
    zones = (
        Zone(folder="intel-rapl:0", name="package-0", waveform=constant(50)),
        Zone(folder="intel-rapl:0:0", name="dram", waveform=constant(5)),
        Zone(folder="intel-rapl:0:1", name="core", waveform=constant(30)),
    )
    root = tmp_path / "powercap"
    root.mkdir()
    with PowercapTree(root, zones):
        done = slm_energy(*SHORT, "measurement=strict", f"measurement.powercap_root={root}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "estimated" not in done.stdout
    [trial] = trials(tmp_path).to_dict("records")
    true_j = 55 * trial["time/serve_s"]
    assert trial["energy/total_low_j"] <= true_j <= trial["energy/total_high_j"]
    assert trial["energy/total_j"] == pytest.approx(true_j, rel=0.05)
    assert trial["energy/cpu_package_j"] / trial["energy/dram_j"] == pytest.approx(10, rel=0.05)
    assert not [name for name in trial if name.startswith("energy_estimated")]


def test_joules_of_a_gpu_are_counted_for_a_processor_trial_too(
    tmp_path: Path, slm_energy: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = FakeNvml(gpus=(FakeGpu(uuid="GPU-1", waveform=constant(70)),))
    folder, root = tmp_path / "fake", tmp_path / "powercap"
    folder.mkdir()
    root.mkdir()
    monkeypatch.setenv("LD_LIBRARY_PATH", str(write_library(machine, folder)))
    zones = (Zone(folder="intel-rapl:0", name="package-0", waveform=constant(50)),)
    with PowercapTree(root, zones):
        accuracy = "measurement.target_error=0.1"  # a GPU's latency would need 7 s for 0.01
        done = slm_energy(
            *SHORT, "measurement=strict", accuracy, f"measurement.powercap_root={root}"
        )
    assert done.returncode == 0, done.stdout + done.stderr
    [trial] = trials(tmp_path).to_dict("records")
    true_j = 70 * trial["time/serve_s"]
    assert trial["energy/gpu_low_j"] <= true_j <= trial["energy/gpu_high_j"]
    parts = trial["energy/gpu_j"] + trial["energy/cpu_package_j"]
    assert trial["energy/total_j"] == pytest.approx(parts)
    assert trial["power/gpu_mean_w"] == pytest.approx(70, rel=0.01)


def test_strict_refuses_a_machine_without_a_sensor_before_anything_runs(
    tmp_path: Path, slm_energy: Command
) -> None:
    nothing = tmp_path / "no powercap here"
    done = slm_energy("measurement=strict", f"measurement.powercap_root='{nothing}'")
    line = refusal(done)
    assert line.startswith("error: ")
    assert "measurement" in line
    uri = store_uri(TrackingConfig(name="local", folder=str(tmp_path / "mlruns")))
    assert MlflowClient(uri).get_experiment_by_name("default") is None


def test_the_command_line_of_mlflow_downloads_what_a_person_can_read(
    tmp_path: Path, slm_energy: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert slm_energy().returncode == 0
    [trial] = trials(tmp_path).to_dict("records")
    uri = store_uri(TrackingConfig(name="local", folder=str(tmp_path / "mlruns")))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    words = ["download", "--run-id", trial["run_id"]]
    done = CliRunner().invoke(mlflow_artifacts, [*words, "--dst-path", str(tmp_path / "copy")])
    assert done.exit_code == 0, done.output
    settings = (tmp_path / "copy" / "config" / "settings.yaml").read_text()
    assert "engine:\n  name: scripted\n" in settings
    table = json.loads((tmp_path / "copy" / "outputs" / "generations.json").read_text())
    assert [row[0] for row in table["data"]] == ["slm/0", "slm/1", "slm/2"]
