"""Which processes compute on an NVIDIA GPU: the trial's, and foreign ones."""

import dataclasses
import os
import subprocess
import sys

import pytest

from slm_energy.meters.base import ReadFailed
from tests.meters.nvml.conftest import FIRST, SECOND, first, metered

NO_SUCH_PROCESS = 2**30
LISTS = "nvmlDeviceGetComputeRunningProcesses"
UNKNOWN_MEMORY = 2**64 - 1


def second(**changes):
    return dataclasses.replace(SECOND, **changes)


@pytest.fixture
def child():
    """A process of ours, with a child of its own; gives both ids."""
    code = """if True:
        import subprocess, sys
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as below:
            print(below.pid, flush=True)
            input()
    """
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process.pid, int(process.stdout.readline())
        process.communicate("\n")


def test_processes_of_others_are_counted(child):
    worker, below = child
    with metered(first(processes=(os.getpid(), worker, below)), SECOND) as gpus:
        assert gpus.read("gpu_0_foreign_processes") == 3
        gpus.meter.watch(worker)
        assert gpus.read("gpu_0_foreign_processes") == 1
        gpus.meter.watch(os.getpid())
        assert gpus.read("gpu_0_foreign_processes") == 0
        assert gpus.read("gpu_1_foreign_processes") == 0


def test_a_process_that_cannot_be_looked_up_is_not_called_foreign():
    with metered(first(processes=(NO_SUCH_PROCESS,))) as gpu:
        gpu.meter.watch(os.getpid())
        with pytest.raises(ReadFailed, match=rf"process {NO_SUCH_PROCESS} on the GPU .*--pid=host"):
            gpu.read("gpu_0_foreign_processes")


def test_a_running_server_that_is_adopted_belongs_to_the_trial(child):
    server, below = child
    with metered(first(processes=(os.getppid(), below))) as gpu:
        gpu.meter.watch(NO_SUCH_PROCESS)
        counts = [gpu.read("gpu_0_foreign_processes"), gpu.read("gpu_0_trial_processes")]
        gpu.meter.adopt(server)
        counts += [gpu.read("gpu_0_foreign_processes"), gpu.read("gpu_0_trial_processes")]
        gpu.meter.watch(NO_SUCH_PROCESS)
        counts += [gpu.read("gpu_0_foreign_processes"), gpu.read("gpu_0_trial_processes")]
    assert counts == [2, 0, 1, 1, 2, 0]


@pytest.mark.parametrize(("bytes_held", "count"), [(0, 0), (10**9, 1), (UNKNOWN_MEMORY, 1)])
def test_a_process_of_the_trial_computes_where_it_holds_memory(bytes_held, count):
    with metered(first(processes=(os.getpid(),), values={LISTS: bytes_held})) as gpu:
        gpu.meter.watch(os.getpid())
        assert gpu.read("gpu_0_trial_processes") == count


def test_hidden_gpus_are_searched_for_the_trial_and_not_metered(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with metered(FIRST, second(processes=(os.getpid(),))) as gpus:
        gpus.meter.watch(os.getpid())
        assert gpus.read("gpu_0_trial_processes") == 0
        assert gpus.read("gpu_1_trial_processes") == 1
        hidden = [name for name, source in gpus.sources.items() if "GPU-bbbb" in source.device]
    assert hidden == ["gpu_1_trial_processes"]


def test_a_process_of_the_trial_is_seen_beside_one_that_is_not_visible():
    with metered(first(processes=(os.getpid(), NO_SUCH_PROCESS))) as gpu:
        gpu.meter.watch(os.getpid())
        assert gpu.read("gpu_0_trial_processes") == 1
        gpu.meter.watch(NO_SUCH_PROCESS + 1)
        with pytest.raises(ReadFailed, match="--pid=host"):
            gpu.read("gpu_0_trial_processes")


def test_of_a_divided_gpu_the_lists_of_its_mig_devices_are_read():
    divided = first(mig_devices=("MIG-one", "MIG-two"), processes=(os.getpid(),))
    with metered(divided) as gpu:
        gpu.meter.watch(os.getpid())
        assert gpu.read("gpu_0_trial_processes") == 1
        assert gpu.sources["gpu_0_trial_processes"].path == "nvml MIG-one MIG-two"


def test_mig_devices_that_cannot_be_listed_leave_the_rest_of_the_meter():
    errors = {"nvmlDeviceGetMaxMigDeviceCount": "NoPermission"}
    with metered(first(mig_devices=("MIG-one",), errors=errors)) as gpu:
        assert "gpu_0_trial_processes" not in gpu.sources
        assert gpu.energy == ["nvml/GPU-aaaa/energy", "nvml/GPU-aaaa/power"]
