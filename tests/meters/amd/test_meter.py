"""AMD GPUs, through AMD's own package on a compiled libamd_smi.so."""

import dataclasses
import os
import subprocess
import sys
import time

import psutil
import pytest

from slm_energy.config.groups import MeasurementConfig
from slm_energy.derive.energy.accounting import account
from slm_energy.meters.amd.meter import open_amd
from slm_energy.meters.base import ReadFailed
from slm_energy.record import Series, Window
from slm_energy.testing.amd import NO_HIP_ID, FakeAmdGpu, FakeAmdSmi
from slm_energy.testing.waveform import constant
from tests.metering import read, sources

ONE = FakeAmdGpu(bdf="0000:c1:00.0", uuid="GPU-one", waveform=constant(90))
TWO = FakeAmdGpu(bdf="0000:c6:00.0", uuid="GPU-two", waveform=constant(150), hip_id=1)
RADEON = dataclasses.replace(
    ONE, power_field="average", errors={"amdsmi_get_energy_count": "NOT_SUPPORTED"}
)
NO_POWER = {"amdsmi_get_power_info": "NOT_SUPPORTED"}


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    library = FakeAmdSmi(tmp_path_factory.mktemp("rocm"))
    with library.loaded():
        yield library


@pytest.fixture
def opened(library, monkeypatch):
    for key in ("ROCR", "HIP", "CUDA"):
        monkeypatch.delenv(f"{key}_VISIBLE_DEVICES", raising=False)
    meters = []

    def on(*gpus, driver=None, **state):
        library.show(*gpus, **state)
        result = open_amd(MeasurementConfig(name="test"), driver or library.root)
        meters.append(result.meter)
        return result

    yield on
    for meter in meters:
        if meter:
            meter.close()


def names(opened):
    return [source.id for source in sources(opened.meter)] if opened.meter else []


def sampled(meter, name, *, for_s, faults=lambda: None):
    """Readings every 10 ms; `faults` is called after the twentieth."""
    (channel,) = [channel for channel in meter.channels if channel.source.id == name]
    rows, start = [], time.monotonic()
    while time.monotonic() - start < for_s:
        before = time.monotonic_ns()
        rows.append((before, channel.read(), time.monotonic_ns()))
        time.sleep(0.01)
        if len(rows) == 20:
            faults()
    before, raw, after = zip(*rows, strict=True)
    return Series(source=channel.source, before_ns=before, raw=raw, after_ns=after)


def joules(series, start_s, end_s):
    zero = series.before_ns[0]
    window = Window(
        name="serve", start_ns=zero + int(start_s * 1e9), end_ns=zero + int(end_s * 1e9)
    )
    return account(series, window, max_gap_ns=10**9)


def test_an_instinct_gpu_has_a_counter_and_power(opened):
    meter = opened(ONE).meter
    energy, power = sources(meter)[:2]
    assert (energy.id, energy.kind, energy.domain, energy.unit) == (
        *("amd/GPU-one/energy", "counter", "gpu", "uJ"),
    )
    assert (power.id, power.kind, power.domain, power.unit, power.averaging_ns) == (
        *("amd/GPU-one/power", "power", "gpu", "mW", 0),
    )
    assert read(meter, power.id) == 90_000
    assert not meter.slow
    assert not any(source.summed for source in sources(meter))


def test_the_counter_counts_what_the_waveform_uses(opened):
    figure = joules(sampled(opened(ONE).meter, "amd/GPU-one/energy", for_s=0.6), 0.1, 0.4)
    assert figure.low_j < 27 < figure.high_j
    assert figure.joules == pytest.approx(27, rel=0.03)


@pytest.mark.parametrize(
    ("stated_uj", "joules_per_tick"), [(15.3, 2**-16), (15.259, 2**-16), (20.0, 20e-6)]
)
def test_a_tick_is_a_65536th_of_a_joule_although_the_library_rounds_it(
    opened, stated_uj, joules_per_tick
):
    """15.3 uJ instead of 15.2588 uJ would make every figure 0.27 % too large."""
    gpu = dataclasses.replace(ONE, resolution=stated_uj, waveform=constant(0.001))
    meter = opened(dataclasses.replace(gpu, update_ns=10**7)).meter
    small = read(meter, "amd/GPU-one/energy")
    million = dataclasses.replace(gpu, first_ticks=10**12)
    large = read(opened(million).meter, "amd/GPU-one/energy")
    assert large - small == pytest.approx(10**12 * joules_per_tick * 1e6, rel=1e-6)


def test_a_radeon_tells_average_power_only(opened):
    meter = opened(RADEON).meter
    (power,) = [source for source in sources(meter) if source.domain == "gpu"]
    assert (power.kind, power.averaging_ns) == ("power", 10**9)
    assert read(meter, power.id) == 90_000


def test_gauges_do_not_collide_with_those_of_nvidia(opened):
    meter = opened(ONE, TWO).meter
    gauges = [source for source in sources(meter) if source.kind == "gauge"]
    assert {source.id.partition("_")[0] for source in gauges} == {"amdgpu"}
    assert len({source.id for source in gauges}) == len(gauges) == 10
    assert read(meter, "amdgpu_1_utilization_percentage") == 40
    assert read(meter, "amdgpu_1_memory_usage_megabytes") == pytest.approx(2097.152)
    assert read(meter, "amdgpu_1_temperature_celsius") == 45


def test_a_gauge_that_the_gpu_does_not_have_is_left_out(opened):
    found = opened(dataclasses.replace(ONE, errors={"amdsmi_get_temp_metric": "NOT_SUPPORTED"}))
    assert "amdgpu_0_temperature_celsius" not in names(found)
    assert "amdgpu_0_utilization_percentage" in names(found)


def test_processes_of_the_worker_are_not_foreign(opened):
    with (
        psutil.Popen(["sleep", "30"]) as mine,
        psutil.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as worker,
    ):
        meter = opened(dataclasses.replace(ONE, processes=(mine.pid, worker.pid))).meter
        meter.watch(worker.pid)
        beside_worker = read(meter, "amdgpu_0_foreign_processes")
        meter.watch(os.getpid())
        of_our_tree = read(meter, "amdgpu_0_foreign_processes")
        mine.kill()
        worker.communicate(b"\n")
    assert (beside_worker, of_our_tree) == (1, 0)


def test_a_process_that_cannot_be_seen_from_here_leaves_the_number_unknown(opened):
    with psutil.Popen(["true"]) as gone:
        pass
    meter = opened(dataclasses.replace(ONE, processes=(gone.pid,))).meter
    with pytest.raises(ReadFailed, match="not visible here"):
        read(meter, "amdgpu_0_foreign_processes")


def test_the_trials_processes_are_those_that_hold_memory_on_any_part_of_a_gpu(opened):
    me, part = os.getpid(), dataclasses.replace(TWO, bdf="0000:c1:00.1")
    meter = opened(dataclasses.replace(ONE, bystanders=(me,)), part).meter
    meter.watch(me)
    assert read(meter, "amdgpu_0_trial_processes") == 0
    meter = opened(ONE, dataclasses.replace(part, processes=(me,))).meter
    meter.watch(me)
    assert read(meter, "amdgpu_0_trial_processes") == 1
    meter.watch(2**30)
    assert read(meter, "amdgpu_0_trial_processes") == 0
    meter.adopt(me)
    assert read(meter, "amdgpu_0_trial_processes") == 1


def test_a_hidden_gpu_is_searched_for_the_trial_too(opened, monkeypatch):
    monkeypatch.setenv("ROCR_VISIBLE_DEVICES", "0")
    meter = opened(ONE, dataclasses.replace(TWO, processes=(os.getpid(),))).meter
    meter.watch(os.getpid())
    assert read(meter, "amdgpu_1_trial_processes") == 1
    hidden = [source.id for source in sources(meter) if "GPU-two" in source.device]
    assert hidden == ["amdgpu_1_trial_processes"]


def test_a_frozen_counter_is_left_out_for_its_power(opened):
    found = opened(dataclasses.replace(ONE, frozen_ns=time.monotonic_ns()))
    assert "amd/GPU-one/energy" not in names(found)
    assert "amd/GPU-one/power" in names(found)
    assert "GPU 0 (AMD Instinct Fake 300) does not change: update ROCm" in found.notes[0]


def test_the_second_die_of_an_mi250_is_left_out_and_not_summed_as_zero(opened):
    silent = dataclasses.replace(TWO, waveform=constant(0))
    found = opened(ONE, silent)
    of_second = [name for name in names(found) if "GPU-two" in name or name[:8] == "amdgpu_1"]
    assert of_second == ["amdgpu_1_trial_processes"]
    assert found.notes == (
        *(
            "amd: GPU 1 (AMD Instinct Fake 300) reports 0 W and is left out; another die may report"
            " both",
        ),
    )


def test_the_parts_of_one_gpu_are_metered_once(opened):
    part = dataclasses.replace(TWO, bdf="0000:c1:00.1")
    found = opened(ONE, part)
    assert "amd/GPU-one/energy" in names(found)
    assert "amd/GPU-two/energy" not in names(found)
    assert "GPU 1 (AMD Instinct Fake 300) is a part of GPU 0" in found.notes[0]


def test_a_gpu_that_tells_nothing_is_named(opened):
    found = opened(dataclasses.replace(RADEON, errors=RADEON.errors | NO_POWER))
    assert found.meter is None
    assert "reports neither energy nor power" in found.notes[0]


def test_a_gpu_that_fails_keeps_its_place_and_fails_at_each_reading(opened):
    calls = ("amdsmi_get_energy_count", "amdsmi_get_power_info")
    meter = opened(dataclasses.replace(ONE, errors=dict.fromkeys(calls, "IO"))).meter
    for channel in meter.channels[:2]:
        with pytest.raises(ReadFailed, match="AMDSMI_STATUS_IO") as failure:
            channel.read()
        assert "\n" not in str(failure.value)


def test_a_gpu_lost_halfway_is_a_gap_and_not_zero(library, opened):
    meter = opened(ONE).meter
    assert read(meter, "amd/GPU-one/energy") > 0
    library.show(dataclasses.replace(ONE, errors={"amdsmi_get_energy_count": "NOT_FOUND"}))
    with pytest.raises(ReadFailed, match="NOT_FOUND"):
        read(meter, "amd/GPU-one/energy")


@pytest.mark.parametrize(
    ("fault", "end_s", "reason"),
    [("back", 0.4, "the counter went from"), ("frozen", 1.7, "frozen")],
)
def test_a_counter_that_breaks_in_the_window_gives_no_joules(library, opened, fault, end_s, reason):
    def break_it():
        changes = {"back": {"first_ticks": 0}, "frozen": {"frozen_ns": time.monotonic_ns()}}
        library.show(dataclasses.replace(gpu, **changes[fault]))

    gpu = dataclasses.replace(ONE, first_ticks=10**9)
    meter = opened(gpu).meter
    series = sampled(meter, "amd/GPU-one/energy", for_s=end_s + 0.2, faults=break_it)
    figure = joules(series, 0.1, end_s)
    assert figure.joules is None
    assert reason in figure.reasons[0]


@pytest.mark.parametrize(
    ("environment", "metered"),
    [
        ({}, ["one", "two"]),
        ({"ROCR_VISIBLE_DEVICES": "1"}, ["two"]),
        ({"ROCR_VISIBLE_DEVICES": "GPU-TWO,0"}, ["two", "one"]),
        ({"ROCR_VISIBLE_DEVICES": "1", "HIP_VISIBLE_DEVICES": "0"}, ["two"]),
        ({"HIP_VISIBLE_DEVICES": "1"}, ["two"]),
        ({"CUDA_VISIBLE_DEVICES": "1"}, ["two"]),
        ({"CUDA_VISIBLE_DEVICES": "1", "HIP_VISIBLE_DEVICES": "0"}, ["one"]),
        ({"HIP_VISIBLE_DEVICES": ""}, ["one", "two"]),
        ({"CUDA_VISIBLE_DEVICES": ""}, ["one", "two"]),
        ({"HIP_VISIBLE_DEVICES": "0,7,1"}, ["one"]),
        ({"ROCR_VISIBLE_DEVICES": ""}, []),
    ],
)
def test_what_the_runtime_hides_is_not_metered(opened, monkeypatch, environment, metered):
    opened()  # clears the variables
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    found = opened(TWO, ONE)  # the driver's order is not HIP's
    assert [n for n in names(found) if n.endswith("energy")] == [
        f"amd/GPU-{name}/energy" for name in metered
    ]
    hidden = [note for note in found.notes if "is hidden and not metered" in note]
    assert len(hidden) == 2 - len(metered)


def test_a_gpu_that_hip_does_not_know_goes_by_its_place_and_address(opened):
    unknown = [dataclasses.replace(gpu, hip_id=NO_HIP_ID, uuid="") for gpu in (TWO, ONE)]
    found = names(opened(*unknown))
    assert found[0] == "amd/0000:c6:00.0/energy"
    assert "amdgpu_1_utilization_percentage" in found


def test_an_index_that_does_not_exist_is_named(opened, monkeypatch):
    monkeypatch.setenv("ROCR_VISIBLE_DEVICES", "3")
    found = opened(ONE)
    assert found.meter is None
    assert found.notes[0] == "amd: ROCR_VISIBLE_DEVICES=3: '3' is not a GPU; it hides the rest"


def test_a_lone_failure_of_the_library_at_opening_is_one_line(opened):
    found = opened(dataclasses.replace(ONE, errors={"amdsmi_get_gpu_device_bdf": "IO"}))
    assert found.meter is None
    assert "AMD SMI fails" in found.notes[0]
    assert "\n" not in found.notes[0]


def test_without_the_driver_there_is_nothing_to_mend_or_to_say(opened, tmp_path):
    found = opened(init_error="DRIVER_NOT_LOADED", driver=tmp_path / "none")
    assert (found.meter, found.notes) == (None, ())


def test_with_the_driver_a_refusal_comes_with_a_remedy(opened):
    found = opened(init_error="NO_PERM")
    assert found.meter is None
    assert "Permission Denied" in found.notes[0]
    assert "groups render and video" in found.notes[0]
    assert "\n" not in found.notes[0]


def test_without_rocm_nothing_is_printed_and_the_note_says_what_to_install(tmp_path):
    """In a process of its own: here the library is loaded."""
    code = (
        "from pathlib import Path\n"
        "from slm_energy.config.groups import MeasurementConfig\n"
        "from slm_energy.meters.amd.meter import open_amd\n"
        f"print(open_amd(MeasurementConfig(name='test'), Path({str(tmp_path)!r})).notes)\n"
    )
    plain = {key: os.environ[key] for key in os.environ if not key.startswith("ROCM")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=plain | {"ROCM_PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "('amd: libamd_smi.so is not found: install ROCm, or set ROCM_PATH',)\n"
