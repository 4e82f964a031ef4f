"""From joules to grams of CO2e and money: `Report.footprint`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from slm_energy.analysis.result.footprint import Amount, Footprint, FootprintRow
from slm_energy.analysis.result.metric import Metric
from slm_energy.analysis.result.report import Report
from slm_energy.analysis.stats.comparison import Block
from slm_energy.analysis.stats.diagnostics import describe
from slm_energy.analysis.text.footprint import note
from slm_energy.carbon_factors import carbon_factor

_J_PER_KWH = 3.6e6
_PER = {
    "energy/per_request_j": ("1,000 requests", 1e3),
    "energy/per_output_token_j": ("million output tokens", 1e6),
}
_PER_SOLVED = ("1,000 solved tasks", 1e3)

_Joules = tuple[Amount, bool]
"""Joules with their interval, and whether it covers the sensors with their gain."""


def with_footprint(report: Report) -> Report:
    """The report with what its joules emit and cost, if its options ask for either.

    Args:
        report: complete; without a metric of energy per request, token or solved task there is
            nothing to convert.

    Raises:
        ConfigError: no carbon factor is known of `carbon.location`.
    """
    options = report.options
    location, price = options.carbon.location, options.price_per_kwh
    if location is None and price is None:
        return report
    factor = None if location is None else carbon_factor(location)
    known = [*_per_answer(report), *_per_solved(report)]
    without = {m.name for _, m, _, (joules, gain) in known if joules.low is not None and not gain}
    with_gain = {m.name for _, m, _, (_, gain) in known if gain} - without
    rows = []
    for cell, metric, (per, count), (joules, _) in known:
        kwh = joules.times(count * options.carbon.pue / _J_PER_KWH)
        rows.append(
            FootprintRow(
                cell=cell,
                metric=metric,
                per=per,
                kwh=kwh,
                g_co2e=None if factor is None else kwh.times(factor.g_per_kwh),
                cost=None if price is None else kwh.times(price),
            )
        )
    made = Footprint(
        factor=factor,
        pue=options.carbon.pue,
        price_per_kwh=price,
        with_gain=tuple(sorted(with_gain)),
        rows=tuple(rows),
    )
    made = dataclasses.replace(made, note=note(report, made))
    return dataclasses.replace(report, footprint=made)


def _per_answer(
    report: Report,
) -> Iterator[tuple[str, Metric, tuple[str, float], _Joules]]:
    """Cell, metric, what it is per, and joules per request and output token."""
    trials: dict[str, list[Mapping[str, float]]] = {cell.id: [] for cell in report.cells}
    for trial in report.trials:
        if trial.outcome == "valid":
            trials[trial.cell].append(trial.values)
    for cell, values in trials.items():
        for name, per in _PER.items():
            for metric in Metric(name=name).kinds:  # measured first: it has no estimate then
                own = [each for each in values if each.get(metric.name, 0) > 0]
                if own:
                    yield cell, metric, per, _joules(own, metric, report.options.alpha)
                    break


def _joules(trials: Sequence[Mapping[str, float]], metric: Metric, alpha: float) -> _Joules:
    """The geometric mean of trials; its interval over trials, widened by that of the sensors."""

    def column(name: str) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
        return np.array([[each.get(name, np.nan)] for each in trials])

    low, high = metric.bounds_with_gain
    block = Block(cells=("",), values=column(metric.name), with_gain=(column(low), column(high)))
    row = describe(block, "", alpha)
    assert row is not None
    return _widened(row.mean, row.low, row.high, row.with_gain_low, row.with_gain_high)


def _per_solved(report: Report) -> Iterator[tuple[str, Metric, tuple[str, float], _Joules]]:
    for result in report.solved:
        for row in result.cells:
            if result.metric is None or row.per_solved_j is None:
                continue
            these, gain = (
                (None, None) if each is None else (each.low, each.high)
                for each in (row.these, row.with_gain)
            )
            yield row.cell, result.metric, _PER_SOLVED, _widened(row.per_solved_j, *these, *gain)


def _widened(
    mean: float,
    low: float | None,
    high: float | None,
    sensor_low: float | None,
    sensor_high: float | None,
) -> _Joules:
    """An interval over trials, by the factors by which the sensors could be off as well."""
    if low is None or high is None or sensor_low is None or sensor_high is None:
        return Amount(value=mean, low=low, high=high), False
    return Amount(value=mean, low=low * sensor_low / mean, high=high * sensor_high / mean), True
