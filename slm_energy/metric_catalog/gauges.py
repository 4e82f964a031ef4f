"""Gauges: what the sampler reads that is not energy, and the metrics that each of them becomes.

A gauge's readings are stored under `system/SOURCE`; their mean and peak over the serve window are
metrics of the trial.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Iterator

from slm_energy.metric_catalog.definition import Better, MetricDefinition


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Gauge:
    """One kind of gauge.

    Attributes:
        source: id of its source (`record.Source.id`); a GPU's has its index at `{index}`.
        stem: how the names of its metrics begin; `{n}` is nothing for the first GPU, then 1, 2, ...
            Of an AMD GPU beside NVIDIA's it is _amd, _amd_1, _amd_2, ...
        unit: how they end.
        title: with `{}` where `mean` or `peak` goes.
        quantity: what is read, to follow "of" in a sentence.
        better: the direction that is better.
    """

    source: str
    stem: str
    unit: str
    title: str
    quantity: str
    better: Better = "neither"


GAUGES = (
    Gauge(
        source="cpu_utilization_percentage",
        stem="utilization/cpu",
        unit="pct",
        title="CPU {} utilization",
        quantity="the share of all processors that is busy; 100 is all of them",
    ),
    Gauge(
        source="process_cpu_percentage",
        stem="utilization/process_cpu",
        unit="pct",
        title="process CPU {} utilization",
        quantity="the processor time of the worker and its child processes; 100 is one core",
    ),
    Gauge(
        source="cpu_frequency_megahertz",
        stem="utilization/cpu_frequency",
        unit="mhz",
        title="CPU {} frequency",
        quantity="the processor's clock frequency",
    ),
    Gauge(
        source="gpu_{index}_utilization_percentage",
        stem="utilization/gpu{n}",
        unit="pct",
        title="GPU {n} {} utilization",
        quantity="the share of time in which the GPU executed a kernel, as its driver reports it",
    ),
    Gauge(
        source="gpu_{index}_sm_clock_megahertz",
        stem="utilization/gpu_clock{n}",
        unit="mhz",
        title="GPU {n} {} clock",
        quantity="the clock frequency of the GPU's multiprocessors",
    ),
    Gauge(
        source="gpu_{index}_trial_processes",
        stem="utilization/gpu_trial_processes{n}",
        unit="count",
        title="GPU {n} {} processes of the trial",
        quantity="the number of the trial's processes that hold memory of the GPU",
    ),
    Gauge(
        source="system_memory_usage_megabytes",
        stem="memory/system",
        unit="mb",
        title="system {} memory",
        quantity="the machine's memory in use",
        better="lower",
    ),
    Gauge(
        source="system_memory_usage_percentage",
        stem="gauge/system_memory_usage_percentage",
        unit="value",
        title="system {} memory share",
        quantity="the share of the machine's memory that is in use, in percent",
        better="lower",
    ),
    Gauge(
        source="process_memory_megabytes",
        stem="memory/process",
        unit="mb",
        title="process {} memory",
        quantity="the resident memory of the worker and its child processes",
        better="lower",
    ),
    Gauge(
        source="gpu_{index}_memory_usage_megabytes",
        stem="memory/gpu{n}",
        unit="mb",
        title="GPU {n} {} memory",
        quantity="the GPU's memory in use, by any process",
        better="lower",
    ),
    Gauge(
        source="cpu_temperature_celsius",
        stem="thermal/cpu",
        unit="c",
        title="CPU {} temperature",
        quantity="the processor's temperature",
    ),
    Gauge(
        source="gpu_{index}_temperature_celsius",
        stem="thermal/gpu{n}",
        unit="c",
        title="GPU {n} {} temperature",
        quantity="the GPU's temperature",
    ),
    Gauge(
        source="gpu_{index}_power_usage_watts",
        stem="power/gpu{n}",
        unit="w",
        title="GPU {n} {} power",
        quantity="the power that the GPU reports",
    ),
    Gauge(
        source="foreign_cpu_percentage",
        stem="contamination/foreign_cpu",
        unit="pct",
        title="{} CPU use by other processes",
        quantity="the processor time of all processes but the trial's and the sampler's, in percent"
        " of all processors",
        better="lower",
    ),
    Gauge(
        source="cpu_steal_percentage",
        stem="contamination/steal",
        unit="pct",
        title="{} CPU steal",
        quantity="the share of processor time that the hypervisor gave to other virtual machines",
        better="lower",
    ),
    Gauge(
        source="cpu_throttled_percentage",
        stem="contamination/cpu_throttled",
        unit="pct",
        title="{} CPU throttling",
        quantity="the share of time in which heat slowed down the hottest core or package",
        better="lower",
    ),
    Gauge(
        source="cpu_governor_changes",
        stem="contamination/governor_changes",
        unit="count",
        title="{} changes of the CPU governor",
        quantity="the number of changes of frequency governor or boost since the trial began",
        better="lower",
    ),
    Gauge(
        source="gpu_{index}_throttled",
        stem="contamination/gpu_throttled{n}",
        unit="share",
        title="GPU {n} {} throttling",
        quantity="a mark that is 1 while heat or the power supply slow the GPU down, else 0",
        better="lower",
    ),
    Gauge(
        source="gpu_{index}_foreign_processes",
        stem="contamination/gpu_processes{n}",
        unit="count",
        title="GPU {n} {} foreign processes",
        quantity="the number of processes on the GPU that are not the trial's",
        better="lower",
    ),
)
OTHER = Gauge(
    source="{source}",
    stem="gauge/{source}",
    unit="value",
    title="{source} {}",
    quantity="a gauge that this list does not know, in the unit of its meter",
)
_BY_SOURCE = {gauge.source: gauge for gauge in GAUGES}


def stem_and_unit(source_id: str, beside: Collection[str] = ()) -> tuple[str, str]:
    """How the metrics of a gauge begin and end: `memory/gpu1` and `mb` of the second GPU's memory.

    NVIDIA's gauges are `gpu_0_...`, AMD's `amdgpu_0_...`. A gauge that is not listed is `gauge/ID`.
    GPUs of one vendor alone share their names with those of the other vendor alone, so that studies
    on either can be compared; where a machine has both, AMD's are named apart.

    Args:
        source_id: the gauge.
        beside: ids of all sources of the trial.
    """
    gpu = re.fullmatch(r"(amd)?gpu_(\d+)_(.+)", source_id)
    gauge = _BY_SOURCE.get(f"gpu_{{index}}_{gpu[3]}" if gpu else source_id, OTHER)
    number = gpu[2] if gpu and gpu[2] != "0" else ""
    if gpu and gpu[1] and any(re.match(r"gpu_\d+_", other) for other in beside):
        number = f"_amd_{number}" if number else "_amd"
    return gauge.stem.format(n=number, source=source_id), gauge.unit


def definitions() -> Iterator[MetricDefinition]:
    """Mean and peak of every gauge; of a temperature the first reading too."""
    for gauge in (*GAUGES, OTHER):
        yield _statistic(gauge, "mean", "Mean over the serve window of")
        yield _statistic(gauge, "peak", "Largest reading in the serve window of")
        if gauge.unit == "c" or gauge is OTHER:
            yield _statistic(gauge, "start", "First reading of the trial of")


def _statistic(gauge: Gauge, statistic: str, what: str) -> MetricDefinition:
    kept = {"n": "{n}", "source": "{source}"}
    return MetricDefinition(
        name=f"{gauge.stem}_{statistic}_{gauge.unit}",
        title=gauge.title.format(statistic, **kept),
        meaning=f"{what} {gauge.quantity}.",
        origin=f"sampler: gauge {gauge.source}".replace("{index}", "N"),
        better=gauge.better,
    )
