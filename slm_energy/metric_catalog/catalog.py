"""The list of all metrics, and the way from a stored name to its entry.

`METRICS` is in the order in which people read it: group by group, joules first.
"""

from __future__ import annotations

import functools
import re
from typing import NamedTuple

from slm_energy.metric_catalog import entries, gauges
from slm_energy.metric_catalog.definition import (
    DEVICES,
    ESTIMATED,
    MEASURED,
    SUMS,
    MetricDefinition,
)

GROUPS = {
    MEASURED: "joules that sensors counted; NAME_low_j and NAME_high_j are the interval's ends",
    DEVICES: "joules of GPUs and other devices where no sensor covers the processors: not a total",
    ESTIMATED: "joules from a model, never compared with measured ones; bounds as in energy/",
    "load": "requests that come while others are served",
    "latency": "times as a client sees them",
    "throughput": "what the serve window delivered per second",
    "tokens": "how much was served",
    "time": "wall time, inside and outside the windows",
    "model": "how the engine stores the weights",
    "quality": "whether the answers work, and how they compare with the reference engine's",
    "warmup": "how the warm-up went",
    "sampler": "what metering itself took",
    "crosscheck": "two readings of the same energy",
    "utilization": "how busy processors and GPUs were",
    "memory": "memory in use; 1 MB is 10^6 bytes",
    "thermal": "temperatures",
    "power": "power as a gauge; joules come from sources of their own",
    "contamination": "what disturbed the measurement",
    "gauge": "gauges without a name of their own, such as those of meters from other packages",
    "system": "the series that MLflow shows under System metrics: at most 300 readings of a gauge",
}
"""Group to what it is about."""

WINDOWS = ("load", "compile", "baseline", "warmup", "prefill", "ramp", "serve")
"""The windows of a trial, in order."""


class Placeholder(NamedTuple):
    """What stands in braces in the name of a family.

    Attributes:
        expression: a regular expression for it.
        values: the usual values, in words.
    """

    expression: str
    values: str


PLACEHOLDERS = {
    "domain": Placeholder(
        r".+",
        "cpu_package, cpu_core, cpu_uncore, dram, gpu, psys, machine, wall, a third-party meter's"
        " own; after a window also total",
    ),
    "window": Placeholder(
        "|".join(WINDOWS), f"{', '.join(WINDOWS)}; energy of the serve window has no prefix"
    ),
    "phase": Placeholder(r"\w+", "build, prepare, reference, gate, worker, derive, score"),
    "n": Placeholder(
        r"\d*|_amd(?:_\d+)?",
        "nothing for the first GPU, then 1, 2, ...; of AMD GPUs beside NVIDIA's _amd, _amd_1, ...",
    ),
    "pair": Placeholder(
        r".+",
        "DOMAIN_power_to_counter, with _1, _2, ... for further devices; sum_to_psys, sum_to_wall",
    ),
    "source": Placeholder(r".+", "the id of a gauge, such as cpu_utilization_percentage"),
}

_ALL = (
    *entries.energy(MEASURED),
    *entries.energy(DEVICES),
    *entries.energy(ESTIMATED),
    *entries.latency(),
    *entries.OTHERS,
    *gauges.definitions(),
)
METRICS = tuple(sorted(_ALL, key=lambda definition: list(GROUPS).index(definition.group)))
"""Every metric that a trial may store."""


@functools.cache
def find(name: str) -> MetricDefinition | None:
    """As `describe`; None where the name is not in the list."""
    for pattern, definition in _PATTERNS:
        if match := pattern.fullmatch(name):
            return definition.filled(match.groupdict())
    return None


def describe(name: str) -> MetricDefinition:
    """The entry of a stored name, its placeholders filled in.

    Raises:
        ValueError: it is not in the list.
    """
    definition = find(name)
    if definition is None:
        raise ValueError(f"{name} is missing from the list of metrics, slm_energy/metric_catalog/")
    return definition


def listed(values: dict[str, float]) -> dict[str, float]:
    """The values as they are.

    Raises:
        ValueError: one of their names is not in the list.
    """
    for name in values:
        describe(name)
    return values


def sums_passes(name: str) -> bool:
    """Whether a metric is joules of the whole serve window, over as many passes as fitted in."""
    group, _, quantity = name.partition("/")
    other = tuple(f"{window}_" for window in WINDOWS)
    found = find(name)
    return (
        group in SUMS
        and not quantity.startswith(other)
        and (found is None or found.better == "neither")
    )


def _expression(name: str) -> str:
    parts = re.split(r"{(\w+)}", name)
    texts = (re.escape(part) for part in parts[::2])
    groups = (f"(?P<{key}>{PLACEHOLDERS[key].expression})" for key in parts[1::2])
    return next(texts) + "".join(group + text for group, text in zip(groups, texts, strict=True))


# Of two families that a name fits, the one that states more of it is the right one.
_PATTERNS = [
    (re.compile(_expression(definition.name)), definition)
    for definition in sorted(METRICS, key=lambda d: -len(re.sub(r"{\w+}", "", d.name)))
]
