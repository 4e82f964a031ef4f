"""Each check of the host on files as Linux writes them: the good, the bad and the unknown form."""

import os
import struct

import pytest

from slm_energy.doctor import processor, system
from slm_energy.doctor.diagnosis import HOST_CHECKS
from slm_energy.doctor.finding import seconds

CPUS = "sys/devices/system/cpu"
MEMINFO = "MemTotal:       24684092 kB\nMemFree:         900000 kB\nMemAvailable:   {} kB\n"
SWAPS = "Filename\tType\t\tSize\t\tUsed\t\tPriority\n"
INTEL = "processor\t: 0\nvendor_id\t: GenuineIntel\nflags\t\t: fpu vme de{}\n"
AMD = "processor\t: 0\nvendor_id\t: AuthenticAMD\nflags\t\t: fpu vme de\n"
NO_RIGHTS = {"proc/self/status": "Name:\tpython\nCapEff:\t0000000000000000\n"}
PERF = {"sys/bus/event_source/devices/power/type": "24\n"}
POWERCAP = {"sys/class/powercap/intel-rapl:0/energy_uj": "123456\n"}


def on_cpus(file, *values):
    return {f"{CPUS}/cpu{index}/{file}": f"{value}\n" for index, value in enumerate(values)}


def perf(level, *more):
    files = {"proc/sys/kernel/perf_event_paranoid": f"{level}\n"} | PERF | NO_RIGHTS
    for each in more:
        files |= each
    return files


def battery(status, scope="System"):
    place = "sys/class/power_supply/BAT0"
    return {
        f"{place}/type": "Battery\n",
        f"{place}/status": f"{status}\n",
        f"{place}/scope": f"{scope}\n",
    }


@pytest.fixture
def root(tmp_path):
    """A folder in place of `/`, with the files given."""

    def write(files):
        for name, content in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        return tmp_path

    return write


GOVERNOR, PREFERENCE = "cpufreq/scaling_governor", "cpufreq/energy_performance_preference"
CORE, PACKAGE = "thermal_throttle/core_throttle_count", "thermal_throttle/package_throttle_count"
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
        (processor.smt, {}, "unknown", "does not tell"),
        (processor.throttling, on_cpus(CORE, 0) | on_cpus(PACKAGE, 0), "ok", "not once"),
        (processor.throttling, on_cpus(CORE, 0, 7) | on_cpus(PACKAGE, 9, 9), "warn", "up to 9"),
        (processor.throttling, {}, "unknown", "does not count"),
        (system.swap, {"proc/swaps": SWAPS}, "ok", "not in use"),
        (system.swap, {"proc/swaps": SWAPS + "/s file 8000000 0 -2\n"}, "ok", "not in use"),
        (system.swap, {"proc/swaps": SWAPS + "/s file 8000000 5000 -2\n"}, "warn", "5 MB"),
        (system.swap, {}, "unknown", "/proc/swaps"),
        (system.memory, {"proc/meminfo": MEMINFO.format(20000000)}, "ok", "20.5 of 25.3 GB"),
        (system.memory, {"proc/meminfo": MEMINFO.format(1000000)}, "warn", "1.0 of 25.3 GB"),
        (system.memory, {}, "unknown", "/proc/meminfo"),
        (system.clocksource, {"{0}/current_clocksource": "tsc\n"}, "ok", "tsc"),
        (system.clocksource, {"{0}/current_clocksource": "hpet\n"}, "warn", "hpet is slow"),
        (system.clocksource, {}, "unknown", "does not tell"),
        (system.power_supply, battery("Full"), "ok", "on mains"),
        (system.power_supply, battery("Discharging"), "warn", "on battery"),
        (system.power_supply, battery("Discharging", "Device"), "not applicable", "no battery"),
        (system.power_supply, {}, "not applicable", "no battery"),
        (system.virtual_machine, {"proc/cpuinfo": INTEL.format("")}, "ok", "no"),
        (system.virtual_machine, {"proc/cpuinfo": INTEL.format(" hypervisor")}, "warn", "yes"),
        (system.virtual_machine, {}, "unknown", "/proc/cpuinfo"),
        (system.container, {}, "ok", "no"),
        (system.container, {".dockerenv": ""}, "warn", "no powercap tree"),
        (system.container, {"run/.containerenv": ""} | POWERCAP, "ok", "shows the powercap tree"),
        (system.perf_events, {}, "not applicable", "no RAPL"),
        (system.perf_events, perf(-1), "ok", "can be read"),
        (system.perf_events, perf(2), "warn", "perf_event_paranoid=2"),
        (system.perf_events, perf(2, POWERCAP), "ok", "powercap is read instead"),
        (
            system.perf_events,
            perf(2, {"proc/self/status": f"CapEff:\t{1 << 38:016x}\n"}),
            "ok",
            "can be read",
        ),
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
def test_a_check_of_the_host(root, check, files, verdict, said):
    clocksource = "sys/devices/system/clocksource/clocksource0"
    found = check(root({name.format(clocksource): content for name, content in files.items()}))
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


@pytest.mark.parametrize(
    ("status", "files", "verdict"),
    [
        (0x2001, {}, "ok"),
        (0x40, {}, "warn"),
        (0x40, {"run/systemd/timesync/synchronized": ""}, "ok"),
    ],
)
def test_a_clock_is_synchronised_if_the_kernel_or_systemd_says_so(root, status, files, verdict):
    assert system.clock(root(files), status).verdict == verdict


def test_remedies_can_be_typed_as_they_stand(root):
    place = root(on_cpus(GOVERNOR, "powersave") | SMT_ON)
    assert processor.governor(place).remedy == (
        "echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"
    )
    assert processor.smt(place).remedy.startswith("engine.threads=2, or echo off | sudo tee /sys/")


@pytest.mark.parametrize(
    ("samplers", "verdict", "said"),
    [({7}, "ok", "keeps to 1 of 8"), (set(range(8)), "warn", "shares 8 processors")],
)
def test_a_sampler_with_processors_of_its_own(samplers, verdict, said):
    found = processor.sampler_processor(range(8), samplers)
    assert found.verdict == verdict
    assert said in found.detail


def test_on_this_machine_every_check_has_an_answer():
    findings = [check() for check in HOST_CHECKS]
    assert len({finding.name for finding in findings}) == len(HOST_CHECKS)
    assert all(finding.detail for finding in findings)


@pytest.mark.parametrize(
    ("value_s", "text"),
    [(0.00118, "1.18 ms"), (0.1, "0.1 s"), (12.34, "12.3 s"), (999.9, "1,000 s")],
)
def test_lengths_of_time(value_s, text):
    assert seconds(value_s) == text
