"""RAPL's perf events as files that refer to an event of every Linux kernel.

The kernel's `cpu-clock` replaces the energy counters, so the real system call opens it and the real
kernel counts: one step of 2^-32 J per nanosecond, 0.23 W on each CPU.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

SOFTWARE, CPU_CLOCK = 1, 0
"""PERF_TYPE_SOFTWARE and PERF_COUNT_SW_CPU_CLOCK in linux/perf_event.h."""

PACKAGE_ONLY = {"energy-pkg": CPU_CLOCK}


def write_events(
    sysfs: Path,
    *,
    pmu: str = "power",
    events: Mapping[str, int] = PACKAGE_ONLY,
    packages: Sequence[int] = (0,),
    kind: int = SOFTWARE,
    scale: str = "2.3283064365386962890625e-10",
) -> None:
    """Write the sysfs files of an event source.

    Args:
        sysfs: replaces `/sys`; measurement.powercap_root is its `class/powercap`.
        pmu: `power` or `power_core`.
        events: names, such as `energy-pkg` and `energy-ram`, and their numbers.
        packages: the socket of CPU 0, CPU 1, ...; all of these CPUs are in the event's cpumask.
        kind: type number of the event source.
        scale: joules per step.
    """
    source = sysfs / "bus/event_source/devices" / pmu
    (source / "events").mkdir(parents=True)
    (source / "type").write_text(f"{kind}\n")
    (source / "cpumask").write_text(",".join(map(str, range(len(packages)))) + "\n")
    for name, number in events.items():
        (source / "events" / name).write_text(f"event={number:#04x}\n")
        (source / "events" / f"{name}.scale").write_text(f"{scale}\n")
        (source / "events" / f"{name}.unit").write_text("Joules\n")
    for cpu, package in enumerate(packages):
        topology = sysfs / f"devices/system/cpu/cpu{cpu}/topology"
        topology.mkdir(parents=True, exist_ok=True)
        (topology / "physical_package_id").write_text(f"{package}\n")
        (topology / "die_id").write_text(f"{cpu}\n")
