"""What a metric is called in a sentence, its unit on the page, and which direction is good.

All of this is in `metric_catalog/`. A table from elsewhere may have metrics that are not listed
there, such as `quality/pass_at_1`: they are called by the words of their name.
"""

from __future__ import annotations

import dataclasses
import functools

from slm_energy.metric_catalog import catalog, definition
from slm_energy.metric_catalog.definition import MetricDefinition, spelled

MEASURED = f"{definition.MEASURED}/"
DEVICES = f"{definition.DEVICES}/"
ESTIMATED = f"{definition.ESTIMATED}/"

_QUANTITIES = {
    definition.MEASURED: "energy",
    definition.DEVICES: "device energy",
    definition.ESTIMATED: "energy",
    "time": "time",
    "memory": "memory",
    "thermal": "temperature",
    "utilization": "utilization",
}
_GAINS = ("throughput", "quality")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """One quantity that trials are compared by.

    Attributes:
        name: the MLflow name; `energy/...` is measured, `energy_devices/...` is measured without
            the processors, and `energy_estimated/...` is a model's.
    """

    name: str

    @property
    def estimated(self) -> bool:
        """True when the joules come from a model, not from a sensor."""
        return self.name.startswith(ESTIMATED)

    @property
    def quantity(self) -> str:
        """The name without the kind: the same for a measured energy and its estimate."""
        return definition.in_group(self.name, definition.MEASURED) if self.is_energy else self.name

    @property
    def is_energy(self) -> bool:
        """True for joules of either kind."""
        return self.name.startswith((MEASURED, DEVICES, ESTIMATED))

    @property
    def is_sum(self) -> bool:
        """True for joules of all that is summed, as opposed to those of one domain."""
        return self.is_energy and _is_sum(self.name)

    @property
    def higher_is_better(self) -> bool:
        """True for throughput and quality; everything else is a cost."""
        return self._definition.better == "higher"

    @property
    def is_share(self) -> bool:
        """True for quality: a share that may be zero, and has no logarithm then."""
        return self.name.startswith("quality/")

    @property
    def title(self) -> str:
        """What a sentence calls it, without the word estimated."""
        return self._definition.title

    @property
    def heading(self) -> str:
        """What the head of a table calls it; an estimate says so."""
        title = self.title[:1].upper() + self.title[1:]
        return f"{title} (estimated)" if self.estimated else title

    @property
    def unit(self) -> str:
        """The unit on the page."""
        return self._definition.unit.shown

    @property
    def scale(self) -> float:
        """Stored value times this is the value on the page."""
        return self._definition.unit.scale

    @property
    def bounds(self) -> tuple[str, str]:
        """Names of the metrics that hold the measurement's own interval."""
        return definition.bounds(self.name)

    @property
    def bounds_with_gain(self) -> tuple[str, str]:
        """Names of the metrics that hold the interval with the gain of the sensors."""
        return definition.bounds_with_gain(self.name)

    @property
    def kinds(self) -> tuple[Metric, ...]:
        """The same quantity measured, measured without processors, and estimated."""
        return tuple(Metric(name=definition.in_group(self.name, g)) for g in definition.SUMS)

    @property
    def _definition(self) -> MetricDefinition:
        return catalog.find(self.name) or _unlisted(self.name)


@functools.cache
def _is_sum(name: str) -> bool:
    """Sums alone have a name in the group of devices without processors."""
    return catalog.find(definition.in_group(name, definition.DEVICES)) is not None


@functools.cache
def _unlisted(name: str) -> MetricDefinition:
    """What the name alone says."""
    group, _, quantity = name.rpartition("/")
    if definition.unit_of(name) != definition.unit_of(f"{group}/"):  # the name ends with its unit
        quantity = quantity.rpartition("_")[0]
    words = [spelled(quantity), *([_QUANTITIES[group]] if group in _QUANTITIES else [])]
    return MetricDefinition(
        name=name,
        title=" ".join(words),
        meaning="",
        origin="a table from elsewhere",
        better="higher" if group in _GAINS else "lower",
    )
