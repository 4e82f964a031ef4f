"""Checks of the processor on files as Linux writes them: the good, the bad and the unknown form."""

import os
import struct

import pytest

from slm_energy.doctor import processor
from tests.doctor.conftest import INTEL

CPUS = "sys/devices/system/cpu"
AMD = "processor\t: 0\nvendor_id\t: AuthenticAMD\nflags\t\t: fpu vme de\n"
GOVERNOR, PREFERENCE = "cpufreq/scaling_governor", "cpufreq/energy_performance_preference"
CORE, PACKAGE = "thermal_throttle/core_throttle_count", "thermal_throttle/package_throttle_count"


def on_cpus(file, *values):
    return {f"{CPUS}/cpu{index}/{file}": f"{value}\n" for index, value in enumerate(values)}


SMT_ON = {f"{CPUS}/smt/active": "1\n"} | on_cpus(
    "topology/thread_siblings_list", "0,2", "1,3", "0,2", "1,3"
)


@pytest.mark.parametrize(
    ("check", "files", "verdict", "said"),
    [
        (processor.governor, on_cpus(GOVERNOR, "performance", "performance"), "ok", "performance"),
        (processor.governor, on_cpus(GOVERNOR, "performance", "powersave"), "warn", "powersave"),
        (processor.governor, {}, "unknown", "no frequency governor"),
        (processor.energy_preference, on_cpus(PREFERENCE, "performance"), "ok", "performance"),
        (processor.energy_preference, on_cpus(PREFERENCE, "power"), "warn", "power: "),
        (processor.energy_preference, {}, "not applicable", "no such setting"),
        (processor.turbo, {f"{CPUS}/intel_pstate/no_turbo": "1\n"}, "ok", "off"),
        (processor.turbo, {f"{CPUS}/intel_pstate/no_turbo": "0\n"}, "warn", "on: "),
        (processor.turbo, {f"{CPUS}/cpufreq/boost": "0\n"}, "ok", "off"),
        (processor.turbo, {f"{CPUS}/cpufreq/boost": "1\n"}, "warn", "on: "),
        (processor.turbo, {}, "unknown", "no turbo switch"),
        (processor.smt, {f"{CPUS}/smt/active": "0\n"}, "ok", "off"),
        (processor.smt, SMT_ON, "warn", "4 processors are 2 cores"),
        (processor.smt, {}, "unknown", "not reported by the kernel"),
        (processor.throttling, on_cpus(CORE, 0) | on_cpus(PACKAGE, 0), "ok", "not once"),
        (processor.throttling, on_cpus(CORE, 0, 7) | on_cpus(PACKAGE, 9, 9), "warn", "up to 9"),
        (processor.throttling, {}, "unknown", "does not count"),
        (processor.energy_filter, {"proc/cpuinfo": AMD}, "not applicable", "only Intel"),
        (processor.energy_filter, {"proc/cpuinfo": INTEL.format("")}, "unknown", "cannot be read"),
        (
            processor.energy_filter,
            {"proc/cpuinfo": INTEL.format(" hypervisor")},
            "unknown",
            "virtual machine",
        ),
    ],
)
def test_a_check_of_the_processor(root, check, files, verdict, said):
    found = check(root(files))
    assert (found.verdict, said in found.detail) == (verdict, True), found
    assert found.remedy or verdict != "warn"


@pytest.mark.parametrize(
    ("capabilities", "package", "verdict"),
    [(1 << 10, 0, "ok"), (1 << 10, 1, "warn"), (0, 1, "not applicable")],
)
def test_energy_filter_is_a_bit_of_a_register(root, capabilities, package, verdict):
    place = root({"proc/cpuinfo": INTEL.format(""), "dev/cpu/0/msr": ""})
    with (place / "dev/cpu/0/msr").open("r+b") as registers:
        os.pwrite(registers.fileno(), struct.pack("<Q", package), 0xBC)
        os.pwrite(registers.fileno(), struct.pack("<Q", capabilities), 0x10A)
    assert processor.energy_filter(place).verdict == verdict


def test_remedies_can_be_typed_as_they_stand(root):
    place = root(on_cpus(GOVERNOR, "powersave") | SMT_ON)
    assert processor.governor(place).remedy == (
        "echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"
    )
    assert processor.smt(place).remedy.startswith("engine.threads=2, or echo off | sudo tee /sys/")


@pytest.mark.parametrize(
    ("samplers", "verdict", "said"),
    [({7}, "ok", "pinned to 1 of 8"), (set(range(8)), "warn", "shares 8 processors")],
)
def test_a_sampler_with_processors_of_its_own(samplers, verdict, said):
    found = processor.sampler_processor(range(8), samplers)
    assert found.verdict == verdict
    assert said in found.detail
