"""How exact each class of sensor is: gain, latency, the part of the time in which it looks.

These are figures for classes, not for a device: `slm-energy calibrate` measures a device's own. The
gain is an error that all readings of one device share; it widens only the interval with sensor
gain. Where no source states a figure it says so, and a cautious one is assumed.
"""

from __future__ import annotations

import dataclasses

from slm_energy.record import Source

_MS = 1_000_000


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Accuracy:
    """What a class of sensor is capable of; see `Source` for the attributes."""

    gain_pct: float
    lag_ns: int = 0
    lag_error_ns: int = 0


_INTEL = {
    # Measured by the voltage regulators since Haswell. Hackenberg et al. (IPDPSW 2015,
    # doi 10.1109/IPDPSW.2015.70) and Khan et al. (RAPL in Action, TOMPECS 2018) find it to follow
    # power at the plug closely, but neither states a gain: assumed.
    "cpu_package": Accuracy(gain_pct=5.0),
    "cpu_core": Accuracy(gain_pct=5.0),
    "cpu_uncore": Accuracy(gain_pct=5.0),
    # Desrochers et al., A Validation of DRAM RAPL Power Measurements (MEMSYS 2016): the trend is
    # right, but offset by a constant that differs between machines, worst at rest: assumed.
    "dram": Accuracy(gain_pct=20.0),
    # The board's maker decides what it covers and with which sensor: assumed.
    "psys": Accuracy(gain_pct=10.0),
}
AMD_RAPL = Accuracy(gain_pct=15.0)
"""A model of activity blind to data and memory (Schoene et al., arXiv 2108.00808): assumed."""

NVIDIA = Accuracy(gain_pct=5.0, lag_ns=50 * _MS, lag_error_ns=50 * _MS)
"""Gain: NVML's reference states 5 % for power on Fermi and Kepler, nothing for later GPUs: it is
assumed there; compare Yang et al. (arXiv 2312.02741), who metered the supply lines. Latency: no
document states it; values up to 100 ms old are taken into account."""

AMD_SMI = Accuracy(gain_pct=10.0, lag_ns=50 * _MS, lag_error_ns=50 * _MS)
"""AMD states neither: twice NVIDIA's gain and its latency are assumed."""

WALL_LAG_S = 3.0
"""Plugs show power 1 to 3 s late: they average, and then publish over a radio link."""

FILTER_NOISE_PCT = 50.0
"""By how much Intel's energy filter may distort a step of RAPL: Intel's guidance on INTEL-SA-00389,
as cited by green-coding.io, "RAPL, SGX and energy filtering"."""


def rapl(source: Source, *, amd: bool, filtered: bool) -> Source:
    """A RAPL counter with what is known of its class.

    Args:
        source: the counter.
        amd: the processor is AMD's.
        filtered: Intel's energy filter is on.
    """
    known = AMD_RAPL if amd else _INTEL.get(source.domain)
    if known is None:
        return source
    noise_pct = FILTER_NOISE_PCT if filtered and not amd else 0.0
    return dataclasses.replace(source, gain_pct=known.gain_pct, step_noise_pct=noise_pct)


def gpu(source: Source, known: Accuracy) -> Source:
    """A GPU's counter or power with what is known of its class."""
    return dataclasses.replace(
        source, gain_pct=known.gain_pct, lag_ns=known.lag_ns, lag_error_ns=known.lag_error_ns
    )
