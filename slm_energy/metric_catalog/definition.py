"""One entry of the list of metrics, and what follows from its name: group, unit, bounds.

A name is `group/quantity_unit`, in MLflow and everywhere else. Names of families have placeholders
in braces: `energy/{domain}_j`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Literal, NamedTuple

MEASURED, DEVICES, ESTIMATED = "energy", "energy_devices", "energy_estimated"
"""Groups of joules: from sensors, from sensors of devices without the processors, and from a model.
Nothing adds or compares joules of two groups."""

SUMS = {MEASURED: "total", DEVICES: "sum", ESTIMATED: "total"}
"""What the sum over domains is called in each group."""

Better = Literal["lower", "higher", "neither"]


class Unit(NamedTuple):
    """A unit as it is stored and as reports show it.

    Attributes:
        stored: of the value in MLflow; empty for a number without a unit.
        shown: in reports.
        scale: stored value times this is the value that reports show.
    """

    stored: str
    shown: str
    scale: float = 1.0


# How a name ends, the group it is in (any where empty), its unit. The first match decides.
_UNITS = (
    ("_count", "quality/", Unit("count", "")),
    ("", "quality/", Unit("share", "%", 100.0)),
    ("per_output_token_j", "", Unit("J/token", "mJ/token", 1e3)),
    ("tokens_per_s", "", Unit("tokens/s", "tokens/s")),
    ("_per_s", "", Unit("1/s", "1/s")),
    ("_j", "", Unit("J", "J")),
    ("_w", "", Unit("W", "W")),
    ("_s", "latency/", Unit("s", "ms", 1e3)),
    ("_s", "", Unit("s", "s")),
    ("_mb", "", Unit("MB", "MB")),
    ("_mhz", "", Unit("MHz", "MHz")),
    ("_pct", "", Unit("%", "%")),
    ("_c", "", Unit("°C", "°C")),
    ("_ratio", "", Unit("ratio", "")),
    ("_share", "", Unit("share", "")),
    ("_count", "", Unit("count", "")),
    ("", "tokens/", Unit("count", "")),
    ("batches", "warmup/", Unit("count", "")),
    ("bits_per_weight", "", Unit("bits", "bits")),
)

_SPELLED = {
    **{word: word.upper() for word in ("cpu", "gpu", "dram", "ttft", "itl", "tpot", "e2e")},
    "amd": "AMD",
    "psys": "platform",
    "wall": "wall meter",
    "warmup": "warm-up",
}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class MetricDefinition:
    """A metric that trials store, or a family of them.

    Attributes:
        name: the name in MLflow; a family's has placeholders (`catalog.PLACEHOLDERS`).
        title: what tables and sentences call it.
        meaning: one or two sentences, with the formula where there is one.
        origin: where it comes from: the worker, the sampler, a gauge, other metrics.
        better: the direction that saves or gains; `neither` for what only describes a trial, such
            as a total over as many passes as fitted into the window.
        bound: it is the lower or upper end of another metric's interval.
    """

    name: str
    title: str
    meaning: str
    origin: str
    better: Better = "neither"
    bound: bool = False

    @property
    def group(self) -> str:
        """What stands before the slash."""
        return self.name.partition("/")[0]

    @property
    def unit(self) -> Unit:
        """The unit that its name ends with."""
        return unit_of(self.name)

    def filled(self, parts: Mapping[str, str]) -> MetricDefinition:
        """The member of the family whose placeholders have these values."""
        words = {key: spelled(value) for key, value in parts.items()}
        return dataclasses.replace(
            self,
            name=self.name.format(**parts),
            title=" ".join(self.title.format(**words).split()),  # the first GPU has no number
            meaning=self.meaning.format(**words),
            origin=self.origin.format(**parts),
        )


def unit_of(name: str) -> Unit:
    """The unit of a metric, listed or not; empty where the name does not end with one."""
    unbounded = re.sub(r"_(low|high)(_with_gain)?_j$", "_j", name)
    for ending, group, unit in _UNITS:
        if unbounded.endswith(ending) and name.startswith(group):
            return unit
    return Unit("", "")


def bounds(name: str) -> tuple[str, str]:
    """Names of the lower and the upper end of a metric's interval."""
    stem, _, unit = name.rpartition("_")
    return f"{stem}_low_{unit}", f"{stem}_high_{unit}"


def bounds_with_gain(name: str) -> tuple[str, str]:
    """Names of both ends of the interval that also covers the gain of the sensors."""
    stem, _, unit = name.rpartition("_")
    return f"{stem}_low_with_gain_{unit}", f"{stem}_high_with_gain_{unit}"


def energy_name(group: str, window: str, domain: str) -> str:
    """The name of a domain's energy in a window; the serve window's has no prefix."""
    return f"{group}/{domain}_j" if window == "serve" else f"{group}/{window}_{domain}_j"


def in_group(name: str, group: str) -> str:
    """The name of the same quantity in another group of joules: `energy_devices/load_sum_j`."""
    own, _, quantity = name.partition("/")
    if own in SUMS and SUMS[own] != SUMS[group]:
        words = (SUMS[group] if word == SUMS[own] else word for word in quantity.split("_"))
        quantity = "_".join(words)
    return f"{group}/{quantity}"


def spelled(part: str) -> str:
    """A part of a name in words: `cpu_package` is `CPU package`."""
    return " ".join(_SPELLED.get(word, word) for word in part.split("_") if word)
