"""The interval with sensor gain: for absolute figures, and between machines. Pure.

A sensor may show all power a few percent too high or too low. That cancels in the ratio of two
trials on one device, so the primary interval leaves it out. A calibrated source has a gain and an
offset of its own, and its interval is around the calibrated energy; the figure itself remains as
the sensor shows it.
"""

from __future__ import annotations

from slm_energy.derive.energy.usable_readings import Energy
from slm_energy.record import Source
from slm_energy.serialization import Json


def with_gain(
    source: Source, energy: Energy, duration_s: float
) -> tuple[float | None, float | None, dict[str, Json]]:
    """The interval with sensor gain, and what the pedigree says of it.

    Shown power is true power times the gain, plus the offset. The class of a sensor states that
    true power is within `gain_pct` of the shown power.

    Args:
        source: the sensor.
        energy: what it shows.
        duration_s: length of the window.

    Returns:
        Lower and upper end in joules; None if neither a calibration nor the accuracy of the
        sensor's class is known.
    """
    if source.calibration is not None:
        gain, offset = source.calibration.gain, source.calibration.offset_w
        low_j = max(0.0, energy.low_j - offset.high * duration_s) / gain.high
        high_j = max(0.0, energy.high_j - offset.low * duration_s) / gain.low
        details: dict[str, Json] = {
            "calibrated_j": (energy.best_j - offset.best * duration_s) / gain.best,
            "calibration_reference": source.calibration.reference,
            "calibration_unix_ns": source.calibration.unix_ns,
        }
        return low_j, high_j, details
    if source.gain_pct <= 0 or source.kind == "estimate":
        return None, None, {}
    share = source.gain_pct / 100
    return max(0.0, energy.low_j * (1 - share)), energy.high_j * (1 + share), {}
