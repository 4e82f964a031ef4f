"""Checks of the system on files as Linux writes them: the good, the bad and the unknown form."""

import pytest

from slm_energy.doctor import system
from tests.doctor.conftest import INTEL

MEMINFO = "MemTotal:       24684092 kB\nMemFree:         900000 kB\nMemAvailable:   {} kB\n"
SWAPS = "Filename\tType\t\tSize\t\tUsed\t\tPriority\n"
NO_RIGHTS = {"proc/self/status": "Name:\tpython\nCapEff:\t0000000000000000\n"}
PERF = {"sys/bus/event_source/devices/power/type": "24\n"}
POWERCAP = {"sys/class/powercap/intel-rapl:0/energy_uj": "123456\n"}


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


@pytest.mark.parametrize(
    ("check", "files", "verdict", "said"),
    [
        (system.swap, {"proc/swaps": SWAPS}, "ok", "not in use"),
        (system.swap, {"proc/swaps": SWAPS + "/s file 8000000 0 -2\n"}, "ok", "not in use"),
        (system.swap, {"proc/swaps": SWAPS + "/s file 8000000 5000 -2\n"}, "warn", "5 MB"),
        (system.swap, {}, "unknown", "/proc/swaps"),
        (system.memory, {"proc/meminfo": MEMINFO.format(20000000)}, "ok", "20.5 of 25.3 GB"),
        (system.memory, {"proc/meminfo": MEMINFO.format(1000000)}, "warn", "1.0 of 25.3 GB"),
        (system.memory, {}, "unknown", "/proc/meminfo"),
        (system.clocksource, {"{0}/current_clocksource": "tsc\n"}, "ok", "tsc"),
        (system.clocksource, {"{0}/current_clocksource": "hpet\n"}, "warn", "hpet is slow"),
        (system.clocksource, {}, "unknown", "not reported by the kernel"),
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
    ],
)
def test_a_check_of_the_system(root, check, files, verdict, said):
    clocksource = "sys/devices/system/clocksource/clocksource0"
    found = check(root({name.format(clocksource): content for name, content in files.items()}))
    assert (found.verdict, said in found.detail) == (verdict, True), found
    assert found.remedy or verdict != "warn"


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
