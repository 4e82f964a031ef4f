"""Every file of a report, by name: what is stored on a sweep's run and written to a folder.

report.html         the page
report.md           the same in short
comparisons.json    the whole result, unrounded, in SI units; of more than 2,000 trials without what
                    trials.parquet has
trials.parquet      one row per trial: factors, outcome, metrics
tables/             LaTeX: METRIC-cells.tex, METRIC-pairs.tex; with scores solved-cells.tex and
                    solved-pairs-1.tex, ... (solved-estimated-... for estimated energy)
solved-cells.csv    with scores: tasks solved, pass rate and joules per solved task, unrounded
solved-pairs.csv    the same pair by pair
footprint.csv       with carbon.location or price_per_kwh: kWh, gCO2e and money, unrounded; as LaTeX
                    tables/footprint-1.tex, ...
figures/            METRIC-trials of each metric; of the one that decides, family by family, ratios
                    and ranks (the critical difference diagram, also as TikZ), and METRIC-models
                    over several models; trade-off-N, energy-N; answer, what opens the page.
                    SVG; `with_slides` adds PNG and PDF of those that fit a page
boamps/             of a stored study, with carbon.location: CELL.json (`analysis.boamps`)
errors.log          only if a section was left out after an error: the tracebacks
"""

from __future__ import annotations

import dataclasses
import io
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Literal

import pandas as pd

from slm_energy.analysis.render import (
    critical_difference,
    figures,
    footprint_tables,
    for_mlflow,
    interaction,
    latex,
    solved_data,
    solved_tables,
)
from slm_energy.analysis.render.energy_breakdown import breakdowns
from slm_energy.analysis.render.generated import Generated
from slm_energy.analysis.render.html import to_html
from slm_energy.analysis.render.markdown import to_markdown
from slm_energy.analysis.render.slides import slides
from slm_energy.analysis.render.tables import Grid
from slm_energy.analysis.result.comparison import Family
from slm_energy.analysis.result.failure import Failure
from slm_energy.analysis.result.population import Population
from slm_energy.analysis.result.report import MetricResult, Report
from slm_energy.analysis.sections import Sections
from slm_energy.analysis.text.population import shown
from slm_energy.svg import standalone

JSON, LOG = "comparisons.json", "errors.log"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RenderedFiles:
    """The files of a report.

    Attributes:
        contents: name, with its folder, to content.
        failures: sections that errors kept out: of the analysis, of the page, whole files.
    """

    contents: dict[str, bytes]
    failures: tuple[Failure, ...]


def files(
    report: Report, generated: Sequence[Generated] = (), more: Sequence[Grid] = ()
) -> RenderedFiles:
    """Make them all, one by one: one that cannot be made is left out.

    Args:
        report: what they show.
        generated: what cells generated, for the page.
        more: tables for the page, below its findings.
    """
    makes = Sections()
    made = {
        name: makes.make(name, content, lambda failure: None)
        for name, content in _makers(report, generated, more, makes)
    }
    contents = {
        name: content.encode() if isinstance(content, str) else content
        for name, content in made.items()
        if content
    }
    return _with_log(contents, (*report.failures, *makes.failures))


def with_slides(made: RenderedFiles) -> RenderedFiles:
    """The files with each figure that fits a page also as PNG and PDF."""
    makes, contents = Sections(), dict(made.contents)
    for name, content in made.contents.items():
        stem, _, form = name.rpartition(".")
        if form == "svg":
            drawn = makes.make(name, partial(slides, content.decode()), lambda failure: {})
            contents |= {f"{stem}.{form}": data for form, data in drawn.items()}
    return _with_log(contents, (*made.failures, *makes.failures))


def _with_log(contents: dict[str, bytes], failures: tuple[Failure, ...]) -> RenderedFiles:
    if failures:
        log = "\n".join(f"{f.sentence()}\n{f.traceback}" for f in failures)
        contents = contents | {LOG: log.encode()}
    return RenderedFiles(contents=contents, failures=failures)


def _makers(
    report: Report, generated: Sequence[Generated], more: Sequence[Grid], makes: Sections
) -> Iterator[tuple[str, Callable[[], str | bytes]]]:
    """Name and what makes its content; empty content is no file."""
    yield "report.html", partial(to_html, report, generated, more, makes)
    yield "report.md", partial(to_markdown, report, makes)
    yield JSON, report.to_json
    yield "trials.parquet", partial(_trials, report)
    yield from _solved(report)
    if report.footprint is not None:
        yield "footprint.csv", partial(footprint_tables.data, report)
    for number, grid in enumerate(footprint_tables.grids(report), start=1):
        yield f"tables/footprint-{number}.tex", partial(_latex, grid, f"footprint-{number}")
    for result in report.metrics:
        stem = f"tables/{_slug(result.metric.name)}"
        yield f"{stem}-cells.tex", partial(latex.descriptive, report, result)
        yield f"{stem}-pairs.tex", partial(latex.pairs, report, result)
        if result.descriptive:
            name = f"figures/{_slug(result.metric.name)}-trials.svg"
            yield name, _file(figures.strip, report, result)
    for number, front in enumerate(report.pareto, start=1):
        if len(front.points) > 1:
            yield f"figures/trade-off-{number}.svg", _file(figures.pareto, report, front)
    shares = makes.make("figures/energy", lambda: list(breakdowns(report)), lambda failure: [])
    for number, parts in enumerate(shares, start=1):
        yield f"figures/energy-{number}.svg", _file(figures.breakdown, report, parts)
    if report.deciding[0].descriptive:
        yield for_mlflow.PICTURE, partial(_answer, report)
    for result in report.deciding:
        yield from _figures(report, result)
        if result.population is not None and not result.population.reason:
            stem = f"figures/{_slug(result.metric.name)}"
            yield f"{stem}-models.svg", partial(_models, report, result, result.population)


def _solved(report: Report) -> Iterator[tuple[str, Callable[[], str | bytes]]]:
    for result in report.solved:
        kind = "" if result.metric is None else result.metric.name.partition("/")[0]
        stem = "-".join(["solved", *kind.split("_")[1:]])
        cells = partial(solved_tables.cells, report, result)
        yield f"tables/{stem}-cells.tex", partial(_latex, cells, f"{stem}-cells")
        for number, family in enumerate(result.families, start=1):
            pairs = partial(solved_tables.pairs, report, result, family)
            label = f"{stem}-pairs-{number}"
            yield f"tables/{label}.tex", partial(_latex, pairs, label)
    if report.solved:
        yield "solved-cells.csv", lambda: solved_data.cells(report)
        yield "solved-pairs.csv", lambda: solved_data.pairs(report)


def _latex(grid: Callable[[], Grid], label: str) -> str:
    return latex.table(grid(), label)


def _figures(
    report: Report, result: MetricResult
) -> Iterator[tuple[str, Callable[[], str | bytes]]]:
    for position, family in enumerate(result.families, start=1):
        if len(family.ranked) < 2:
            continue
        # Numbered, because two names may differ only in what a file name cannot have.
        name = f"{position}-{_slug(family.name)}" if family.name else ""
        stem = "-".join(filter(None, (f"figures/{_slug(result.metric.name)}", name)))
        if family.pairs:
            yield f"{stem}-ratios.svg", _file(figures.forest, report, result.metric, family)
        yield f"{stem}-ranks.svg", partial(_ranks, report, result, family, "svg")
        yield f"{stem}-ranks.tex", partial(_ranks, report, result, family, "tikz")


def _answer(report: Report) -> str:
    result = report.deciding[0]
    drawn = figures.strip(report, result, figures.best_of_many(result))
    return standalone(drawn, width=for_mlflow.PICTURE_PX)


def _file(draw: Callable[..., str], *what: object) -> Callable[[], str]:
    return lambda: standalone(draw(*what))


def _ranks(
    report: Report, result: MetricResult, family: Family, form: Literal["svg", "tikz"]
) -> str:
    ranking = critical_difference.ranking(result, family, report.options.alpha)
    if ranking is None:
        return ""
    title = result.metric.heading
    if form == "tikz":
        return critical_difference.to_tikz(ranking, report.labels, title)
    return standalone(critical_difference.to_svg(ranking, report.labels, title))


def _models(report: Report, result: MetricResult, seen: Population) -> str:
    pairs = shown(seen)
    return standalone(interaction.to_svg(report, result.metric, pairs)) if pairs else ""


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
