"""The real sampling process: what it reads, and what its death looks like."""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest

from slm_energy.derive.energy.accounting import summarise, total
from slm_energy.errors import MeterError
from slm_energy.exchange import Marks
from slm_energy.record import Window
from slm_energy.sampler.client import Sampler, read_samples
from slm_energy.testing.nvml import FakeGpu
from slm_energy.testing.waveform import constant
from tests.sampler.conftest import BUSY, config, figures, gone, holds, sampler, window


def test_a_file_of_the_working_folder_is_not_taken_for_a_library(machine, tmp_path, monkeypatch):
    (tmp_path / "json.py").write_text("raise ImportError('this is not the library')")
    monkeypatch.chdir(tmp_path)
    with sampler(machine(), tmp_path) as started:
        assert started.alive


def test_joules_from_end_to_end(tree, tmp_path):
    file = tmp_path / "samples.jsonl"
    with sampler(tree.root, tmp_path) as sampling:
        sampling.begin(os.getpid(), file)
        serve = window(0.5)
        time.sleep(0.05)
        sampling.end()
    found, report = figures(file, serve)
    package, memory = found["rapl/intel-rapl:0"], found["rapl/intel-rapl:0:0"]
    assert holds(package, tree, 50 * serve.duration_s, 50)
    assert holds(memory, tree, BUSY.joules(serve.start_ns, serve.end_ns), 80)
    assert total([*found.values()]).joules == pytest.approx(package.joules + memory.joules)
    assert report.finished
    assert 0 < report.cpu_s < report.wall_s
    assert 0 <= report.largest_pause_s < report.wall_s
    assert set(report.cpus) <= os.sched_getaffinity(0)


def test_a_window_may_begin_and_end_with_sampling(tree, tmp_path):
    file = tmp_path / "samples.jsonl"
    with sampler(tree.root, tmp_path) as sampling:
        sampling.begin(os.getpid(), file)
        serve = window(0.1)
        sampling.end()
    found, _ = figures(file, serve)
    assert all(figure.joules is not None for figure in found.values())


def test_counter_and_power_of_a_gpu_agree(machine, tmp_path):
    root = machine(FakeGpu(uuid="GPU-1", waveform=constant(70)))
    file = tmp_path / "samples.jsonl"
    with sampler(root, tmp_path, "strict") as sampling:
        sampling.begin(os.getpid(), file)
        serve = window(0.5)
        sampling.end()
    found, _ = figures(file, serve)
    counter, power = found["nvml/GPU-1/energy"], found["nvml/GPU-1/power"]
    assert counter.low_j <= 70 * serve.duration_s <= counter.high_j
    assert power.low_j <= 70 * serve.duration_s <= power.high_j
    assert total([*found.values()]).joules == counter.joules


def test_gauges_describe_the_worker_that_is_watched(tree, tmp_path):
    file = tmp_path / "samples.jsonl"
    busy = [sys.executable, "-c", "while True: pass"]
    with subprocess.Popen(busy) as worker, sampler(tree.root, tmp_path) as sampling:
        sampling.begin(worker.pid, file)
        serve = window(1.0)
        sampling.end()
        worker.kill()
    gauges = {s.source.id: summarise(s, serve) for s in read_samples(file)[0]}
    assert gauges["process_cpu_percentage"].mean > 5
    assert 1 < gauges["process_memory_megabytes"].maximum < 1000


HALF_BUSY = """
import time
while True:
    until = time.process_time() + 0.02
    while time.process_time() < until:
        pass
    time.sleep(0.02)
"""


def test_a_server_that_the_worker_names_is_measured_with_it(machine, tmp_path):
    """On the GPU and on the processor; the next trial knows nothing of it."""
    busy = [sys.executable, "-c", HALF_BUSY]
    with subprocess.Popen(busy) as server, subprocess.Popen(["sleep", "60"]) as worker:
        gpu = FakeGpu(uuid="GPU-1", waveform=constant(70), processes=(server.pid,))
        with sampler(machine(gpu), tmp_path) as sampling:
            sampling.begin(worker.pid, tmp_path / "adopted.jsonl")
            marks = Marks(sampling.marks)
            marks.adopt(server.pid)
            marks.close()
            adopted = window(2.0)
            sampling.end()
            sampling.begin(worker.pid, tmp_path / "alone.jsonl")
            alone = window(1.3)
            sampling.end()
        server.kill()
        worker.kill()
    with_it = {
        s.source.id: summarise(s, adopted) for s in read_samples(tmp_path / "adopted.jsonl")[0]
    }
    without = {s.source.id: summarise(s, alone) for s in read_samples(tmp_path / "alone.jsonl")[0]}
    assert with_it["gpu_0_foreign_processes"].maximum == 0
    assert with_it["gpu_0_trial_processes"].minimum == 1
    assert with_it["process_cpu_percentage"].mean > 5
    assert without["gpu_0_foreign_processes"].minimum == 1
    assert without["gpu_0_trial_processes"].maximum == 0
    assert without["process_cpu_percentage"].maximum < 1


def test_one_process_serves_many_trials(tree, tmp_path):
    with sampler(tree.root, tmp_path) as sampling:
        pid = sampling.pid
        for trial in ("a.jsonl", "b.jsonl"):
            sampling.begin(os.getpid(), tmp_path / trial)
            serve = window(0.1)
            sampling.end()
            assert figures(tmp_path / trial, serve)[1].finished
        assert sampling.pid == pid


def test_a_failing_sensor_leaves_gaps_with_reasons(tree, tmp_path):
    file = tmp_path / "samples.jsonl"
    with sampler(tree.root, tmp_path) as sampling:
        sampling.begin(os.getpid(), file)
        start = time.monotonic_ns()
        time.sleep(0.1)
        tree.set_fault("intel-rapl:0", "unreadable")
        time.sleep(0.1)
        tree.set_fault("intel-rapl:0", None)
        time.sleep(0.1)
        serve = Window(name="serve", start_ns=start, end_ns=time.monotonic_ns())
        sampling.end()
    package = figures(file, serve)[0]["rapl/intel-rapl:0"]
    assert holds(package, tree, 50 * serve.duration_s, 50)
    assert "EISDIR" in package.flags[0]


def test_a_killed_sampler_is_noticed_and_replaced(tree, tmp_path):
    file = tmp_path / "samples.jsonl"
    with sampler(tree.root, tmp_path) as sampling:
        sampling.begin(os.getpid(), file)
        start = time.monotonic_ns()
        time.sleep(0.1)
        os.kill(sampling.pid, signal.SIGKILL)
        time.sleep(0.1)
        serve = Window(name="serve", start_ns=start, end_ns=time.monotonic_ns())
        assert not sampling.alive
        sampling.end()
        found, report = figures(file, serve)
        assert not report.finished
        assert report.cpu_s is None
        assert "ended too early" in found["rapl/intel-rapl:0"].reasons[0]

        sampling.begin(os.getpid(), file)
        again = window(0.1)
        sampling.end()
        found, report = figures(file, again)
        assert report.finished
        assert found["rapl/intel-rapl:0"].joules is not None


def test_a_sampler_stopped_for_a_while_makes_the_window_invalid(tree, tmp_path):
    file = tmp_path / "samples.jsonl"
    with sampler(tree.root, tmp_path) as sampling:
        sampling.begin(os.getpid(), file)
        start = time.monotonic_ns()
        os.kill(sampling.pid, signal.SIGSTOP)
        time.sleep(1.3)
        os.kill(sampling.pid, signal.SIGCONT)
        time.sleep(0.1)
        serve = Window(name="serve", start_ns=start, end_ns=time.monotonic_ns())
        sampling.end()
    found, report = figures(file, serve)
    assert report.finished
    assert report.largest_pause_s > 1.2
    assert "the sampler was stopped or starved" in found["rapl/intel-rapl:0"].reasons[0]
    assert total([*found.values()]).joules is None


def test_a_sampler_that_hangs_is_ended(tree, tmp_path):
    file = tmp_path / "samples.jsonl"
    with sampler(tree.root, tmp_path, patience_s=0.3) as sampling:
        sampling.begin(os.getpid(), file)
        pid = sampling.pid
        os.kill(pid, signal.SIGSTOP)
        sampling.end()
        assert not sampling.alive
        assert gone(pid)
    assert not read_samples(file)[1].finished


def test_a_sampler_that_is_killed_while_it_starts_is_started_again(tree, tmp_path):
    killed = []

    def kill() -> None:
        while not killed:
            for child in psutil.Process().children():
                with contextlib.suppress(psutil.Error):
                    if "slm_energy.sampler.service" in child.cmdline():
                        child.kill()
                        killed.append(child.pid)

    thread = threading.Thread(target=kill)
    thread.start()
    with sampler(tree.root, tmp_path) as sampling:
        thread.join()
        assert sampling.pid not in killed
        assert sampling.sources


def test_the_sampler_ends_with_its_parent(tree, tmp_path):
    code = f"""
import os, sys, time
from pathlib import Path
from slm_energy.config.groups import MeasurementConfig
from slm_energy.sampler.client import Sampler
here = Path({str(tmp_path)!r})
sampling = Sampler(MeasurementConfig(name="test", powercap_root={str(tree.root)!r}), here)
sampling.start()
sampling.begin(os.getpid(), here / "samples.jsonl")
print(sampling.pid, sampling.marks, flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        first, marks = parent.stdout.readline().decode().split()
        pid = int(first)
        assert psutil.pid_exists(pid)
        parent.kill()
    assert gone(pid)
    assert not os.path.exists(os.path.dirname(marks))
    assert not read_samples(tmp_path / "samples.jsonl")[1].finished


def test_closing_ends_the_process(tree, tmp_path):
    sampling = sampler(tree.root, tmp_path)
    sampling.start()
    pid = sampling.pid
    sampling.close()
    sampling.close()
    assert not sampling.alive
    assert gone(pid)


def test_without_a_sensor_the_estimate_is_an_estimate(machine, tmp_path):
    file, between = tmp_path / "samples.jsonl", tmp_path / "between.jsonl"
    with sampler(machine(), tmp_path) as sampling:
        assert [s.kind for s in sampling.sources if s.kind != "gauge"] == ["estimate"]
        assert sampling.notes[-1].startswith("codecarbon: nothing can be measured here")
        assert sampling.shortest_s(0.01) == 0
        sampling.begin(os.getpid(), file)
        time.sleep(0.7)
        serve = window(1.0)
        sampling.end()
        pid = sampling.pid
        sampling.begin(os.getpid(), between, slow=False)
        sampling.end()
        assert sampling.pid == pid
    assert [s.source.id for s in read_samples(between)[0] if not s.raw] == ["codecarbon/machine"]
    found, report = figures(file, serve)
    estimate = found["codecarbon/machine"]
    assert estimate.kind == "estimate"
    assert estimate.low_j < estimate.joules < estimate.high_j
    assert total([*found.values()]) is None
    assert report.notes == sampling.notes


def test_strict_refuses_a_machine_without_a_sensor(machine, tmp_path):
    sampling = sampler(machine(), tmp_path, "strict")
    with pytest.raises(
        MeterError, match=r"measurement.mode=strict, and no energy .* rapl: .* nvml: "
    ):
        sampling.start()
    assert not sampling.alive


def test_a_meter_that_breaks_is_told_with_its_log(tmp_path, monkeypatch):
    (tmp_path / "pynvml.py").write_text("raise RuntimeError('broken')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(MeterError, match=r"did not start: see .*sampler\.log"):
        sampler(tmp_path, tmp_path).start()
    assert "broken" in (tmp_path / "sampler.log").read_text()


def test_its_log_is_open_to_all_users_of_a_shared_folder(machine, tmp_path):
    """Else the first user's sweep keeps others from measuring there."""
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o2775)
    before = os.umask(0o077)
    try:
        with pytest.raises(MeterError):
            sampler(machine(), folder, "strict").start()
    finally:
        os.umask(before)
    assert (folder / "sampler.log").stat().st_mode & 0o777 == 0o664


def test_a_torn_last_line_is_dropped(tree, tmp_path):
    file = tmp_path / "samples.jsonl"
    with sampler(tree.root, tmp_path) as sampling:
        sampling.begin(os.getpid(), file)
        time.sleep(0.1)
        sampling.end()
    whole, _ = read_samples(file)
    file.write_bytes(file.read_bytes()[:-5])
    torn, report = read_samples(file)
    assert not report.finished
    assert torn == whole


@pytest.mark.parametrize(
    "text", [b"", b"nonsense\n", b"{}\n", b'{"period_s":1,"sources":[],"notes":[]}\n[[3,1,1,1]]\n']
)
def test_a_damaged_file_is_one_clear_error(tmp_path, text):
    file = tmp_path / "samples.jsonl"
    file.write_bytes(text)
    with pytest.raises(MeterError, match=r"samples\.jsonl is damaged"):
        read_samples(file)


def test_a_missing_file_is_one_clear_error(tmp_path):
    with pytest.raises(MeterError, match="cannot be read"):
        read_samples(tmp_path / "nothing.jsonl")


def test_a_temporary_folder_that_is_too_deep_for_a_socket_is_named(tmp_path, monkeypatch):
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    with pytest.raises(MeterError, match=r"TMPDIR=.* is too long for a socket's path"):
        sampler(tmp_path, tmp_path).start()


def test_the_head_of_a_file_ties_the_clocks(tree, tmp_path):
    file = tmp_path / "samples.jsonl"
    with sampler(tree.root, tmp_path) as sampling:
        sampling.begin(os.getpid(), file)
        sampling.end()
    clock = json.loads(file.read_text().splitlines()[0])["clock"]
    assert (
        abs(time.time_ns() - time.monotonic_ns() - clock["unix_ns"] + clock["monotonic_ns"]) < 1e9
    )


def test_the_configuration_reaches_the_process(tree, tmp_path):
    slow = dataclasses.replace(config(tree.root), period_s=0.5)
    file = tmp_path / "samples.jsonl"
    with Sampler(slow, tmp_path) as sampling:
        sampling.begin(os.getpid(), file)
        sampling.end()
    series, report = read_samples(file)
    assert report.period_s == 0.5
    assert len(series[0].raw) < 10
