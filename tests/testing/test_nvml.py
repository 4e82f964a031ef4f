"""The fake libnvidia-ml is coherent, and fails as asked; the real nvidia-ml-py speaks to it."""

import os
import subprocess
import sys
import time
from contextlib import contextmanager

import pynvml
import pytest

from slm_energy.testing.nvml import (
    COUNTER,
    EVERYTHING,
    POWER,
    POWER_INSTANT,
    FakeGpu,
    FakeNvml,
    installed,
    write_library,
)
from slm_energy.testing.waveform import Waveform, constant

MS = 10**6
SECOND = 10**9
BUSY = Waveform(steps=((7 * MS, 20_000), (11 * MS, 80_500)), start_ns=123_456_789)
GPU = FakeGpu(uuid="GPU-1", waveform=BUSY)


@contextmanager
def started(*gpus):
    """NVML, initialised, with these GPUs: a way to change them, and the first one's handle."""
    with installed(FakeNvml(gpus=gpus)) as fake:
        pynvml.nvmlInit()
        yield lambda *gpus: fake.change(FakeNvml(gpus=gpus)), pynvml.nvmlDeviceGetHandleByIndex(0)


def instant_mw(handle):
    [field] = pynvml.nvmlDeviceGetFieldValues(handle, [pynvml.NVML_FI_DEV_POWER_INSTANT])
    assert field.nvmlReturn == pynvml.NVML_SUCCESS
    return field.value.uiVal


def readings(read, handle, period_ns, count=40):
    """Values, each with the publications that it may be from."""
    for _ in range(count):
        before = time.monotonic_ns()
        value = read(handle)
        yield value, range(before // period_ns * period_ns, time.monotonic_ns() + 1, period_ns)
        time.sleep(0.003)


@pytest.mark.parametrize("period_ms", [1, 20, 100])
def test_the_counter_is_the_exact_integral_published_each_period(period_ms):
    gpu = FakeGpu(uuid="GPU-1", waveform=BUSY, counter_period_ns=period_ms * MS)
    with started(gpu) as (_, handle):
        read = pynvml.nvmlDeviceGetTotalEnergyConsumption
        for value, published in readings(read, handle, period_ms * MS):
            exact = {(BUSY.energy_pj(at) - BUSY.energy_pj(0)) // 10**9 for at in published}
            assert value in exact


def test_power_now_is_the_waveform_at_its_publication():
    with started(FakeGpu(uuid="GPU-1", waveform=BUSY, power_period_ns=MS)) as (_, handle):
        seen = list(readings(instant_mw, handle, MS))
    assert all(value in {BUSY.power_mw(at) for at in published} for value, published in seen)
    assert {value for value, _ in seen} == {20_000, 80_500}


def test_power_usage_is_the_mean_of_the_last_second():
    slow = Waveform(steps=((SECOND, 20_000), (SECOND, 80_500)))
    with started(FakeGpu(uuid="GPU-1", waveform=slow)) as (_, handle):
        seen = list(readings(pynvml.nvmlDeviceGetPowerUsage, handle, GPU.power_period_ns))
    for value, published in seen:
        means = {(slow.energy_pj(at) - slow.energy_pj(at - SECOND)) // SECOND for at in published}
        assert value in means
    assert len({value for value, _ in seen}) > 2


@pytest.mark.parametrize("capability", [(7, 0), (7, 5), (8, 0)])
def test_power_usage_of_older_gpus_and_of_ga100_is_power_now(capability):
    gpu = FakeGpu(uuid="GPU-1", waveform=BUSY, capability=capability)
    with started(gpu) as (_, handle):
        seen = list(readings(pynvml.nvmlDeviceGetPowerUsage, handle, gpu.power_period_ns))
        [field] = pynvml.nvmlDeviceGetFieldValues(handle, [pynvml.NVML_FI_DEV_POWER_AVERAGE])
    assert all(value in {BUSY.power_mw(at) for at in published} for value, published in seen)
    assert field.nvmlReturn == pynvml.NVML_ERROR_NOT_SUPPORTED


def wait_for(ms):
    until = time.monotonic_ns() + ms * MS
    while time.monotonic_ns() < until:
        yield
        time.sleep(0.002)


@pytest.mark.parametrize(("begins_ms", "seen_mw"), [(0, 20_000), (75, 200_000), (60, 92_000)])
def test_a_part_time_sensor_sees_a_quarter_of_a_load_with_its_own_rhythm(begins_ms, seen_mw):
    """The mean is 65 W, whatever the phase."""
    load = Waveform(steps=((25 * MS, 200_000), (75 * MS, 20_000)), start_ns=begins_ms * MS)
    gpu = FakeGpu(
        uuid="GPU-1",
        waveform=load,
        counter_period_ns=100 * MS,
        power_period_ns=100 * MS,
        power_window_ns=25 * MS,
    )
    with started(gpu) as (_, handle):
        first = pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
        seen = {instant_mw(handle) for _ in wait_for(150)}
        last = pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    assert seen == {seen_mw}
    assert (last - first) % 6500 == 0
    assert last > first


@pytest.mark.parametrize(
    ("capability", "architecture"),
    [
        ((6, 1), "PASCAL"),
        ((7, 0), "VOLTA"),
        ((7, 5), "TURING"),
        ((8, 0), "AMPERE"),
        ((8, 6), "AMPERE"),
        ((8, 9), "ADA"),
        ((9, 0), "HOPPER"),
        ((12, 0), "BLACKWELL"),
    ],
)
def test_the_architecture_follows_from_the_compute_capability(capability, architecture):
    with started(FakeGpu(uuid="GPU-1", waveform=BUSY, capability=capability)) as (_, handle):
        known = getattr(pynvml, f"NVML_DEVICE_ARCH_{architecture}")
        assert pynvml.nvmlDeviceGetArchitecture(handle) == known
        assert pynvml.nvmlDeviceGetCudaComputeCapability(handle) == capability


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ("NotSupported", pynvml.NVMLError_NotSupported),
        ("NoPermission", pynvml.NVMLError_NoPermission),
        ("GpuIsLost", pynvml.NVMLError_GpuIsLost),
        ("Timeout", pynvml.NVMLError_Timeout),
        ("Uninitialized", pynvml.NVMLError_Uninitialized),
        ("Unknown", pynvml.NVMLError_Unknown),
    ],
)
def test_an_error_is_of_one_function_and_of_its_class(error, kind):
    with started(FakeGpu(uuid="GPU-1", waveform=BUSY, errors={POWER: error})) as (_, handle):
        with pytest.raises(kind):
            pynvml.nvmlDeviceGetPowerUsage(handle)
        assert pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) > 0


def test_an_error_of_a_field_is_in_its_own_code():
    gpu = FakeGpu(uuid="GPU-1", waveform=BUSY, errors={POWER_INSTANT: "NotSupported"})
    fields = [pynvml.NVML_FI_DEV_POWER_INSTANT, pynvml.NVML_FI_DEV_POWER_AVERAGE]
    with started(gpu) as (_, handle):
        instant, average = pynvml.nvmlDeviceGetFieldValues(handle, fields)
    assert instant.nvmlReturn == pynvml.NVML_ERROR_NOT_SUPPORTED
    assert average.nvmlReturn == pynvml.NVML_SUCCESS


def test_faults_begin_at_their_moment():
    lost = {EVERYTHING: "GpuIsLost"}
    later = FakeGpu(
        uuid="GPU-1", waveform=BUSY, errors=lost, faults_from_ns=time.monotonic_ns() + 3600 * SECOND
    )
    with started(later) as (change, handle):
        pynvml.nvmlDeviceGetPowerUsage(handle)
        change(FakeGpu(uuid="GPU-1", waveform=BUSY, errors=lost))
        with pytest.raises(pynvml.NVMLError_GpuIsLost):
            pynvml.nvmlDeviceGetPowerUsage(handle)


def test_a_frozen_counter_shows_what_it_had_when_it_froze():
    at = time.monotonic_ns()
    gpu = FakeGpu(uuid="GPU-1", waveform=BUSY, counter_fault="frozen", faults_from_ns=at)
    at = at // gpu.counter_period_ns * gpu.counter_period_ns
    with started(gpu) as (_, handle):
        seen = {pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) for _ in wait_for(50)}
    assert seen == {(BUSY.energy_pj(at) - BUSY.energy_pj(0)) // 10**9}


def test_a_counter_may_count_backward():
    gpu = FakeGpu(
        uuid="GPU-1", waveform=BUSY, counter_fault="backward", faults_from_ns=time.monotonic_ns()
    )
    with started(gpu) as (_, handle):
        seen = [pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) for _ in wait_for(50)]
    assert seen == sorted(seen, reverse=True)
    assert seen[0] > seen[-1]


def test_a_reset_counter_begins_at_zero():
    at = time.monotonic_ns()
    gpu = FakeGpu(uuid="GPU-1", waveform=BUSY, counter_fault="reset", faults_from_ns=at)
    with started(gpu) as (_, handle):
        read = pynvml.nvmlDeviceGetTotalEnergyConsumption
        for value, published in readings(read, handle, gpu.counter_period_ns, count=20):
            counted = {max(0, BUSY.energy_pj(to) - BUSY.energy_pj(at)) // 10**9 for to in published}
            assert value in counted


def test_a_call_may_be_slow():
    with started(FakeGpu(uuid="GPU-1", waveform=BUSY, delays_ms={POWER: 60})) as (_, handle):
        before = time.monotonic()
        pynvml.nvmlDeviceGetPowerUsage(handle)
        assert time.monotonic() - before >= 0.06


def test_a_value_may_be_nonsense():
    values = {COUNTER: 2**64 - 1, POWER_INSTANT: 2**32 - 1}
    with started(FakeGpu(uuid="GPU-1", waveform=BUSY, values=values)) as (_, handle):
        assert pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) == 2**64 - 1
        assert instant_mw(handle) == 2**32 - 1


def test_state_is_told():
    gpu = FakeGpu(
        uuid="GPU-1",
        waveform=constant(70),
        name="NVIDIA Fake 50",
        processes=(11, 12, 13),
        utilization_pct=7,
        memory_bytes=3_000_000_000,
        temperature_c=81,
        sm_clock_mhz=990,
        event_reasons=0x20,
    )
    with started(gpu) as (_, handle):
        assert pynvml.nvmlSystemGetDriverVersion() == "580.65.06"
        assert pynvml.nvmlDeviceGetUUID(handle) == "GPU-1"
        assert pynvml.nvmlDeviceGetName(handle) == "NVIDIA Fake 50"
        assert pynvml.nvmlDeviceGetEnforcedPowerLimit(handle) == 140_000
        assert pynvml.nvmlDeviceGetUtilizationRates(handle).gpu == 7
        assert pynvml.nvmlDeviceGetMemoryInfo(handle).used == 3_000_000_000
        assert pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU) == 81
        assert pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM) == 990
        assert pynvml.nvmlDeviceGetCurrentClocksEventReasons(handle) == 0x20
        running = pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
        assert [process.pid for process in running] == [11, 12, 13]
        assert pynvml.nvmlDeviceGetMigMode(handle) == [0, 0]


def test_gpus_are_told_apart_and_may_vanish():
    other = FakeGpu(uuid="GPU-2", waveform=constant(30))
    with started(GPU, other) as (change, _):
        assert pynvml.nvmlDeviceGetCount() == 2
        second = pynvml.nvmlDeviceGetHandleByIndex(1)
        assert pynvml.nvmlDeviceGetUUID(second) == "GPU-2"
        assert instant_mw(second) == 30_000
        change(GPU)
        assert pynvml.nvmlDeviceGetCount() == 1
        with pytest.raises(pynvml.NVMLError_GpuIsLost):
            pynvml.nvmlDeviceGetUUID(second)
        with pytest.raises(pynvml.NVMLError_InvalidArgument):
            pynvml.nvmlDeviceGetHandleByIndex(1)


def test_a_mig_device_has_a_parent():
    divided = FakeGpu(uuid="GPU-2", waveform=BUSY, mig_devices=("MIG-a", "MIG-b"))
    with started(GPU, divided):
        mig = pynvml.nvmlDeviceGetHandleByUUID("MIG-b")
        parent = pynvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(mig)
        assert pynvml.nvmlDeviceGetUUID(mig) == "MIG-b"
        assert pynvml.nvmlDeviceGetUUID(parent) == "GPU-2"
        assert pynvml.nvmlDeviceGetMigMode(parent) == [1, 1]
        with pytest.raises(pynvml.NVMLError_NotFound):
            pynvml.nvmlDeviceGetHandleByUUID("MIG-c")


def test_the_driver_may_refuse():
    with installed(FakeNvml(gpus=(GPU,), init_error="DriverNotLoaded")):
        with pytest.raises(pynvml.NVMLError_DriverNotLoaded):
            pynvml.nvmlInit()
        with pytest.raises(pynvml.NVMLError_Uninitialized):
            pynvml.nvmlDeviceGetCount()
    with installed(FakeNvml(gpus=(GPU,), count_error="Unknown")):
        pynvml.nvmlInit()
        with pytest.raises(pynvml.NVMLError_Unknown):
            pynvml.nvmlDeviceGetCount()


def test_no_trace_of_it_is_left():
    before = dict(vars(pynvml))
    with installed(FakeNvml(gpus=(GPU,))) as fake:
        pynvml.nvmlInit()
        pynvml.nvmlDeviceGetCount()
        with open("/proc/self/maps") as maps:
            assert str(fake.folder) in maps.read()
    assert dict(vars(pynvml)) == before
    with open("/proc/self/maps") as maps:
        assert str(fake.folder) not in maps.read()


def test_a_description_that_does_not_fit_is_refused():
    long = Waveform(steps=((MS, 1000),) * 1025)
    with pytest.raises(ValueError, match="GPU-1: the fake library has room for 1024 lines of step"):
        installed(FakeNvml(gpus=(FakeGpu(uuid="GPU-1", waveform=long),))).__enter__()


def test_child_processes_find_it_and_see_it_change(tmp_path):
    machine = FakeNvml(gpus=(GPU,))
    code = """if True:
        import pynvml
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        print(pynvml.nvmlDeviceGetUUID(handle), flush=True)
        input()
        try:
            pynvml.nvmlDeviceGetPowerUsage(handle)
        except pynvml.NVMLError as error:
            print(error)
    """
    environment = os.environ | {"LD_LIBRARY_PATH": str(write_library(machine, tmp_path))}
    with subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout.readline() == "GPU-1\n"
        lost = FakeGpu(uuid="GPU-1", waveform=BUSY, errors={EVERYTHING: "GpuIsLost"})
        write_library(FakeNvml(gpus=(lost,)), tmp_path)
        said, _ = child.communicate("\n", timeout=60)
    assert said == "GPU is lost\n"


def test_without_a_compiler_the_remedy_is_named(tmp_path):
    code = """if True:
        from pathlib import Path
        from slm_energy.testing.nvml import FakeNvml, write_library
        write_library(FakeNvml(gpus=()), Path())
    """
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PATH": ""},
        capture_output=True,
        text=True,
    )
    last = done.stderr.splitlines()[-1]
    assert last.endswith("the fake NVML library needs a C compiler: apt install gcc libc6-dev")
