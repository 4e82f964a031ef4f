"""What the joules emit and cost, as tables and as rows."""

from __future__ import annotations

from functools import partial
from typing import Any

from slm_energy.analysis.render.solved_data import to_csv
from slm_energy.analysis.render.tables import Grid
from slm_energy.analysis.result.footprint import Amount
from slm_energy.analysis.result.report import Report
from slm_energy.analysis.text import phrases
from slm_energy.analysis.text.footprint import Conversion, basis
from slm_energy.analysis.text.phrases import confidence, number, titled
from slm_energy.metric_catalog.definition import SUMS

_TITLES: dict[Conversion, str] = {"g_co2e": "Carbon, gCO2e", "cost": "Cost of electricity"}


def grids(report: Report) -> list[partial[Grid]]:
    """What makes each table: carbon, then money, of each kind of joules."""
    if report.footprint is None:
        return []
    return [partial(_grid, report, what, kind) for what in _TITLES for kind in SUMS]


def _grid(report: Report, what: Conversion, kind: str) -> Grid:
    """One row per cell; without rows where nothing of that kind was converted."""
    assert report.footprint is not None
    rows = [row for row in report.footprint.rows if row.metric.name.startswith(f"{kind}/")]
    heads = dict.fromkeys(row.per for row in rows)
    texts: dict[str, dict[str, str]] = {}
    for row in rows:
        amount: Amount | None = getattr(row, what)
        if amount is not None:
            texts.setdefault(row.cell, {})[row.per] = _text(amount)
    if not texts:
        return Grid(title="", head=(), rows=())
    metric = rows[0].metric
    title = (
        f"{_TITLES[what]}{phrases.kind(metric)}, {confidence(report)} intervals:"
        f" {basis(report.footprint, what)}{titled(report, metric)}"
    )
    return Grid(
        title=title,
        head=("Cell", *(f"per {per}" for per in heads)),
        rows=tuple(
            (cell.label, *(texts[cell.id].get(per, "-") for per in heads))
            for cell in report.cells
            if cell.id in texts
        ),
    )


def _text(amount: Amount) -> str:
    if amount.low is None or amount.high is None:
        return number(amount.value)
    return f"{number(amount.value)} ({number(amount.low)} to {number(amount.high)})"


def data(report: Report) -> str:
    """One row per cell, metric and what it is per, unrounded, as CSV; empty without rows."""
    if report.footprint is None or not report.footprint.rows:
        return ""
    rows = []
    for row in report.footprint.rows:
        flat: dict[str, Any] = {
            "cell": row.cell,
            "label": report.labels[row.cell],
            "metric": row.metric.name,
            "per": row.per,
        }
        for name in ("kwh", "g_co2e", "cost"):
            amount: Amount | None = getattr(row, name)
            flat |= {
                name + end: None if amount is None else getattr(amount, field)
                for end, field in (("", "value"), ("_low", "low"), ("_high", "high"))
            }
        rows.append(flat)
    return to_csv(rows)
