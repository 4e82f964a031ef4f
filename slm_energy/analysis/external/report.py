"""A table measured elsewhere: analysed as far as it allows, and labelled as its authors' data."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from slm_energy.analysis.build import build, build_independent, with_failures
from slm_energy.analysis.external import claims, savings
from slm_energy.analysis.external.columns import columns
from slm_energy.analysis.external.table import Table, read
from slm_energy.analysis.footprint import with_footprint
from slm_energy.analysis.options import METRICS, options
from slm_energy.analysis.result.report import Report
from slm_energy.analysis.sections import Sections
from slm_energy.errors import ConfigError


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ExternalReport:
    """What a table measured elsewhere shows.

    Attributes:
        report: the analysis; its notes and findings say the other two in sentences.
        ranges: savings over models, metric by metric.
        checked: its authors' claims.
        guessed: what its columns were taken for; empty where nothing was guessed.
    """

    report: Report
    ranges: tuple[savings.SavingsRange, ...]
    checked: tuple[claims.CheckedClaim, ...]
    guessed: str = ""


def analyse(mapping: Mapping[str, Any]) -> ExternalReport:
    """Analyse a table.

    Args:
        mapping: the keys of conf/analysis.yaml without `tracking`; `data` is the file. As long as
            `metrics` has its default, it means all metrics of the table.

    Raises:
        ConfigError: the column mapping or an option is wrong.
        AnalysisError: the table cannot be read as the mapping says, or not be analysed as
            requested.
    """
    keys = dict(mapping)
    path, meaning = Path(str(keys.pop("data"))), columns(keys.pop("columns"))
    if (registration := keys.pop("registration", None)) is not None:
        raise ConfigError(f"registration={registration} belongs to study=NAME, not to data=FILE")
    table = read(path, meaning)
    frame = table.rows
    keys["study"] = keys.get("study") or path.stem
    if tuple(keys.get("metrics", METRICS)) == METRICS:
        keys["metrics"] = [str(name) for name in frame.columns if "/" in str(name)]
    chosen = options(keys)
    if meaning.rounds:
        report = _of_declared_rounds(build(frame, chosen))
    else:
        report = build_independent(frame, chosen, meaning.aggregate or "")
    medians = savings.cell_medians(frame)
    sections = Sections()
    ranges = tuple(
        saved
        for result in report.metrics
        for saved in sections.make(
            "savings over models",
            partial(savings.ranges, medians, result.metric, chosen.families),
            lambda failure: (),
            metric=result.metric.name,
        )
    )
    checked = tuple(
        each
        for claim in meaning.claims
        for each in sections.make(
            f"claim {claim.text!r}",
            partial(_checked, claim, medians, report),
            lambda failure: (),
        )
    )
    attributed = _attributed(report, path.name, table, meaning.source, ranges, checked)
    attributed = sections.make(
        "carbon and money", lambda: with_footprint(attributed), lambda failure: attributed
    )
    attributed = with_failures(attributed, sections.failures)
    return ExternalReport(report=attributed, ranges=ranges, checked=checked, guessed=table.guessed)


def _checked(
    claim: claims.Claim, medians: pd.DataFrame, report: Report
) -> tuple[claims.CheckedClaim, ...]:
    return (claims.check(claim, medians, report),)


def _of_declared_rounds(report: Report) -> Report:
    """The methods without what only holds for our own trials."""
    design = "The unit of analysis is a repetition of a cell; its authors call them rounds."
    return dataclasses.replace(report, methods=(design, *report.methods[1:]))


def _attributed(
    report: Report,
    file: str,
    table: Table,
    source: str,
    ranges: tuple[savings.SavingsRange, ...],
    checked: tuple[claims.CheckedClaim, ...],
) -> Report:
    """Say first whose data it is, then what follows from it."""
    origin = (
        f"Data from {file} ({table.dialect}), not measured by slm_energy; what energy means in it"
        " is as declared by its authors." + (f" {source.rstrip('.')}." if source else "")
    )
    first = report.deciding[0].metric
    saved = tuple(saved.sentence() for saved in ranges if saved.metric == first)
    return dataclasses.replace(
        report,
        origin=f"data from {file}",
        methods=(origin, *report.methods),
        findings=(*saved, *report.findings),
        notes=(
            *filter(None, (origin, table.guessed)),
            *report.notes,
            *(claim.sentence() for claim in checked),
        ),
    )
