"""Checks of the processor: causes of different speed, and so energy, between trials."""

from __future__ import annotations

import os
import struct
from collections.abc import Collection
from pathlib import Path

from slm_energy import cpu_quota, machine
from slm_energy.doctor.finding import CPUS, ROOT, Finding, each_cpu, field, text

_GUEST = " (that of a virtual machine leaves it to its host)"

# https://www.intel.com/content/www/us/en/developer/articles/technical/software-security-guidance/
# advisory-guidance/running-average-power-limit-energy-reporting.html
_ARCH_CAPABILITIES = 0x10A
_HAS_PACKAGE_CTLS = 1 << 10
_MISC_PACKAGE_CTLS = 0xBC
_FILTERING = 1 << 0


def governor(root: Path = ROOT) -> Finding:
    """Check whether the frequency governor keeps the clock up or lets it follow the load."""
    name = "governor"
    found = machine.governor(root)
    if found is None:
        detail = f"the kernel shows no frequency governor{_GUEST}"
        return Finding(name=name, verdict="unknown", detail=detail)
    if found == "performance":
        return Finding(name=name, verdict="ok", detail=found)
    return Finding(
        name=name,
        verdict="warn",
        detail=f"{found}: the clock follows the load",
        remedy=f"echo performance | sudo tee /{CPUS}/cpu*/cpufreq/scaling_governor",
    )


def energy_preference(root: Path = ROOT) -> Finding:
    """Check the energy hint for processors that control their frequency themselves."""
    name = "energy preference"
    found = set(each_cpu(root, "cpufreq/energy_performance_preference"))
    if not found:
        detail = "this processor has no such setting, or the kernel does not show it"
        return Finding(name=name, verdict="not applicable", detail=detail)
    if found == {"performance"}:
        return Finding(name=name, verdict="ok", detail="performance")
    return Finding(
        name=name,
        verdict="warn",
        detail=f"{', '.join(sorted(found))}: the processor lowers its speed to save power",
        remedy=f"echo performance | sudo tee /{CPUS}/cpu*/cpufreq/energy_performance_preference",
    )


def turbo(root: Path = ROOT) -> Finding:
    """Check for turbo (boost) clocks, which last only as long as temperature allows."""
    name = "turbo"
    for file, off in (("intel_pstate/no_turbo", "1"), ("cpufreq/boost", "0")):
        value = text(root / CPUS / file)
        if value == off:
            return Finding(name=name, verdict="ok", detail="off")
        if value is not None:
            return Finding(
                name=name,
                verdict="warn",
                detail="on: the clock depends on heat and on how many cores are busy",
                remedy=f"echo {off} | sudo tee /{CPUS}/{file}",
            )
    detail = f"the kernel shows no turbo switch{_GUEST}"
    return Finding(name=name, verdict="unknown", detail=detail)


def smt(root: Path = ROOT) -> Finding:
    """Check for simultaneous multithreading: two processors may share one core."""
    name = "SMT"
    active = text(root / CPUS / "smt/active")
    if active is None:
        return Finding(name=name, verdict="unknown", detail="not reported by the kernel")
    if active == "0":
        return Finding(name=name, verdict="ok", detail="off, or this processor has none")
    siblings = each_cpu(root, "topology/thread_siblings_list")
    return Finding(
        name=name,
        verdict="warn",
        detail=f"on: {len(siblings)} processors are {len(set(siblings))} cores",
        remedy=f"engine.threads={len(set(siblings))}, or echo off | sudo tee /{CPUS}/smt/control",
    )


def throttling(root: Path = ROOT) -> Finding:
    """Check how often the processor was thermally throttled since the machine started."""
    name = "throttling"
    files = ("core_throttle_count", "package_throttle_count")
    counts = [int(count) for file in files for count in each_cpu(root, f"thermal_throttle/{file}")]
    if not counts:
        detail = "the kernel does not count it on this processor"
        return Finding(name=name, verdict="unknown", detail=detail)
    if not any(counts):
        return Finding(name=name, verdict="ok", detail="not once since the machine started")
    return Finding(
        name=name,
        verdict="warn",
        detail=f"heat slowed it down up to {max(counts):,} times since the machine started",
        remedy="cool it, or turn turbo off; measurement.limits.throttled_pct judges each trial",
    )


def quota(root: Path = ROOT) -> Finding:
    """Check for a limit on processor time, of a container, a pod or a cluster's job."""
    name = "CPU quota"
    quotas = cpu_quota.read(root)
    if quotas.unknown:
        return Finding(name=name, verdict="unknown", detail=quotas.unknown)
    found = quotas.tightest
    if found is None:
        return Finding(name=name, verdict="ok", detail="none")
    share, worst = "", quotas.worst
    if worst is not None and worst.periods:
        share = f", throttled in {worst.throttled_periods:,} of {worst.periods:,} periods so far"
        share += "" if worst == found else f" by {worst.folder}"
    return Finding(
        name=name,
        verdict="warn",
        detail=f"{found.processors:g} processors ({found.quota_us / 1000:g} ms in each"
        f" {found.period_us / 1000:g} ms) by {found.folder}{share}",
        remedy="docker run without --cpus, a pod without a CPU limit, or a job with whole"
        " processors; else engine.threads below the quota",
    )


def energy_filter(root: Path = ROOT) -> Finding:
    """Check a register for the noise that Intel processors may add to RAPL (side channels)."""
    name = "RAPL filter"
    if field(root, "proc/cpuinfo", "vendor_id") != "GenuineIntel":
        detail = "only Intel processors have it"
        return Finding(name=name, verdict="not applicable", detail=detail)
    if "hypervisor" in (field(root, "proc/cpuinfo", "flags") or "").split():
        detail = "a virtual machine does not see the real register"
        return Finding(name=name, verdict="unknown", detail=detail, remedy="look on the host")
    try:
        with (root / "dev/cpu/0/msr").open("rb", buffering=0) as registers:
            if not _register(registers.fileno(), _ARCH_CAPABILITIES) & _HAS_PACKAGE_CTLS:
                detail = "this processor has no energy filter"
                return Finding(name=name, verdict="not applicable", detail=detail)
            filtering = _register(registers.fileno(), _MISC_PACKAGE_CTLS) & _FILTERING
    except OSError as error:
        return Finding(
            name=name,
            verdict="unknown",
            detail=f"the processor's registers cannot be read ({error.strerror})",
            remedy="sudo modprobe msr, then run this once as root",
        )
    if not filtering:
        return Finding(name=name, verdict="ok", detail="off: RAPL counts without added noise")
    return Finding(
        name=name,
        verdict="warn",
        detail="on: the processor adds noise to RAPL",
        remedy="turn SGX off in the firmware, or use windows of several seconds",
    )


def _register(file: int, number: int) -> int:
    """Read a 64-bit model-specific register; its number is the offset in the file."""
    (value,) = struct.unpack("<Q", os.pread(file, 8, number))
    return int(value)


def sampler_processor(ours: Collection[int], samplers: Collection[int]) -> Finding:
    """Check whether the sampler has processors of its own, apart from the workload's.

    Args:
        ours: processors that this process may use, as a worker may.
        samplers: processors to which the sampling process limited itself.
    """
    name = "sampler"
    if len(samplers) < len(ours):
        detail = f"pinned to {len(samplers)} of {len(ours)} processors"
        return Finding(name=name, verdict="ok", detail=detail)
    return Finding(
        name=name,
        verdict="warn",
        detail=f"shares {len(ours)} processors with the workload",
        remedy="take a machine, container or cpuset with more processors",
    )
