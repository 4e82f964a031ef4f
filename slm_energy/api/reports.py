"""The report of a study, or of a table measured elsewhere, as an object."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from slm_energy import analysis
from slm_energy.analysis import external
from slm_energy.analysis.render import external_tables, summary_tables, terminal
from slm_energy.analysis.render.files import files
from slm_energy.analysis.render.generated import Generated
from slm_energy.analysis.render.html import to_html
from slm_energy.analysis.render.tables import Grid, counts
from slm_energy.analysis.result.comparison import Pair
from slm_energy.analysis.result.diagnostics import Descriptive
from slm_energy.analysis.result.report import Report
from slm_energy.api import display
from slm_energy.api.options import with_defaults
from slm_energy.api.stores import Tracking, tracking_config, trials_of
from slm_energy.errors import ConfigError
from slm_energy.running.report import StoredReport, study_report
from slm_energy.serialization import write_files
from slm_energy.store.tracking import open_existing

if TYPE_CHECKING:
    import pandas as pd


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class StudyReport:
    """The verdicts of a study. In a notebook it shows findings and tables; `print` does too.

    Attributes:
        result: all figures, unrounded and in SI units.
        generations: what cells generated, for the page.
        grids: tables that only some reports have, for the page.
        boamps: with `carbon.location`, a BoAmps report of each cell: file name to content.
    """

    result: Report
    generations: tuple[Generated, ...] = ()
    grids: tuple[Grid, ...] = ()
    boamps: Mapping[str, bytes] = dataclasses.field(default_factory=dict)

    @property
    def findings(self) -> tuple[str, ...]:
        """The verdicts, in sentences."""
        return self.result.findings

    @property
    def pairs(self) -> pd.DataFrame:
        """Every comparison, one row per metric, family and pair of cells.

        Columns: `metric` (its name in MLflow), `family` (of cells that are compared with each
        other), `a` and `b` (labels), `a_cell` and `b_cell` (ids), then the fields of
        `analysis.result.comparison.Pair`: `ratio` (geometric mean of a / b) with its own interval
        `low` to `high` and the simultaneous one `joint_low` to `joint_high`, which the verdict
        rests on, `p` (adjusted within the family), `verdict` (about `a`), `reason`, ...
        """
        labels = self.result.labels
        rows = [
            {"metric": result.metric.name, "family": family.name}
            | {"a_cell": pair.a, "b_cell": pair.b}
            | (_fields(pair) | {"a": labels[pair.a], "b": labels[pair.b]})
            for result in self.result.metrics
            for family in result.families
            for pair in family.pairs
        ]
        return _frame(Pair, rows, ["metric", "family", "a", "b", "a_cell", "b_cell"])

    @property
    def cells(self) -> pd.DataFrame:
        """What each cell costs, one row per metric and cell, best first within a family.

        Columns: `metric` (its name ends in the unit of the values), `cell` (id), `label`, `family`,
        then the fields of `analysis.result.diagnostics.Descriptive`: `trials`, `mean` (geometric)
        with its interval `low` to `high`, `median`, `cv_pct`, ...
        """
        cells = {cell.id: cell for cell in self.result.cells}
        rows = [
            {"metric": result.metric.name, **_fields(row)}
            | {"label": cells[row.cell].label, "family": cells[row.cell].family}
            for result in self.result.metrics
            for row in result.descriptive
        ]
        return _frame(Descriptive, rows, ["metric", "cell", "label", "family"])

    @property
    def html(self) -> str:
        """The whole page, which needs no other file."""
        return to_html(self.result, self.generations, self.grids)

    @property
    def files(self) -> dict[str, bytes]:
        """Every file of the report, its name (with its folder) to its content.

        `errors.log` is among them only if an error kept a section out: it has the tracebacks.
        """
        made = files(self.result, self.generations, self.grids).contents
        return {**made, **self.boamps}

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write page, Markdown, LaTeX tables, figures, JSON and trials (Parquet) to a folder.

        Returns:
            The path of the page.

        Raises:
            ConfigError: the folder cannot be written.
        """
        try:
            write_files(Path(folder), self.files)
        except OSError as error:
            reason = error.strerror or error
            raise ConfigError(f"save({os.fspath(folder)!r}) cannot write: {reason}") from error
        return Path(folder) / "report.html"

    def _repr_html_(self) -> str:
        """Findings and short tables; the notes open below them."""
        import pandas as pd

        grids = [*summary_tables.grids(self.result), *self.grids]
        tables = [
            display.table(pd.DataFrame(grid.rows, columns=list(grid.head)), grid.title)
            for grid in grids
        ]
        return display.block(
            display.paragraph(repr(self)),
            *(display.paragraph(finding, strong=True) for finding in self.findings),
            *tables,
            display.bullets(self.result.all_notes, "Notes"),
            display.bullets(self.result.methods, "Methods"),
        )

    def __repr__(self) -> str:
        return f"Study {self.result.study} on {self.result.machine}: {counts(self.result)}"

    def __str__(self) -> str:
        return display.as_text(self._show)

    def _show(self, console: Console) -> None:
        terminal.to_terminal(self.result, console)
        for grid in self.grids:
            terminal.print_grid(grid, console)


def report(
    study: str | None = None,
    *,
    data: str | os.PathLike[str] | None = None,
    tracking: Tracking = None,
    **options: Any,
) -> StudyReport:
    """Compare the cells of a study, or those of a table that was measured elsewhere.

    Args:
        study: its name; of a table, what the report calls it.
        data: a CSV file in place of a stored study.
        tracking: a folder with a store, an MLflow tracking URI, or None for `mlruns`.
        options: keys of conf/analysis.yaml, such as `metrics=[...]`, `margin=0.05`,
            `families=[]`, `carbon={"location": "FRA"}` or `registration=FILE`; for a table
            `columns="NAME"`, a file of conf/columns, or a mapping.

    Returns:
        The report. Nothing is stored: `save` writes its files.

    Raises:
        ConfigError: neither `study` nor `data` is given, or an option is not valid.
        TrackingError: there is no such store or study.
        AnalysisError: the trials, or the table, allow no report.
    """
    if data is not None:
        return _table_report(data, {"study": study, **options})
    if study is None:
        raise ConfigError("report() needs study=NAME, or data=FILE for a table measured elsewhere")
    for key in ("columns", "out"):
        if key in options:
            remedy = "it belongs to data=FILE" if key == "columns" else "call .save(FOLDER)"
            raise ConfigError(f"{key}={options[key]!r}: {remedy}")
    given = with_defaults("analysis", {"study": study, **options}, ["study=null"], keys=["study"])
    registration = given.pop("registration")
    for key in ("data", "columns", "out"):
        del given[key]
    asked = analysis.options(given)  # what is wrong with them is said before a store is opened
    store = open_existing(tracking_config(tracking))
    trials_of(store, asked.study)
    file = None if registration is None else os.fspath(registration)
    return of_stored(study_report(store, given, registration=file))


def of_stored(report: StoredReport) -> StudyReport:
    """The report of a stored study, as an object for notebooks."""
    return StudyReport(result=report.result, generations=report.generations, boamps=report.boamps)


def _table_report(data: str | os.PathLike[str], options: dict[str, Any]) -> StudyReport:
    columns = options.get("columns")
    words = ["study=null"]
    if isinstance(columns, str):
        words.append(f"columns={options.pop('columns')}")
    asked = with_defaults("analysis", options, words, keys=["study"])
    del asked["out"]
    analysed = external.analyse(asked | {"data": os.fspath(data)})
    return StudyReport(result=analysed.report, grids=tuple(external_tables.grids(analysed)))


def _frame(kind: type, rows: list[dict[str, Any]], first: list[str]) -> pd.DataFrame:
    """Rows of a dataclass's fields, after the columns `first`; an unknown figure is NaN."""
    import pandas as pd

    fields = dataclasses.fields(kind)
    names = dict.fromkeys([*first, *(field.name for field in fields)])
    figures = [field.name for field in fields if str(field.type).startswith("float")]
    return pd.DataFrame(rows, columns=list(names)).astype(dict.fromkeys(figures, float))


def _fields(row: Any) -> dict[str, Any]:
    return {field.name: getattr(row, field.name) for field in dataclasses.fields(row)}
