"""Checks of the system: memory, clocks, power supply, virtual machine, container, perf events."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from slm_energy import memory_limit
from slm_energy.doctor.finding import ROOT, Finding, field, text

_LITTLE_MEMORY_GB = 4.0
_SYS_ADMIN, _PERFMON = 21, 38
_UNSYNCHRONISED = 0x40
_STEADY_CLOCKS = ("tsc", "kvm-clock", "arch_sys_counter", "hyperv_clocksource_tsc_page", "xen")


def swap(root: Path = ROOT) -> Finding:
    """Check for swapped-out memory, which may be read back during a trial."""
    name = "swap"
    table = text(root / "proc/swaps")
    if table is None:
        return Finding(name=name, verdict="unknown", detail="/proc/swaps cannot be read")
    used_mb = sum(int(line.split()[3]) * 1024 for line in table.splitlines()[1:]) / 1e6
    if used_mb == 0:
        return Finding(name=name, verdict="ok", detail="not in use")
    return Finding(
        name=name,
        verdict="warn",
        detail=f"{used_mb:,.0f} MB in use",
        remedy="sudo swapoff -a (needs so much free memory)",
    )


def memory(root: Path = ROOT) -> Finding:
    """Check the memory available for a model: what the machine has, within its control groups."""
    name = "memory"
    sizes = [field(root, "proc/meminfo", key) for key in ("MemAvailable", "MemTotal")]
    if None in sizes:
        return Finding(name=name, verdict="unknown", detail="not available in /proc/meminfo")
    free_gb, all_gb = (int((size or "").split()[0]) * 1024 / 1e9 for size in sizes)
    limits = memory_limit.read(root)
    detail, remedy = f"{free_gb:.1f} of {all_gb:.1f} GB available", "close other programs"
    limit = limits.tightest
    if limits.unknown:
        return Finding(name=name, verdict="unknown", detail=f"{detail}; {limits.unknown}")
    if limit is not None and limit.free_bytes / 1e9 < free_gb:
        free_gb, all_gb = limit.free_bytes / 1e9, limit.limit_bytes / 1e9
        detail = f"{free_gb:.1f} of {all_gb:.1f} GB available: the limit of {limit.folder}"
        remedy = "raise it (docker --memory, the pod's memory limit, the job's --mem)"
    if free_gb >= _LITTLE_MEMORY_GB:
        return Finding(name=name, verdict="ok", detail=detail)
    remedy = f"{remedy}; a model of 1 B parameters in float32 takes 4 GB"
    return Finding(name=name, verdict="warn", detail=detail, remedy=remedy)


def clock(root: Path = ROOT, status: int | None = None) -> Finding:
    """Check wall-clock synchronisation, which aligns series from several devices.

    Args:
        root: the folder that holds `run`.
        status: the status word of adjtimex(2); None reads it from the kernel.
    """
    name = "clock"
    status = _clock_status() if status is None else status
    daemon = (root / "run/systemd/timesync/synchronized").exists()
    if daemon or not status & _UNSYNCHRONISED:
        return Finding(name=name, verdict="ok", detail="synchronised")
    return Finding(
        name=name,
        verdict="warn",
        detail="not synchronised; windows are not affected, dates in the store are",
        remedy="sudo apt install chrony, or sudo timedatectl set-ntp true",
    )


def _clock_status() -> int:
    """Status word of the kernel's clock discipline; reading it needs no privilege.

    The head of `struct timex` in adjtimex(2): modes, offset, frequency, two errors, status.
    """

    class Timex(ctypes.Structure):
        _fields_ = (
            ("modes", ctypes.c_uint),
            ("readings", ctypes.c_long * 4),
            ("status", ctypes.c_int),
            ("rest", ctypes.c_byte * 256),
        )

    state = Timex()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.adjtimex(ctypes.byref(state)) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(state.status)


def clocksource(root: Path = ROOT) -> Finding:
    """Check the kernel's clock source: some take a microsecond to read."""
    name = "clock source"
    found = text(root / "sys/devices/system/clocksource/clocksource0/current_clocksource")
    if found is None:
        return Finding(name=name, verdict="unknown", detail="not reported by the kernel")
    if found.startswith(_STEADY_CLOCKS):
        return Finding(name=name, verdict="ok", detail=found)
    return Finding(
        name=name,
        verdict="warn",
        detail=f"{found} is slow to read: token times get coarser",
        remedy="see dmesg for why the kernel left the processor's own clock (tsc)",
    )


def power_supply(root: Path = ROOT) -> Finding:
    """Check for battery power, on which a laptop runs slower."""
    name = "power supply"
    supplies = sorted((root / "sys/class/power_supply").glob("*"))
    batteries = [supply for supply in supplies if text(supply / "type") == "Battery"]
    # The battery of a mouse is listed too, with scope `Device`.
    batteries = [battery for battery in batteries if text(battery / "scope") != "Device"]
    if not batteries:
        return Finding(name=name, verdict="not applicable", detail="this machine has no battery")
    if any(text(battery / "status") == "Discharging" for battery in batteries):
        detail, remedy = "on battery", "plug it in"
        return Finding(name=name, verdict="warn", detail=detail, remedy=remedy)
    return Finding(name=name, verdict="ok", detail="on mains")


def virtual_machine(root: Path = ROOT) -> Finding:
    """Check for a hypervisor, which hides sensors and whose other guests load the same package."""
    name = "virtual machine"
    flags = field(root, "proc/cpuinfo", "flags")
    if flags is None:
        return Finding(name=name, verdict="unknown", detail="not available in /proc/cpuinfo")
    if "hypervisor" not in flags.split():
        return Finding(name=name, verdict="ok", detail="no")
    maker = text(root / "sys/class/dmi/id/sys_vendor")
    return Finding(
        name=name,
        verdict="warn",
        detail=f"yes{f' ({maker})' if maker else ''}: RAPL is usually hidden, neighbours are not"
        " seen",
        remedy="measure on the host, or rent a bare-metal machine",
    )


def container(root: Path = ROOT) -> Finding:
    """Check for a container: runtimes mask the powercap tree, even for root inside."""
    name = "container"
    marks = ("run/systemd/container", ".dockerenv", "run/.containerenv")
    found = [mark for mark in marks if (root / mark).exists()]
    if not found:
        return Finding(name=name, verdict="ok", detail="no")
    zones = [*(root / "sys/class/powercap").glob("intel-rapl*:*/energy_uj")]
    if zones:
        detail = f"yes (/{found[0]}), and it shows the powercap tree"
        return Finding(name=name, verdict="ok", detail=detail)
    return Finding(
        name=name,
        verdict="warn",
        detail=f"yes (/{found[0]}), and there is no powercap tree in it",
        remedy="start it with docker run --security-opt systempaths=unconfined",
    )


def perf_events(root: Path = ROOT) -> Finding:
    """Check whether this process can read RAPL through perf events, the second interface."""
    name = "perf events"
    level = text(root / "proc/sys/kernel/perf_event_paranoid")
    if level is None or not (root / "sys/bus/event_source/devices/power").exists():
        detail = "the kernel offers no RAPL through perf events here"
        return Finding(name=name, verdict="not applicable", detail=detail)
    rights = int(field(root, "proc/self/status", "CapEff") or "0", 16)
    detail = f"kernel.perf_event_paranoid={level}"
    if int(level) <= 0 or rights & (1 << _PERFMON | 1 << _SYS_ADMIN):
        return Finding(name=name, verdict="ok", detail=f"{detail}: RAPL can be read")
    zones = (root / "sys/class/powercap").glob("intel-rapl:*/energy_uj")
    if any(text(zone) is not None for zone in zones):
        return Finding(name=name, verdict="ok", detail=f"{detail}; powercap is read instead")
    return Finding(
        name=name,
        verdict="warn",
        detail=f"{detail}: RAPL cannot be read through perf events",
        remedy="sudo sysctl kernel.perf_event_paranoid=0",
    )
