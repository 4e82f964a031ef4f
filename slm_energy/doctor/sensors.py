"""Checks of energy sources: RAPL permissions and update periods."""

from __future__ import annotations

import errno
import re
from collections.abc import Sequence
from pathlib import Path

from slm_energy.doctor.finding import Finding
from slm_energy.record import Source
from slm_energy.scope import has_processor

_ZONE = re.compile(r"intel-rapl(-mmio)?:\d+(:\d+)*")
_UDEV = (
    """echo 'SUBSYSTEM=="powercap", ACTION=="add", RUN+="/bin/chmod a+r /sys%p/energy_uj"'"""
    " | sudo tee /etc/udev/rules.d/70-rapl.rules"
)


def measured(sources: Sequence[Source]) -> tuple[Source, ...]:
    """The disjoint set of measured sources that make up the total."""
    return tuple(
        source for source in sources if source.summed and source.kind in ("counter", "power")
    )


def powercap(root: Path, sources: Sequence[Source]) -> Finding:
    """Check that every RAPL counter in the powercap tree is readable.

    Args:
        root: `measurement.powercap_root`.
        sources: all sources; RAPL may also be read through another interface.
    """
    name = "RAPL"
    zones = [zone for zone in sorted(root.glob("intel-rapl*")) if _ZONE.fullmatch(zone.name)]
    errors = {zone: _read_error(zone / "energy_uj") for zone in zones}
    failures = {zone: error for zone, error in errors.items() if error is not None}
    if not zones:
        return Finding(
            name=name,
            verdict="not applicable",
            detail=f"there is no RAPL zone in {root}",
            remedy="on a physical machine: sudo modprobe intel_rapl_msr (AMD too)",
        )
    if not failures:
        detail = f"all {len(zones)} counters in {root} can be read"
        return Finding(name=name, verdict="ok", detail=detail)
    kinds = ", ".join(sorted({errno.errorcode.get(code, str(code)) for code in failures.values()}))
    lost = {str(zone / "energy_uj") for zone in failures}
    in_sum = {source.path for source in measured(sources)} & lost
    covered = has_processor({source.domain for source in measured(sources)})
    return Finding(
        name=name,
        verdict="warn" if covered and not in_sum else "fail",
        detail=f"{len(failures)} of {len(zones)} counters in {root} cannot be read ({kinds})"
        + (": the total would be unknown" if in_sum else ""),
        remedy=_remedy(root, set(failures.values())),
    )


def _read_error(counter: Path) -> int | None:
    """Error number of reading a counter; None if it is readable."""
    try:
        counter.read_bytes()
    except OSError as error:
        return error.errno or errno.EIO
    return None


def _remedy(root: Path, errors: set[int]) -> str:
    if errors & {errno.EACCES, errno.EPERM}:
        return f"sudo chmod a+r {root}/intel-rapl*/energy_uj (until reboot); for good: {_UDEV}"
    if errors == {errno.ENOENT}:
        return "a container masks them: docker run --security-opt systempaths=unconfined"
    return "sudo modprobe -r intel_rapl_msr; sudo modprobe intel_rapl_msr, then see dmesg"


def periods(sources: Sequence[Source]) -> Finding:
    """Check whether update periods were measured on this device or are documented ones."""
    name = "update periods"
    summed = measured(sources)
    if not summed:
        return Finding(name=name, verdict="not applicable", detail="there is no sensor")
    guessed = [source.id for source in summed if not source.update_period_measured]
    if not guessed:
        return Finding(name=name, verdict="ok", detail="measured on this machine")
    return Finding(
        name=name,
        verdict="warn",
        detail=f"not measured, taken from documentation: {', '.join(guessed)}",
        remedy="look again under load: what does not move cannot be timed; a meter at the wall goes"
        " by measurement.wall_meter.period_s",
    )
