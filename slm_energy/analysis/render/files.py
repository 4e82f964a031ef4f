"""Every file of a report, by name: what is stored on a sweep's run and written to a folder.

report.html         the page
report.md           the same in short
comparisons.json    the whole result, unrounded, in SI units
trials.parquet      one row per trial: factors, outcome, metrics
tables/             LaTeX: METRIC-cells.tex, METRIC-pairs.tex
figures/            of the metric that decides, family by family: ratios (SVG) and the critical
                    difference diagram (SVG and TikZ); with several models, METRIC-models.svg
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence

import pandas as pd

from slm_energy.analysis.render import critical_difference, figures, interaction, latex
from slm_energy.analysis.render.generated import Generated
from slm_energy.analysis.render.html import to_html
from slm_energy.analysis.render.markdown import to_markdown
from slm_energy.analysis.render.tables import Grid
from slm_energy.analysis.result.report import MetricResult, Report
from slm_energy.analysis.text.population import shown
from slm_energy.svg import standalone

JSON = "comparisons.json"


def files(
    report: Report, generated: Sequence[Generated] = (), more: Sequence[Grid] = ()
) -> dict[str, bytes]:
    """Make them all.

    Args:
        report: what they show.
        generated: what cells generated, for the page.
        more: tables for the page, below its findings.

    Returns:
        Name, with its folder, to content.
    """
    texts = {
        "report.html": to_html(report, generated, more),
        "report.md": to_markdown(report),
        JSON: report.to_json(),
    }
    for result in report.metrics:
        stem = f"tables/{_slug(result.metric.name)}"
        texts[f"{stem}-cells.tex"] = latex.descriptive(report, result)
        if pairs := latex.pairs(report, result):
            texts[f"{stem}-pairs.tex"] = pairs
    for result in report.deciding:
        texts.update(_figures(report, result))
        over = () if result.population is None else shown(result.population)
        if over:
            svg = interaction.to_svg(report, result.metric, over)
            texts[f"figures/{_slug(result.metric.name)}-models.svg"] = standalone(svg)
    encoded = {name: text.encode() for name, text in texts.items()}
    return encoded | {"trials.parquet": _trials(report)}


def _figures(report: Report, result: MetricResult) -> Iterator[tuple[str, str]]:
    for position, family in enumerate(result.families, start=1):
        if len(family.ranked) < 2:
            continue
        # Numbered, because two names may differ only in what a file name cannot have.
        name = f"{position}-{_slug(family.name)}" if family.name else ""
        stem = "-".join(filter(None, (f"figures/{_slug(result.metric.name)}", name)))
        yield f"{stem}-ratios.svg", standalone(figures.forest(report, result.metric, family))
        ranking = critical_difference.ranking(result, family, report.options.alpha)
        if ranking is not None:
            title = result.metric.heading
            svg = critical_difference.to_svg(ranking, report.labels, title)
            yield f"{stem}-ranks.svg", standalone(svg)
            yield f"{stem}-ranks.tex", critical_difference.to_tikz(ranking, report.labels, title)


def _slug(name: str) -> str:
    """A name as a part of a file name."""
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")


def _trials(report: Report) -> bytes:
    cells = {cell.id: cell for cell in report.cells}
    rows = []
    for trial in report.trials:
        cell = cells[trial.cell]
        row = {
            "run_id": trial.run_id,
            "cell": trial.cell,
            "label": cell.label,
            "round": trial.round,
            "order": trial.order,
            "attempt": trial.attempt,
            "outcome": trial.outcome,
            "reason": trial.reason,
        }
        rows.append(row | cell.levels | trial.values)
    buffer = io.BytesIO()
    pd.DataFrame(rows).to_parquet(buffer, index=False)
    return buffer.getvalue()
