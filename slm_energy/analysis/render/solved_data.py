"""The figures about solved tasks as rows, unrounded and in SI units, for CSV and for notebooks."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import pandas as pd

from slm_energy.analysis.result.report import Report
from slm_energy.analysis.result.solved import Range, Solved
from slm_energy.escape import spreadsheet


def cells(report: Report) -> str:
    """One row per cell and kind of energy, as CSV."""
    return to_csv(
        _metric(result) | {"label": report.labels[row.cell], "family": family.name} | _flat(row)
        for result in report.solved
        for family in result.families
        for row in result.cells
        if row.cell in family.ranked
    )


def pairs(report: Report) -> str:
    """One row per pair of cells and kind of energy, as CSV."""
    return to_csv(
        _metric(result)
        | {"family": family.name}
        | _flat(pair)
        | {"a_label": report.labels[pair.a], "b_label": report.labels[pair.b]}
        for result in report.solved
        for family in result.families
        for pair in family.pairs
    )


def _metric(result: Solved) -> dict[str, Any]:
    return {"metric": "" if result.metric is None else result.metric.name}


def _flat(row: Any) -> dict[str, Any]:
    """Field to value; both ends of an interval are columns of their own."""
    flat: dict[str, Any] = {}
    for field in dataclasses.fields(row):
        value = getattr(row, field.name)
        if "Range" in str(field.type):
            interval = value or Range(low=None, high=None)
            flat |= {f"{field.name}_low": interval.low, f"{field.name}_high": interval.high}
        else:
            flat[field.name] = value
    return flat


def to_csv(rows: Iterable[dict[str, Any]]) -> str:
    """Rows of equal keys as CSV; no text in it is a formula to a spreadsheet."""
    texts = [
        {name: spreadsheet(item) if isinstance(item, str) else item for name, item in row.items()}
        for row in rows
    ]
    return str(pd.DataFrame(texts).to_csv(index=False))
