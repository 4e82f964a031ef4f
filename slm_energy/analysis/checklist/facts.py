"""What the answers of the checklist are taken from."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from slm_energy.analysis.result.report import MetricResult, Report
from slm_energy.cell import flat
from slm_energy.record import Record, Source


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """A stored study, as plain data.

    Attributes:
        report: its analysis.
        records: of one valid trial per cell; they need no answers and no readings.
        plans: of each invocation, the first one first, as plan.json has them; empty where they were
            lost.
    """

    report: Report
    records: tuple[Record, ...]
    plans: tuple[Mapping[str, Any], ...]

    def values(self, name: str) -> list[float]:
        """A metric over the valid trials that have it."""
        return [
            trial.values[name]
            for trial in self.report.trials
            if trial.outcome == "valid" and name in trial.values
        ]

    def like(self, pattern: str) -> list[float]:
        """The same of all metrics whose names fit, such as `crosscheck/*_ratio`."""
        names = {name for trial in self.report.trials for name in trial.values}
        return [value for name in fnmatch.filter(names, pattern) for value in self.values(name)]

    def each(self, of: Callable[[Record], object]) -> str:
        """The different answers of the cells, with commas; what is None or empty is left out."""
        return distinct(of(record) for record in self.records)

    def setting(self, key: str) -> str:
        """A setting, as requested, over the cells."""
        return self.each(lambda record: flat(record.trial.cell.settings).get(key))

    def environment(self, key: str) -> str:
        """What the trials recorded about their environment."""
        return self.each(lambda record: record.capture and record.capture.environment.get(key))

    def in_force(self, key: str) -> str:
        """A setting as the engines reported it."""
        return self.each(lambda record: record.capture and record.capture.effective.get(key))

    @property
    def sources(self) -> list[Source]:
        """Energy sources that were read, sensors first, by id."""
        found = {
            series.source.id: series.source
            for record in self.records
            if record.capture is not None
            for series in record.capture.series
            if series.source.kind != "gauge"
        }
        return sorted(found.values(), key=lambda source: (source.kind == "estimate", source.id))

    @property
    def study(self) -> Mapping[str, Any]:
        """The keys of the study in its last plan; empty where it was lost."""
        return self.plans[-1].get("study", {}) if self.plans else {}

    @property
    def energy(self) -> tuple[MetricResult, ...]:
        """The metrics of energy, measured first."""
        return tuple(result for result in self.report.metrics if result.metric.is_energy)


def distinct(values: Iterable[object]) -> str:
    """Different values in order, with commas; None and empty ones are left out."""
    texts = [str(value) for value in values if value is not None and value != ""]
    return ", ".join(dict.fromkeys(texts))


def span(values: Iterable[float], unit: str) -> str:
    """The smallest and the largest value: `5.0 to 12.1 s`."""
    low, high = min(values := list(values)), max(values)
    shown = [f"{value:.3g}" for value in (low, high)]
    return f"{' to '.join(dict.fromkeys(shown))} {unit}".strip()
