"""NVML sources, through the real nvidia-ml-py and a fake libnvidia-ml."""

import dataclasses
import time

import pynvml
import pytest

from slm_energy.devices.nvidia import Device, visible_devices
from slm_energy.errors import MeterError
from slm_energy.meters.base import ReadFailed
from slm_energy.meters.nvml.meter import open_nvml
from slm_energy.testing.nvml import (
    COUNTER,
    EVERYTHING,
    POWER,
    POWER_INSTANT,
    FakeNvml,
    installed,
)
from slm_energy.testing.waveform import constant
from tests.meters.nvml.conftest import (
    CONFIG,
    FIRST,
    MUTE,
    SECOND,
    first,
    metered,
)


def test_counter_and_power_are_both_read():
    with metered(FIRST) as gpu:
        counter, power = gpu.sources["nvml/GPU-aaaa/energy"], gpu.sources["nvml/GPU-aaaa/power"]
    assert (counter.kind, counter.domain, counter.unit) == ("counter", "gpu", "mJ")
    assert (counter.update_period_ns, counter.gain_pct) == (100_000_000, 5.0)
    for source in (counter, power):  # values may be up to 100 ms late
        assert (source.lag_ns, source.lag_error_ns) == (50_000_000, 50_000_000)
    assert (power.kind, power.domain, power.unit) == ("power", "gpu", "mW")
    assert (power.averaging_ns, power.gain_pct) == (25_000_000, 5.0)
    assert counter.max_power_w == power.max_power_w == 2 * 140
    assert counter.device == power.device == "GPU-aaaa NVIDIA Fake 100"
    assert counter.path == "nvmlDeviceGetTotalEnergyConsumption, driver 580.65.06"
    assert power.path == "NVML_FI_DEV_POWER_INSTANT, driver 580.65.06"
    assert gpu.notes == ()


@pytest.mark.parametrize(
    ("capability", "observed_ns"),
    [((7, 0), 0), ((8, 0), 25_000_000), ((8, 6), 0), ((9, 0), 25_000_000), ((10, 0), 0)],
)
def test_some_gpus_observe_a_part_of_each_period(capability, observed_ns):
    with metered(first(capability=capability)) as gpu:
        for name in ("energy", "power"):
            assert gpu.sources[f"nvml/GPU-aaaa/{name}"].averaging_ns == observed_ns


def test_what_is_summed_is_not_said_here_and_a_call_is_quick():
    with metered(FIRST, SECOND) as gpus:
        assert not any(source.summed for source in gpus.sources.values())
        assert gpus.meter.slow is False


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        ({"errors": {COUNTER: "NotSupported"}}, "Not Supported"),
        ({"errors": {COUNTER: "FunctionNotFound"}}, "Function Not Found"),
        ({"errors": {COUNTER: "NoPermission"}}, "Insufficient Permissions"),
        ({"values": {COUNTER: 0}}, "it does not change from 0 mJ"),
        ({"values": {COUNTER: 1234}}, "it does not change from 1234 mJ"),
        ({"counter_fault": "backward"}, "it counts backward"),
    ],
)
def test_what_does_not_count_is_no_counter_and_power_takes_its_place(broken, why):
    since_a_minute = time.monotonic_ns() - 60 * 10**9
    with metered(first(**broken, faults_from_ns=since_a_minute)) as gpu:
        assert gpu.energy == ["nvml/GPU-aaaa/power"]
        assert gpu.read("nvml/GPU-aaaa/power") == 70_000
    assert gpu.notes == (
        f"nvml: GPU 0 (NVIDIA Fake 100) has no energy counter ({why}): power is integrated",
    )


def test_a_slow_counter_is_one():
    with metered(first(counter_period_ns=150_000_000)) as gpu:
        assert "nvml/GPU-aaaa/energy" in gpu.energy


@pytest.mark.parametrize("power_type", range(pynvml.NVML_VALUE_TYPE_COUNT))
def test_power_comes_in_whatever_type_the_driver_likes(power_type):
    with metered(first(waveform=constant(60), power_type=power_type)) as gpu:
        assert gpu.sources["nvml/GPU-aaaa/power"].path.startswith(POWER_INSTANT)
        assert gpu.read("nvml/GPU-aaaa/power") == 60_000
        gpu.change(first(power_type=pynvml.NVML_VALUE_TYPE_COUNT))
        with pytest.raises(ReadFailed, match=r"of an unknown type \(7\)"):
            gpu.read("nvml/GPU-aaaa/power")


@pytest.mark.parametrize("refused", ["NotSupported", "InvalidArgument"])
@pytest.mark.parametrize(
    ("capability", "averaging_ns"),
    [
        ((6, 1), 0),
        ((7, 5), 0),
        ((8, 0), 25_000_000),
        ((8, 6), 10**9),
        ((9, 0), 10**9),
        ((12, 0), 10**9),
    ],
)
def test_without_power_of_the_moment_the_averaging_is_known(refused, capability, averaging_ns):
    with metered(first(errors={POWER_INSTANT: refused}, capability=capability)) as gpu:
        power = gpu.sources["nvml/GPU-aaaa/power"]
    assert power.path.startswith("nvmlDeviceGetPowerUsage,")
    assert (power.averaging_ns, power.gain_pct) == (averaging_ns, 5.0)


def test_power_may_be_averaged_where_the_generation_is_unknown():
    errors = {POWER_INSTANT: "NotSupported", "nvmlDeviceGetCudaComputeCapability": "Unknown"}
    with metered(first(errors=errors, capability=(7, 5))) as gpu:
        assert gpu.sources["nvml/GPU-aaaa/power"].averaging_ns == 10**9


def test_a_power_of_zero_is_no_power():
    with metered(first(waveform=constant(0))) as gpu:
        assert gpu.energy == []
    with metered(first(values={POWER_INSTANT: 0})) as gpu:
        assert gpu.sources["nvml/GPU-aaaa/power"].path.startswith("nvmlDeviceGetPowerUsage,")
        assert gpu.read("nvml/GPU-aaaa/power") == 70_000


@pytest.mark.parametrize(
    ("power_type", "bits", "power"),
    [
        (pynvml.NVML_VALUE_TYPE_UNSIGNED_INT, 0, "0"),
        (pynvml.NVML_VALUE_TYPE_SIGNED_INT, 2**32 - 5, "-5"),
        (pynvml.NVML_VALUE_TYPE_DOUBLE, 0x7FF8000000000000, "nan"),
        (pynvml.NVML_VALUE_TYPE_DOUBLE, 0x7FF0000000000000, "inf"),
    ],
)
def test_power_that_cannot_be_is_a_failed_reading(power_type, bits, power):
    with metered(FIRST) as gpu:
        gpu.change(first(power_type=power_type, values={POWER_INSTANT: bits}))
        with pytest.raises(ReadFailed, match=f"a power of {power}(.0)? mW is not a measurement"):
            gpu.read("nvml/GPU-aaaa/power")


def test_a_gpu_that_tells_neither_is_named():
    nothing = dict.fromkeys((COUNTER, POWER, POWER_INSTANT), "NotSupported")
    with metered(first(errors=nothing)) as gpu:
        assert gpu.energy == []
        assert "gpu_0_utilization_percentage" in gpu.sources
    assert gpu.notes == (
        "nvml: GPU 0 (NVIDIA Fake 100) has no energy counter (Not Supported): no power either, so"
        " its joules are in no total",
    )


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("GpuIsLost", "GPU is lost"),
        ("Unknown", "Unknown Error"),
        ("Timeout", "Timeout"),
        ("NoPermission", "Insufficient Permissions"),
        ("NotSupported", "Not Supported"),
        ("Uninitialized", "Uninitialized"),
    ],
)
def test_an_error_meanwhile_is_a_failed_reading_of_every_source(error, words):
    with metered(FIRST, SECOND) as gpus:
        gpus.change(first(errors={EVERYTHING: error}), SECOND)
        for name, source in gpus.sources.items():
            if source.device.startswith("GPU-aaaa"):
                with pytest.raises(ReadFailed, match=words):
                    gpus.read(name)
            else:
                gpus.read(name)


def test_a_gpu_that_vanishes_is_lost():
    with metered(FIRST, SECOND) as gpus:
        gpus.change(FIRST)
        with pytest.raises(ReadFailed, match="GPU is lost"):
            gpus.read("nvml/GPU-bbbb/energy")
        assert gpus.read("nvml/GPU-aaaa/energy") > 0


@pytest.mark.parametrize("function", [COUNTER, POWER_INSTANT])
@pytest.mark.parametrize("error", ["GpuIsLost", "Timeout", "Unknown"])
def test_what_fails_from_the_start_keeps_its_place(function, error):
    with metered(first(errors={function: error})) as gpu:
        assert gpu.energy == ["nvml/GPU-aaaa/energy", "nvml/GPU-aaaa/power"]
        with pytest.raises(ReadFailed):
            gpu.read("nvml/GPU-aaaa/energy" if function == COUNTER else "nvml/GPU-aaaa/power")


def test_a_gpu_that_is_lost_from_the_start_keeps_its_place_until_it_is_back():
    lost = dataclasses.replace(SECOND, errors={EVERYTHING: "GpuIsLost"})
    with metered(FIRST, lost) as gpus:
        assert gpus.energy[-1] == "nvml/index-1/energy"
        with pytest.raises(ReadFailed, match="GPU is lost"):
            gpus.read("nvml/index-1/energy")
        with pytest.raises(MeterError, match=r"GPU 1 \(unknown\) does not respond \(GPU is lost\)"):
            visible_devices()
        gpus.change(FIRST, SECOND)
        assert gpus.read("nvml/index-1/energy") > 0
    assert gpus.notes == ("nvml: GPU 1 (unknown) does not respond (GPU is lost): check nvidia-smi",)


def test_a_gpu_that_tells_nothing_at_all_is_not_called_hidden():
    with installed(FakeNvml(gpus=(first(errors=MUTE),))):
        opened = open_nvml(CONFIG)
    assert opened.meter is None
    [note] = opened.notes
    assert note.startswith("nvml: GPU 0 (NVIDIA Fake 100) has no energy counter")


def test_nonsense_is_passed_on_to_the_accounting():
    with metered(FIRST) as gpu:
        gpu.change(first(values={COUNTER: 2**64 - 1, POWER_INSTANT: 2**32 - 1}))
        assert gpu.read("nvml/GPU-aaaa/energy") == 2**64 - 1
        assert gpu.read("nvml/GPU-aaaa/power") == 2**32 - 1


@pytest.mark.parametrize("visible", ["1", "GPU-bbbb", "GPU-b", " 1 "])
def test_only_visible_gpus_are_metered_and_the_others_named(monkeypatch, visible):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with metered(FIRST, SECOND) as gpus:
        assert visible_devices() == [Device(index=1, uuid="GPU-bbbb", name="NVIDIA Fake 100")]
        assert gpus.energy == ["nvml/GPU-bbbb/energy", "nvml/GPU-bbbb/power"]
        assert gpus.read("nvml/GPU-bbbb/power") == 30_000
    assert gpus.notes == ("nvml: GPU 0 (NVIDIA Fake 100) is hidden and not metered",)


def test_visible_devices_keep_the_order_asked_for(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,0")
    with installed(FakeNvml(gpus=(FIRST, SECOND))):
        assert [device.index for device in visible_devices()] == [1, 0]


def test_a_gpu_that_is_named_twice_is_metered_once(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,GPU-aaaa")
    with metered(FIRST) as gpu:
        assert gpu.energy == ["nvml/GPU-aaaa/energy", "nvml/GPU-aaaa/power"]


@pytest.mark.parametrize(("entry", "matches"), [("7", 0), ("GPU-", 2), ("GPU-c", 0), ("MIG-x", 0)])
def test_an_unknown_entry_hides_the_rest_as_cuda_does(monkeypatch, entry, matches):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", f"0,{entry},1")
    with metered(FIRST, SECOND) as gpus:
        assert [device.index for device in visible_devices()] == [0]
    assert gpus.notes == (
        f"nvml: CUDA_VISIBLE_DEVICES=0,{entry},1: {entry!r} names {matches} of the 2 GPUs here;"
        " CUDA sees nothing from there on, and it is not metered",
        "nvml: GPU 1 (NVIDIA Fake 100) is hidden and not metered",
    )


@pytest.mark.parametrize("visible", ["", "-1"])
def test_hidden_gpus_are_no_gpus(monkeypatch, visible):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with installed(FakeNvml(gpus=(FIRST,))):
        opened = open_nvml(CONFIG)
        with pytest.raises(MeterError, match=f"CUDA_VISIBLE_DEVICES={visible}$"):
            visible_devices()
        with pytest.raises(pynvml.NVMLError_Uninitialized):
            pynvml.nvmlShutdown()
    assert opened.meter is None
    assert opened.notes[-1] == "nvml: no GPU is visible"


@pytest.mark.parametrize("entry", ["MIG-one", "MIG-two,MIG-one", "MIG-GPU-bbbb/1/0", "1"])
def test_a_mig_device_stands_for_its_whole_board_and_says_so(monkeypatch, entry):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", entry)
    divided = dataclasses.replace(SECOND, mig_devices=("MIG-one", "MIG-two"))
    with metered(FIRST, divided) as gpus:
        assert gpus.energy == ["nvml/GPU-bbbb/energy", "nvml/GPU-bbbb/power"]
        assert [device.uuid for device in visible_devices()] == ["GPU-bbbb"]
    assert gpus.notes == (
        "nvml: GPU 0 (NVIDIA Fake 100) is hidden and not metered",
        "nvml: GPU 1 (NVIDIA Fake 100) is divided by MIG: its joules are those of the whole"
        " board, with everything else that runs on it",
    )


@pytest.mark.parametrize("error", ["LibraryNotFound", "DriverNotLoaded", "NoPermission"])
def test_without_a_driver_the_reason_is_given(error):
    with installed(FakeNvml(gpus=(FIRST,), init_error=error)):
        opened = open_nvml(CONFIG)
        with pytest.raises(MeterError, match=r"^no NVIDIA driver is available \(.+\): install it"):
            visible_devices()
    assert opened.meter is None
    [note] = opened.notes
    assert note.startswith("nvml: no NVIDIA driver is available (")


def test_a_driver_that_does_not_count_its_gpus_is_said_in_one_line():
    with installed(FakeNvml(gpus=(FIRST,), count_error="Unknown")):
        opened = open_nvml(CONFIG)
        with pytest.raises(MeterError, match=r"the NVIDIA driver reports Unknown Error"):
            visible_devices()
        with pytest.raises(pynvml.NVMLError_Uninitialized):  # both have let go of the driver
            pynvml.nvmlShutdown()
    assert opened.meter is None
    assert opened.notes == ("nvml: the driver reports Unknown Error: check nvidia-smi",)


def test_a_machine_with_a_driver_and_no_gpu():
    with installed(FakeNvml(gpus=())):
        assert open_nvml(CONFIG).notes == ("nvml: no GPU is visible",)
        with pytest.raises(MeterError, match=r"no NVIDIA GPU is visible: .*\(not set\)"):
            visible_devices()
