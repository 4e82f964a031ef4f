"""Read a table measured elsewhere: a CSV file becomes the rows that `build` takes.

    load        all as text, with the row of the file (`csv_file`)
    keep        the rows that `columns.keep` selects
    reshape     one row per cell and repetition, one column per metric
    number      repetitions from 1; values in our units
    dress       with the columns that a stored study has

Values that are not numbers, duplicates and impossible values are refused with row and column; an
empty value is missing, and the report counts it. Rows are those of the file, the head being row 1.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from slm_energy.analysis.external.columns import Columns, MetricColumn, by_name
from slm_energy.analysis.external.csv_file import (
    ROW,
    as_numbers,
    load,
    notation_in_words,
    notations,
)
from slm_energy.analysis.external.guess import proposal, taken
from slm_energy.cell import cell_labels
from slm_energy.config.groups import Scalar
from slm_energy.errors import AnalysisError, one_line

_REPETITION = "repetition of the cell"
_MISSING = ("", "na", "n/a", "nan", "null", "none", "-")
_CORE = ("model.name", "engine.name", "provider.name")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """A table measured elsewhere.

    Attributes:
        rows: one row per cell and repetition with the columns of `tracking.Store.frame`; metrics
            under our names, in the units that end them; NaN where the table has no value.
        dialect: how the file was read, such as `semicolon-separated, decimal comma`.
        guessed: what its columns were taken for, in a sentence; empty where nothing was guessed.
    """

    rows: pd.DataFrame
    dialect: str
    guessed: str = ""


def read(path: Path, mapping: Columns) -> Table:
    """Read a table.

    Args:
        path: a CSV file.
        mapping: what its columns mean.

    Raises:
        AnalysisError: with the row and column at fault.
    """
    file, guessed = load(path), ""
    required = {f"columns.factors.{name}": column for name, column in mapping.present.items()}
    _require(file.table, required, path, proposal(file.table, mapping))
    if mapping.guess:
        mapping, guessed = taken(file.table, mapping, f"data={path}")
    table = _kept(file.table, mapping, path)
    table, metrics = _one_metric_per_column(table, mapping, path)
    factors = mapping.present
    if mapping.repetition is not None:
        _require(table, {"columns.repetition": mapping.repetition}, path)
    _refuse_doubt(table, mapping, metrics, file.separator, path)
    table = _spread(table, mapping, metrics, path)
    numbers = _repetitions(table, list(factors.values()), mapping, path)
    levels = {
        name if "." in name else f"{name}.name": table[column].to_numpy()
        for name, column in factors.items()
    }
    levels |= {name: np.full(len(table), "not given") for name in _CORE if name not in levels}
    values = {metric.name: _numbers(table, metric, mapping, path) for metric in metrics}
    rows = pd.DataFrame({**levels, **values, "round": numbers})
    rows["row"] = table[ROW].to_numpy()
    dialect = f"{file.separator}-separated, {notation_in_words(mapping.decimal, mapping.thousands)}"
    stored = _as_stored(rows, list(levels), path.name, mapping.rounds)
    return Table(rows=stored, dialect=dialect, guessed=guessed)


def _require(
    table: pd.DataFrame, required: Mapping[str, str], path: Path, proposed: str = ""
) -> None:
    """Refuse a table that lacks a column; `required` maps the key that names it to the column."""
    known = [str(name) for name in table.columns if name not in (ROW, _REPETITION)]
    for key, name in required.items():
        if name not in known:
            none = ", or to null where there is none" if key.startswith("columns.factors.") else ""
            raise AnalysisError(
                f"data={path}: no column {name!r}; it has {one_line(', '.join(known), 300)}; set "
                f"{key} to one of them{none}, or choose other columns=NAME{proposed}"
            )


def _kept(table: pd.DataFrame, mapping: Columns, path: Path) -> pd.DataFrame:
    """The rows that the mapping keeps."""
    for column, values in mapping.keep.items():
        _require(table, {f"columns.keep.{column}": column}, path)
        levels = sorted(set(table[column]))
        table = table[table[column].isin([str(value) for value in values])]
        if table.empty:
            raise AnalysisError(
                f"columns.keep.{column}: no row is left in {path}; there are "
                f"{one_line(', '.join(levels))}"
            )
    return table.reset_index(drop=True)


def _one_metric_per_column(
    table: pd.DataFrame, mapping: Columns, path: Path
) -> tuple[pd.DataFrame, tuple[MetricColumn, ...]]:
    """Turn columns of repetitions into rows; find the metrics."""
    if mapping.repetition_columns is not None:
        named = re.compile(re.escape(mapping.repetition_columns) + r"(\d+)")
        numbered = {name: match for name in table.columns if (match := named.fullmatch(str(name)))}
        if not numbered:
            first = f"{mapping.repetition_columns}1"
            _require(table, {"columns.repetition_columns": first}, path)
        table = table.melt(
            id_vars=[name for name in table.columns if name not in numbered],
            value_vars=list(numbered),
            var_name=_REPETITION,
            value_name=mapping.value,
        )
        table[_REPETITION] = table[_REPETITION].map(lambda name: numbered[name][1])
    if mapping.metrics:
        return table, mapping.metrics
    candidates = [by_name(str(name)) for name in table.columns]
    metrics = tuple(metric for metric in candidates if metric is not None)
    if not metrics:
        known = ", ".join(str(name) for name in table.columns if name not in (ROW, _REPETITION))
        raise AnalysisError(
            f"data={path}: no column has the name of a metric (energy/total_j); it has "
            f"{one_line(known, 300)}; name them with columns.metrics{proposal(table, mapping)}"
        )
    return table, metrics


def _spread(
    table: pd.DataFrame, mapping: Columns, metrics: tuple[MetricColumn, ...], path: Path
) -> pd.DataFrame:
    """Turn one row per value into one row per cell and repetition."""
    if mapping.variable is None:
        for metric in metrics:
            _require(table, {f"columns.metrics ({metric.name})": metric.column}, path)
        return table
    _require(table, {"columns.variable": mapping.variable, "columns.value": mapping.value}, path)
    known = sorted(set(table[mapping.variable]))
    for metric in metrics:
        if metric.column not in known:
            raise AnalysisError(
                f"data={path}: column {mapping.variable!r} has no {metric.column!r}; it has "
                f"{one_line(', '.join(known), 300)}"
            )
    table = table[table[mapping.variable].isin([metric.column for metric in metrics])]
    keys = list(mapping.present.values())
    if mapping.repetition is not None:
        keys.append(mapping.repetition)
    elif mapping.repetition_columns is not None:
        keys.append(_REPETITION)
    else:
        count = table.groupby([*keys, mapping.variable], sort=False).cumcount()
        table = table.assign(**{_REPETITION: (count + 1).astype(str)})
        keys.append(_REPETITION)
    _refuse_twice(table, [*keys, mapping.variable], mapping, path)
    for metric in metrics:  # while each value still has its row
        own = table[table[mapping.variable] == metric.column]
        _numbers(own, metric, mapping, path, mapping.value)
    wide = table.pivot(index=keys, columns=mapping.variable, values=mapping.value)
    rows = table.groupby(keys, sort=False)[ROW].min()
    return wide.reindex(rows.index).assign(**{ROW: rows}).reset_index().fillna("")


def _repetitions(table: pd.DataFrame, keys: list[str], mapping: Columns, path: Path) -> list[int]:
    """Number the repetitions of each cell from 1; the same name has one number in all cells."""
    for column in keys:
        if (empty := table[column] == "").any():
            row = int(table.loc[empty, ROW].iloc[0])
            raise AnalysisError(f"data={path}: row {row}, column {column!r} is empty")
    column = mapping.repetition if mapping.repetition is not None else _REPETITION
    if column not in table:
        if mapping.aggregate is not None:
            _refuse_twice(table, keys, mapping, path)
        return [int(number) + 1 for number in table.groupby(keys, sort=False).cumcount()]
    _refuse_twice(table, [*keys, column], mapping, path)
    names = list(dict.fromkeys(table[column]))
    if all(name.isdecimal() for name in names):
        names.sort(key=int)
    number = {name: i for i, name in enumerate(names, start=1)}
    return [number[name] for name in table[column]]


def _refuse_twice(table: pd.DataFrame, keys: list[str], mapping: Columns, path: Path) -> None:
    twice = table[table.duplicated(keys, keep=False)]
    if twice.empty:
        return
    first = twice.iloc[0]
    same = twice[(twice[keys] == first[keys]).all(axis=1)]
    what = ", ".join(f"{key} {first[key]}" for key in keys)
    hint = "each may occur once; should another column be a factor?"
    if mapping.aggregate is not None:
        hint = "with columns.aggregate each cell has one row"
    raise AnalysisError(
        f"data={path}: rows {', '.join(str(row) for row in same[ROW][:3])} are the same cell and "
        f"repetition ({what}); {hint}"
    )


def _refuse_doubt(
    table: pd.DataFrame,
    mapping: Columns,
    metrics: tuple[MetricColumn, ...],
    separator: str,
    path: Path,
) -> None:
    """Refuse points that may be of decimals or of thousands: where commas do not separate values.

    Such files come from where `1.234` is a thousand; one value like `1.5` in any metric decides.
    """
    if separator == "comma" or mapping.decimal is not None or mapping.thousands is not None:
        return
    columns = {mapping.value} if mapping.variable is not None else {m.column for m in metrics}
    texts = [text for column in columns if column in table for text in table[column]]
    ways = notations(texts)
    if len(ways) > 1 and all(as_numbers([text for text in texts if "." in text], None, None)):
        raise AnalysisError(
            f"data={path}: its numbers can be read in {len(ways)} ways: add {', or '.join(ways)}"
        )


def _numbers(
    table: pd.DataFrame,
    metric: MetricColumn,
    mapping: Columns,
    path: Path,
    column: str | None = None,
) -> np.ndarray:
    """The values of one metric in our unit; NaN where missing."""
    column = metric.column if column is None else column
    texts = table[column]
    missing = texts.str.lower().isin(_MISSING).to_numpy(dtype=bool)
    plain = pd.Series(as_numbers(list(texts), mapping.decimal, mapping.thousands))
    values = pd.to_numeric(plain, errors="coerce").to_numpy(dtype=float)
    for bad, why in (
        (~missing & np.isnan(values), "is not a number"),
        (np.isinf(values), "is infinite"),
        (values < 0, "is negative, which this metric cannot be"),
    ):
        if bad.any():
            row = int(table[ROW].to_numpy()[bad][0])
            text = texts.to_numpy()[bad][0]
            ways = notations(texts) if why == "is not a number" else []
            hint = f"; add {', or '.join(ways)}" if ways else ""
            raise AnalysisError(f"data={path}: row {row}, column {column!r}: {text!r} {why}{hint}")
    if missing.all():
        raise AnalysisError(f"data={path}: no row has a value of {metric.column!r} ({metric.name})")
    return np.asarray(values * metric.factor)


def _as_stored(rows: pd.DataFrame, settings: list[str], file: str, in_rounds: bool) -> pd.DataFrame:
    """Add the columns of `tracking.Store.frame` that are neither settings nor metrics."""
    cells = {
        hashlib.sha256(repr(levels).encode()).hexdigest()[:12]: levels
        for levels in dict.fromkeys(rows[settings].itertuples(index=False, name=None))
    }
    named: dict[str, dict[str, Scalar]] = {
        cell: dict(zip(settings, levels, strict=True)) for cell, levels in cells.items()
    }
    ids = {levels: cell for cell, levels in cells.items()}
    rows = rows.assign(
        cell=[ids[levels] for levels in rows[settings].itertuples(index=False, name=None)]
    )
    labels = cell_labels(named.items())
    rows = rows.sort_values(["round", "row"] if in_rounds else ["row", "round"], kind="stable")
    return rows.assign(
        run_id=[f"row {row}" for row in rows["row"]],
        sweep=file,
        label=rows["cell"].map(labels),
        order=range(1, len(rows) + 1),
        attempt=1,
        machine=f"its authors' machine (data from {file}, not measured by slm_energy)",
        outcome="valid",
        reason="",
        started="",
    ).reset_index(drop=True).drop(columns="row")  # fmt: skip
