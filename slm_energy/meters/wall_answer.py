"""What a wall meter answers: the value in the JSON, its unit, and the power beside it. Pure.

As devices have them: numbers, or numbers in quotes (Home Assistant, Prometheus).
"""

from __future__ import annotations

import json
import math
import re
import struct
from decimal import Decimal
from typing import Any

from slm_energy.errors import one_line
from slm_energy.meters.base import ReadFailed
from slm_energy.meters.wall_http import KEY
from slm_energy.wall_units import POWERS, SCALES, likely_unit

MAX_POWER_MW = Decimal(20_000_000)
"""More than any socket supplies."""

MIN_POWER_MW = Decimal(500)
"""Less than any running machine draws."""

_MAX_MJ = Decimal(10**17)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,9})?")
_BESIDE = (
    ("aenergy.total", "apower"),  # Shelly, second generation and later
    ("Energy", "Load"),  # NETIO
    ("ENERGY.Total", "ENERGY.Power"),  # Tasmota
    ("total", "power"),  # Shelly, first generation: meters.0.total
)
"""Where a device has its power in W, by the end of the path of its energy."""

_SAME_UNIT = 10
_NEAR = 2


def parsed(body: bytes, where: str) -> Any:
    """The response as Python values; numbers with decimals are `Decimal`.

    Raises:
        ReadFailed: it is not JSON.
    """
    try:
        return json.loads(body, parse_float=Decimal, parse_constant=Decimal)
    except (ValueError, RecursionError) as error:
        what = "HTML" if body.lstrip()[:1] == b"<" else "something"
        raise ReadFailed(f"{where} returns {what} that is not JSON: check {KEY}.url") from error


def value_at(answer: Any, path: str, key: str) -> Decimal:
    """The number at a path.

    Args:
        answer: the whole response.
        path: keys and indices, joined by dots.
        key: the configuration key of the path, for errors.

    Raises:
        ReadFailed: there is none.
    """
    value = answer
    for name in path.split("."):
        if isinstance(value, list) and name.isdecimal() and int(name) < len(value):
            value = value[int(name)]
        elif isinstance(value, dict) and name in value:
            value = value[name]
        else:
            raise ReadFailed(
                f"{key}={path}: the response has no {name!r} there, but {_inside(value)}"
            )
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return Decimal(value)
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise ReadFailed(f"{key}={path} is not a number: {_inside(value)}")
    return Decimal(value)


def raw(value: Decimal, unit: str, where: str) -> int:
    """A value in mW or mJ.

    Raises:
        ReadFailed: no machine uses so much or so little.
    """
    low, high = (MIN_POWER_MW, MAX_POWER_MW) if unit in POWERS else (Decimal(0), _MAX_MJ)
    scale = SCALES[unit]
    # The product is not compared: the exponent of a misread value may be arbitrarily large.
    if not value.is_finite() or not low / scale <= value <= high / scale:
        raise ReadFailed(
            f"{where} reports {value:.6g} {unit}, which no machine uses: check {KEY}.unit and path"
        )
    return round(value * scale)


def power_mw(answer: Any, path: str, given: str | None, where: str) -> int | None:
    """The power beside an energy, in mW.

    Args:
        answer: the whole response.
        path: of the energy.
        given: `measurement.wall_meter.power_path`; None looks where known devices have it.
        where: of the device, for errors.

    Returns:
        None if there is none where it was looked for, or it is not plausible.

    Raises:
        ReadFailed: `given` leads to no plausible power.
    """
    if given is not None:
        return raw(value_at(answer, given, f"{KEY}.power_path"), "W", where)
    for energy, power in _BESIDE:
        if f".{path}".endswith(f".{energy}"):
            try:
                beside = path.removesuffix(energy) + power
                return raw(value_at(answer, beside, f"{KEY}.power_path"), "W", where)
            except ReadFailed:
                return None  # another device with the same name for its energy
    return None


def refuse_stated_unit(answer: Any, unit: str, where: str) -> None:
    """Compare the unit with the one that Home Assistant states beside a state.

    Raises:
        ReadFailed: they differ.
    """
    attributes = answer.get("attributes") if isinstance(answer, dict) else None
    stated = attributes.get("unit_of_measurement") if isinstance(attributes, dict) else None
    if isinstance(stated, str) and stated in SCALES and stated != unit:
        raise ReadFailed(f"{where} states the unit {stated}: set {KEY}.unit={stated}")


def contradiction(unit: str, counted_mj: float, used_mj: float) -> str | None:
    """Why the unit of an energy cannot be right.

    Args:
        unit: as configured.
        counted_mj: what was counted, in this unit.
        used_mj: what was used, from the power beside it.

    Returns:
        None if both agree within a factor of ten: a load varies, and a counter has steps.
    """
    ratio = counted_mj / used_mj
    if 1 / _SAME_UNIT < ratio < _SAME_UNIT:
        return None
    likely = likely_unit(unit, ratio / _NEAR, ratio * _NEAR)
    times = f"{ratio:,.3g} times" if ratio > 1 else f"1/{1 / ratio:,.3g} of"
    hint = "check path" if likely is None else f"it is likely to be {likely}"
    return f"{KEY}.unit={unit} gives {times} the energy of the power beside it: {hint}"


def printed_step(value: Decimal) -> Decimal:
    """The last printed digit as a step, without the digits that a float32 adds.

    It is no more than a first guess: a device may print more digits than it counts.
    """
    number = float(value)
    if len(value.as_tuple().digits) > 9 and _as_single(number) == number:
        shorter = (Decimal(f"{number:.{digits}g}") for digits in range(6, 10))
        value = next((text for text in shorter if _as_single(float(text)) == number), value)
    return Decimal(1).scaleb(max(-9, min(0, int(value.as_tuple().exponent))))


def _as_single(value: float) -> float:
    """The nearest float32; infinity beyond its range."""
    try:
        return float(struct.unpack("f", struct.pack("f", value))[0])
    except OverflowError:
        return math.inf


def _inside(value: Any) -> str:
    """Part of the response, shortened."""
    if isinstance(value, dict):
        return one_line(", ".join(value) or "nothing", 100)
    return f"{len(value)} items" if isinstance(value, list) else one_line(repr(value), 60)
