from __future__ import annotations

import dataclasses
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from slm_energy import load_generations, load_trials
from slm_energy.cell import Trial
from slm_energy.config.groups import (
    EngineConfig,
    LimitsConfig,
    MeasurementConfig,
    ModelConfig,
    RunConfig,
    WorkloadConfig,
)
from slm_energy.engines.openai.command import free_port
from slm_energy.models.folder import BUNDLED_MODEL
from slm_energy.record import Record
from slm_energy.running import trial
from slm_energy.sampler.client import Sampler
from slm_energy.store import mlflow_schema
from slm_energy.testing.nvml import FakeGpu, FakeNvml, write_library
from slm_energy.testing.powercap import PowercapTree, Zone
from slm_energy.testing.wall import FakeWallMeter
from slm_energy.testing.waveform import constant
from tests.asking import CHATML, CHATML_TOKENS, a_model
from tests.clocks import FakeClocks
from tests.conftest import Command, a_cell, a_trial

SHORT = MeasurementConfig(name="off", mode="off", baseline_s=0.05, warmup_requests=1, serve_s=0.2)
FEW = WorkloadConfig(name="bundled", source="bundled", limit=3, new_tokens=4)


def scripted(config: RunConfig, workload: WorkloadConfig = FEW, **options: Any) -> Trial:
    engine = EngineConfig(name="scripted", options=options)
    return a_trial(config, cell=a_cell(config, engine=engine, measurement=SHORT, workload=workload))


def run(entry: Trial, folder: Path) -> Record:
    return trial.run(entry, folder, None, lambda phase, share: None)


@pytest.mark.parametrize("changed", ["model", "prompts"])
def test_what_changed_since_the_grid_was_resolved_is_not_served(
    tmp_path: Path, config: RunConfig, changed: str
) -> None:
    folder, file = tmp_path / "model", tmp_path / "own.jsonl"
    shutil.copytree(BUNDLED_MODEL, folder)
    file.write_text('{"task_id": "a", "prompt": "def f():"}\n')
    own = dataclasses.replace(FEW, source=str(file))
    model = ModelConfig(name="own", source=str(folder))
    cell = a_cell(config, model=model, workload=own, measurement=SHORT)
    if changed == "prompts":
        file.write_text('{"task_id": "a", "prompt": "def g():"}\n')
    else:  # a file that decides where an answer ends
        (folder / "generation_config.json").write_text('{"eos_token_id": 1}')
    (tmp_path / "trial").mkdir()
    record = run(a_trial(config, cell=cell, model_path=str(folder)), tmp_path / "trial")
    assert record.outcome.name == "failed"
    assert "has changed since the sweep began: run it again" in record.outcome.reasons[0]
    assert not (tmp_path / "trial" / "worker.log").exists()


def test_a_trial_is_a_fresh_process_that_leaves_a_valid_record(
    tmp_path: Path, config: RunConfig
) -> None:
    record = run(scripted(config), tmp_path)
    assert record.outcome.name == "valid", record.outcome
    assert record.capture is not None
    assert [w.name for w in record.capture.windows] == ["load", "baseline", "warmup", "serve"]
    assert record.metrics["tokens/passes"] >= 2
    assert record.metrics["time/serve_s"] >= 0.2
    assert record.phases_s["worker"] > 0
    assert "energy/total_j" not in record.metrics


def test_a_trial_knows_which_other_process_was_busy(tmp_path: Path, config: RunConfig) -> None:
    busy = "(while :; do :; done) > /dev/null 2>&1 & echo $!"  # no child of this test
    pid = int(subprocess.run(["sh", "-c", busy], capture_output=True, check=True).stdout)
    try:
        record = run(scripted(config), tmp_path)
    finally:
        os.kill(pid, signal.SIGKILL)
    assert record.capture is not None
    assert any(f"({pid})" in each for each in record.capture.busiest)
    assert not any(f"({os.getpid()})" in each for each in record.capture.busiest)


def test_a_preparation_is_shown_by_its_name_from_its_start_to_its_end(
    tmp_path: Path, config: RunConfig
) -> None:
    shown = list[str]()
    folder = tmp_path / "trial"
    folder.mkdir()
    entry = dataclasses.replace(scripted(config, export_s=0.1), cache_path=str(tmp_path / "cache"))
    trial.run(entry, folder, None, lambda phase, share: shown.append(phase))
    before, _, _ = " ".join(shown).partition("start")
    assert before.split().count("prepare") >= 2
    assert set(before.split()) == {"prepare"}


@pytest.mark.parametrize("step_s", [86_400, -86_400])
def test_a_wall_clock_that_is_set_during_a_trial_is_flagged_and_reaches_no_duration(
    tmp_path: Path, config: RunConfig, step_s: float
) -> None:
    # Read as the trial begins, after its worker has ended, and at the end.
    clocks = FakeClocks(set_s=(0, step_s, 0))
    entry = scripted(config)
    record = trial.run(entry, tmp_path, None, lambda phase, share: None, clocks=clocks)
    assert record.outcome.name == "valid", record.outcome
    tags, values = mlflow_schema.tags(record, "here"), mlflow_schema.metrics(record)
    back = "forward" if step_s > 0 else "back"
    assert f"wall_clock_steady: the wall clock was set {back} by 86,400.00 s" in tags["slm.flags"]
    for name in ("time/trial_s", "time/outside_windows_s", "time/phase_worker_s"):
        assert 0 < values[name] < 60
    dates_s = (record.ended_unix_ns - record.started_unix_ns) / 1e9
    assert dates_s == pytest.approx(values["time/trial_s"], abs=1e-6)


@pytest.mark.parametrize(
    ("fail", "message"),
    [
        ("load", "the script says that loading fails"),
        ("generate", "the script says that generation fails"),
        ("nan_logits", "NaN logits at token 0"),
        ("kill", "the worker was killed by SIGKILL"),
        ("exit", "the worker ended without a result"),
    ],
)
def test_whatever_a_worker_does_there_is_a_record_with_the_error(
    tmp_path: Path, config: RunConfig, fail: str, message: str
) -> None:
    record = run(scripted(config, fail=fail), tmp_path)
    assert record.outcome.name == "failed"
    assert message in record.outcome.reasons[0]
    assert not record.outcome.permanent
    assert (tmp_path / "worker.log").exists()


def test_a_worker_that_hangs_is_ended_at_the_timeout(tmp_path: Path, config: RunConfig) -> None:
    entry = dataclasses.replace(scripted(config, fail="hang"), timeout_s=2.0)
    record = run(entry, tmp_path)
    assert record.outcome.reasons == ("made no progress for study.timeout_s=2 and was ended",)
    assert workers() == []


def test_outputs_that_change_between_passes_make_a_trial_invalid(
    tmp_path: Path, config: RunConfig
) -> None:
    record = run(scripted(config, fail="drift"), tmp_path)
    assert record.outcome.name == "invalid"
    assert "same_outputs" in record.outcome.reasons[0]


def test_a_prompt_longer_than_the_context_names_itself_and_the_key(
    tmp_path: Path, config: RunConfig
) -> None:
    record = run(scripted(config, dataclasses.replace(FEW, new_tokens=500)), tmp_path)
    assert record.outcome.name == "failed"
    [reason] = record.outcome.reasons
    assert "prompt slm/0" in reason
    assert "workload.new_tokens=500" in reason
    assert "fit" in reason
    assert record.outcome.permanent


def test_batches_keep_every_prompt(tmp_path: Path, config: RunConfig) -> None:
    record = run(scripted(config, dataclasses.replace(FEW, batch_size=2)), tmp_path)
    assert record.outcome.name == "valid", record.outcome
    assert record.capture is not None
    first = [g for g in record.capture.generations if g.pass_index == 0]
    assert [(g.task_id, g.batch_index) for g in first] == [("slm/0", 0), ("slm/1", 0), ("slm/2", 1)]


def test_a_running_server_s_work_on_a_gpu_is_not_foreign(
    tmp_path: Path, config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process on the GPU and its processor time count as the trial's."""
    port, model = free_port(), a_trial(config).model_path
    words = ["-m", "slm_energy.testing.completions", "--port", str(port), "--model", model]
    engine = EngineConfig(
        name="openai_server", decode="generate", options={"url": f"http://127.0.0.1:{port}"}
    )
    # Whose latency is unknown, as a GPU's is, needs a window of 7 s for a target of 0.01.
    measurement = dataclasses.replace(
        SHORT, mode="auto", warmup_s=0.1, serve_s=1.0, target_error=0.2
    )
    cell = a_cell(config, engine=engine, measurement=measurement, workload=FEW)
    with psutil.Popen([sys.executable, *words]) as server:
        gpu = FakeGpu(uuid="GPU-1", waveform=constant(70), processes=(server.pid,))
        monkeypatch.setenv("LD_LIBRARY_PATH", str(write_library(FakeNvml(gpus=(gpu,)), tmp_path)))
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        while not server.net_connections():
            time.sleep(0.05)
        with Sampler(measurement, tmp_path) as sampler:
            record = trial.run(
                a_trial(config, cell=cell), tmp_path, sampler, lambda phase, share: None
            )
        server.kill()
    assert record.capture is not None, record.outcome
    assert record.capture.effective["adopted"] == [server.pid]
    assert record.metrics["utilization/gpu_trial_processes_mean_count"] == 1
    [alone] = [check for check in record.checks if check.name == "alone_on_gpu"]
    assert alone.passed, alone.detail


def until_interrupted(config: RunConfig, folder: Path, answers: Any) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    answers.put(run(scripted(config, fail="hang"), folder).outcome.reasons)


def test_an_interrupt_ends_the_worker_and_is_on_record(tmp_path: Path, config: RunConfig) -> None:
    """In a process of its own: libraries that other tests loaded may not survive an interrupt."""
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    child = context.Process(target=until_interrupted, args=(config, tmp_path, answers))
    child.start()
    while not (found := workers()):
        time.sleep(0.1)
    time.sleep(0.5)
    assert child.pid is not None
    os.kill(child.pid, signal.SIGINT)
    assert answers.get(timeout=30) == (mlflow_schema.INTERRUPTED,)
    child.join()
    assert not any(worker.is_running() for worker in found)


def test_a_worker_dies_with_its_parent(tmp_path: Path, config: RunConfig) -> None:
    child = os.fork()
    if child == 0:
        run(scripted(config, fail="hang"), tmp_path)
        os._exit(0)
    while not (found := workers()):
        time.sleep(0.1)
    time.sleep(0.5)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    gone, alive = psutil.wait_procs(found, timeout=10)
    assert gone
    assert not alive


def test_a_sampler_that_cannot_be_brought_back_fails_the_trial_and_no_more(
    tmp_path: Path, config: RunConfig
) -> None:
    root, folder = tmp_path / "powercap", tmp_path / "trial"
    root.mkdir()
    folder.mkdir()
    strict = dataclasses.replace(SHORT, mode="strict", powercap_root=str(root))
    zone = Zone(folder="intel-rapl:0", name="package-0", waveform=constant(50))
    sampler = Sampler(strict, tmp_path)
    with PowercapTree(root, [zone]):
        sampler.start()
        assert sampler.pid is not None
        os.kill(sampler.pid, signal.SIGKILL)
    shutil.rmtree(root)
    record = trial.run(scripted(config), folder, sampler, lambda phase, share: None)
    assert record.outcome.name == "failed"
    assert "no energy can be measured here" in record.outcome.reasons[0]
    assert workers() == []


def workers() -> list[psutil.Process]:
    """Worker processes below this test, however deep."""
    children = psutil.Process().children(recursive=True)
    return [each for each in children if "slm_energy.worker" in " ".join(each.cmdline())]


def test_a_plug_that_counts_watt_minutes_is_a_total_in_windows_as_long_as_its_steps_require(
    tmp_path: Path, config: RunConfig
) -> None:
    """The only sensor: 60 J steps and an update period of 50 ms, at 6 kW."""
    (tmp_path / "none").mkdir()
    folder = tmp_path / "trial"
    folder.mkdir()
    allowed = LimitsConfig(foreign_cpu_pct=100, steal_pct=100, throttled_pct=100)
    with FakeWallMeter(constant(6000), shape="shelly_gen1", period_s=0.05) as wall:
        metered = dataclasses.replace(
            SHORT,
            mode="strict",
            target_error=0.2,
            limits=allowed,
            powercap_root=str(tmp_path / "none"),
            wall_meter=wall.config("energy"),
        )
        engine = EngineConfig(name="scripted")
        cell = a_cell(config, engine=engine, measurement=metered, workload=FEW)
        with Sampler(metered, tmp_path) as sampler:
            (source,) = [s for s in sampler.sources if s.summed]
            record = trial.run(
                a_trial(config, cell=cell), folder, sampler, lambda phase, share: None
            )
    assert record.outcome.name == "valid", record.outcome
    assert source.idle_w == pytest.approx(6000)
    serve_s = record.metrics["time/serve_s"]
    assert serve_s >= sampler.shortest_s(0.2) > 0.05 / 0.2
    low_j, high_j = (record.metrics[f"energy/total_{end}_j"] for end in ("low", "high"))
    assert low_j <= 6000 * serve_s <= high_j
    assert (high_j - low_j) / 2 <= 0.2 * 6000 * serve_s


def test_the_worker_and_the_table_have_the_prompt_in_the_models_template(
    slm_energy: Command, tmp_path: Path
) -> None:
    folder = a_model(tmp_path / "chatting", tokens=CHATML_TOKENS, template=CHATML)
    words = (f"model.source={folder}", "workload.prompt=chat", "study.reference=scripted")
    done = slm_energy("-m", *words, "engine.threads=1,2")
    assert done.returncode == 0, done.stdout + done.stderr
    table = load_generations("default", tracking=str(tmp_path / "mlruns"))
    assert table["prompt"].str.startswith("<|im_start|>user\nComplete this Python function").all()
    assert table["prompt"].str.endswith("<|im_end|>\n<|im_start|>assistant\n").all()
    trials = load_trials("default", tracking=str(tmp_path / "mlruns"))
    assert trials["quality/agreement"].tolist() == [1, 1]
    assert trials["workload.prompt"].tolist() == ["chat", "chat"]
