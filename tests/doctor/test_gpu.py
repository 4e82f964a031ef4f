"""What NVML says of the GPUs that are metered, and what stands on the bus."""

import os
import types

import pynvml
import pytest

from slm_energy.doctor.gpu import gpus_metered, nvidia

A, B = "GPU-a", "GPU-b"


def process(pid):
    return types.SimpleNamespace(pid=pid, usedGpuMemory=None)


@pytest.fixture
def driver(monkeypatch):
    """The functions of nvidia-ml-py, with answers per UUID: an error is raised, None is unknown."""

    def answer(**answers):
        quiet = {
            "ComputeRunningProcesses_v3": [],
            "PersistenceMode": 1,
            "ClockInfo": 345,
            "MaxClockInfo": 1980,
            "ViolationStatus": types.SimpleNamespace(violationTime=0),
            "MigMode": pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED),
        }

        def function(by_gpu):
            def call(uuid, *_):
                value = by_gpu.get(uuid) if isinstance(by_gpu, dict) else by_gpu
                if isinstance(value, Exception):
                    raise value
                return value

            return call

        monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
        monkeypatch.setattr(pynvml, "nvmlShutdown", lambda: None)
        monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByUUID", lambda uuid: uuid)
        for name, value in (quiet | answers).items():
            monkeypatch.setattr(pynvml, f"nvmlDeviceGet{name}", function(value))

    return answer


def found(name, uuids=(A, B), most_processes=0):
    [finding] = [each for each in nvidia(uuids, most_processes) if each.name == name]
    return finding


def test_without_a_gpu_nothing_applies_and_no_driver_is_asked():
    findings = nvidia((), 0)
    assert {each.verdict for each in findings} == {"not applicable"}
    assert len({each.name for each in findings}) == 5


def test_a_quiet_gpu(driver):
    driver()
    assert {each.name: each.verdict for each in nvidia((A,), 0)} == {
        "GPU processes": "ok",
        "GPU persistence": "ok",
        "GPU clocks": "unknown",
        "GPU throttling": "ok",
        "MIG": "not applicable",
    }


def test_foreign_processes_are_named_with_their_gpu(driver):
    driver(ComputeRunningProcesses_v3={A: [process(os.getpid())], B: [process(41), process(42)]})
    finding = found("GPU processes")
    assert (finding.verdict, finding.detail) == ("warn", "GPU-b: process 41, 42")
    assert "measurement.limits.gpu_processes=0" in finding.remedy
    assert found("GPU processes", most_processes=2).verdict == "ok"


def test_one_gpu_without_persistence_is_enough_to_warn(driver):
    driver(PersistenceMode={A: 1, B: 0})
    assert found("GPU persistence").verdict == "warn"


def test_clocks_are_shown_but_a_lock_cannot_be_asked_for(driver):
    driver(ClockInfo={A: 345, B: 1410})
    assert "345 of at most 1980 MHz, 1410 of at most 1980 MHz" in found("GPU clocks").detail


def test_throttling_so_far(driver):
    status = types.SimpleNamespace(violationTime=2_500_000_000)
    driver(ViolationStatus={A: types.SimpleNamespace(violationTime=0), B: status})
    finding = found("GPU throttling")
    assert finding.verdict == "warn"
    assert "2.5 s" in finding.detail


@pytest.mark.parametrize(("mode", "verdict"), [([0, 0], "ok"), ([1, 1], "warn")])
def test_mig(driver, mode, verdict):
    driver(MigMode=mode)
    assert found("MIG").verdict == verdict


@pytest.mark.parametrize(
    ("function", "name"),
    [
        ("ComputeRunningProcesses_v3", "GPU processes"),
        ("PersistenceMode", "GPU persistence"),
        ("MaxClockInfo", "GPU clocks"),
        ("ViolationStatus", "GPU throttling"),
    ],
)
def test_what_a_gpu_does_not_tell_is_unknown(driver, function, name):
    driver(**{function: pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)})
    assert found(name).verdict == "unknown"


def test_a_lost_gpu_leaves_all_unknown_with_the_reason(driver):
    driver(PersistenceMode=pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST))
    findings = nvidia((A,), 0)
    assert {each.verdict for each in findings} == {"unknown"}
    assert "GPU is lost" in findings[0].detail


@pytest.mark.parametrize(
    ("devices", "metered", "verdict", "said"),
    [
        ([], 0, "not applicable", "no NVIDIA GPU"),
        ([("0x8086", "0x030000"), ("0x10de", "0x040300")], 0, "not applicable", "no NVIDIA GPU"),
        ([("0x10de", "0x030200")], 1, "ok", "all 1"),
        ([("0x10de", "0x030000"), ("0x10de", "0x030200")], 1, "warn", "1 of 2"),
        ([("0x1002", "0x120000")], 0, "warn", "0 of 1 (0000:00:00.0)"),
        ([], 2, "ok", "all 2"),
    ],
)
def test_gpus_on_the_bus_that_are_not_metered(tmp_path, devices, metered, verdict, said):
    for index, (vendor, kind) in enumerate(devices):
        folder = tmp_path / f"sys/bus/pci/devices/0000:0{index}:00.0"
        folder.mkdir(parents=True)
        (folder / "vendor").write_text(vendor + "\n")
        (folder / "class").write_text(kind + "\n")
    finding = gpus_metered(metered, tmp_path)
    assert finding.verdict == verdict
    assert said in finding.detail
