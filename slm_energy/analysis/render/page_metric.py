"""The sections of a report's page about single metrics and pairs of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from slm_energy.analysis.render import (
    critical_difference,
    figures,
    interaction,
    supporting_tables,
    tables,
)
from slm_energy.analysis.render.page_blocks import (
    EMPTY,
    Block,
    Field,
    Figure,
    Fold,
    Heading,
    Matrix,
    Part,
    Table,
    Text,
    filled,
    folded,
)
from slm_energy.analysis.render.tables import Grid
from slm_energy.analysis.result.comparison import Family, Savings
from slm_energy.analysis.result.metric import Metric
from slm_energy.analysis.result.pareto import Pareto
from slm_energy.analysis.result.report import MetricResult, Report
from slm_energy.analysis.sections import of_family
from slm_energy.analysis.text.phrases import confidence, number, percent, simultaneous, titled
from slm_energy.analysis.text.population import shown
from slm_energy.analysis.text.recommendation import MOST_FAMILIES
from slm_energy.analysis.text.solved_phrases import LIKE

_MOST_IN_MATRIX = 30


def _forest(report: Report, result: MetricResult, family: Family) -> Iterator[Block]:
    """Ratios of a family's cells to its reference."""
    wide = any(pair.wide_low is not None for pair in family.headline)
    caption = (
        f"{result.metric.heading} as a ratio to"
        f" {report.labels[family.reference]}: bar, {simultaneous(report, family)} interval;"
        f"{' thin line, with the instruments in it;' * wide}"
        f" shaded, the margin of {100 * report.options.margin:g}\u00a0%"
        f"{titled(report, result.metric)}"
    )
    for part in figures.parts(len(family.ranked) - 1):
        svg = figures.forest(report, result.metric, family, part)
        yield Figure(svg=svg, caption=caption)


def _family_heading(family: Family, metric: Metric) -> Iterator[Block]:
    if family.name:
        yield Heading(text=family.name + " (estimated)" * metric.estimated)


def failures(report: Report, metric: str) -> list[Block]:
    """What errors kept out of the analysis: of a metric, or of the whole report."""
    failed = [failure for failure in report.failures if failure.metric == metric]
    return [Text(text=failure.sentence(), style="failed") for failure in failed]


def metric(report: Report, result: MetricResult) -> Iterator[Part]:
    """The section of one metric."""
    yield Part("errors", partial(failures, report, result.metric.name))
    if result.descriptive:
        if result not in report.deciding:  # theirs open the page
            yield Part("every trial", partial(strip, report, result))
        title = "Cell by cell"
        yield Part(title, lambda: folded(tables.descriptive(report, result), title=title))
    many = len(result.families) > MOST_FAMILIES
    for family in result.families:
        if len(family.ranked) > 1:
            fold = family.name + " (estimated)" * result.metric.estimated if many else ""
            for part in _family(report, result, family):
                yield part._replace(fold=fold)
    yield Part("over models", partial(_over_models, report, result))
    if result.diagnostics.drifts:
        yield Part("drift and outliers", partial(_drift, report, result))
    for name, grids in (
        ("Diagnostics", partial(supporting_tables.diagnostics, report, result)),
        ("Effects of the factors", partial(supporting_tables.effects, result)),
        ("Conventional tests", partial(supporting_tables.conventional, report, result)),
        ("What more rounds would show", partial(supporting_tables.power, result)),
    ):
        yield Part(name, partial(_fold, name, grids))


def _fold(name: str, grids: Callable[[], Sequence[Grid]]) -> Iterator[Block]:
    if made := grids():
        yield Fold(title=name, grids=tuple(made))


def strip(report: Report, result: MetricResult) -> Iterator[Block]:
    """Every trial of every cell; of many cells, those of the best, with all of them folded."""
    cells, best = len(result.descriptive), figures.best_of_many(result)
    title = f"{result.metric.heading}, best first"
    marks = (
        f". Dots, trials (with a ring: flagged{_tips(result)}); diamond, geometric mean; bar, its"
        f" {confidence(report)} interval{_instruments(result)}; dashed, the mean of the reference"
    )
    if best is None:
        yield Figure(svg=figures.strip(report, result), caption=f"{title}{marks}")
        return
    each = " of each family" * (len(result.families) > 1)
    shown = f"{title}: {best} cells{each}, a reference among them; all {cells} are below"
    yield Figure(svg=figures.strip(report, result, best), caption=f"{shown}{marks}")
    every = tuple(
        Figure(svg=figures.strip(report, result, part=part), caption=title)
        for part in figures.parts(cells)
    )
    yield Fold(title=f"{result.metric.heading}: all {cells} cells", figures=every)


def _tips(result: MetricResult) -> str:
    """What a figure of many trials says about their dots."""
    many = len(result.diagnostics.points) > figures.MOST_TIPS
    return "; trials at the same place are one dot, trials.parquet has their values" if many else ""


def _drift(report: Report, result: MetricResult) -> Iterator[Block]:
    yield Heading(text="Drift and outliers")
    yield Figure(
        svg=figures.drift(report, result),
        caption="Each trial against the mean of its cell, in the order of the plan"
        f"{_tips(result)}{'; diamonds, the sentinel' * (result.sentinel is not None)}",
    )


def _over_models(report: Report, result: MetricResult) -> Iterator[Block]:
    """Models in general, and how much the models of the study differ."""
    seen = result.population
    pairs = () if seen is None else shown(seen)
    if pairs:
        yield Heading(text="Over models")
        caption = (
            f"Ratio on each model with its {confidence(report)} interval over rounds, and"
            f" over models like these (diamond) with the {confidence(report)} interval of all pairs"
            f" together; shaded, the margin of {100 * report.options.margin:g}\u00a0%"
            f"{titled(report, result.metric)}"
        )
        rows = sum(len(pair.models) for pair in pairs)
        made = tuple(
            Figure(svg=interaction.to_svg(report, result.metric, pairs[part]), caption=caption)
            for part in figures.parts(len(pairs), 1 + rows // len(pairs))
        )
        title = f"Each pair on each model: {rows} ratios"
        yield made[0] if len(made) == 1 else Fold(title=title, figures=made)
    yield from filled(supporting_tables.over_models(report, result))


def _instruments(result: MetricResult) -> str:
    known = any(row.instrument_low is not None for row in result.descriptive)
    return "; thin line below, the instruments' own" if known else ""


def _family(report: Report, result: MetricResult, family: Family) -> Iterator[Part]:
    where = of_family(family.name)
    if len(result.families) <= MOST_FAMILIES:  # else it is folded under its name
        yield Part(f"heading{where}", partial(_family_heading, family, result.metric))
    if family.headline and result in report.deciding:
        yield Part(f"ratios{where}", partial(_forest, report, result, family))
    if family.pairs:
        yield Part(f"pairs{where}", partial(_pairs, report, result, family))
    if len(family.ranked) > _MOST_IN_MATRIX:
        return
    if len(family.ranked) > 2 and family.savings.cells:
        name = f"savings{where}"
        yield Part(name, lambda: [_savings(report, result.metric, family.savings)])
    yield Part(f"mean ranks{where}", partial(_ranks, report, result, family))


def _pairs(report: Report, result: MetricResult, family: Family) -> Iterator[Block]:
    grid = tables.pairs(report, result.metric, family)
    decides = result in report.deciding
    yield Table(grid=grid) if decides else Fold(title="Pair by pair", grids=(grid,))


def _ranks(report: Report, result: MetricResult, family: Family) -> Iterator[Block]:
    ranking = critical_difference.ranking(result, family, report.options.alpha)
    if ranking is not None:
        yield Figure(
            svg=critical_difference.to_svg(ranking, report.labels, result.metric.heading),
            caption=f"Mean ranks over {ranking.rounds} complete rounds, 1 is best; a bar joins"
            " cells that do not differ",
        )


def _savings(report: Report, metric: Metric, savings: Savings) -> Matrix:
    rows = []
    for shares, verdicts in zip(savings.saving_pct, savings.verdicts, strict=True):
        row = []
        for share, verdict in zip(shares, verdicts, strict=True):
            if share is None:
                row.append(EMPTY)
                continue
            decided = verdict in ("saves", "gains", "worse", "equivalent")
            side = "plus" if share > 0 else "minus"
            ratio = 1 + share / 100 if metric.higher_is_better else 1 - share / 100
            style = side if decided else "open"
            text = f"{number(ratio)} x" if ratio >= 2 else f"{percent(ratio - 1)} %"
            row.append(Field(text, style, str(verdict)))
        rows.append(tuple(row))
    return Matrix(
        caption=f"{metric.heading} of the row against the column; hatched: not conclusive",
        labels=tuple(report.labels[cell] for cell in savings.cells),
        rows=tuple(rows),
    )


def trade_offs(report: Report) -> Iterator[Part]:
    """Pairs of metrics with the cells that are the best trade-offs."""
    for front in report.pareto:
        if len(front.points) > 1:
            yield Part(f"{front.y.heading} against energy", partial(_front, report, front))


def _front(report: Report, front: Pareto) -> Iterator[Block]:
    better = "upper" if front.y.higher_is_better else "lower"
    tasks = f"; of the pass rate {LIKE}" if front.y.name == "quality/pass_at_1" else ""
    yield Figure(
        svg=figures.pareto(report, front),
        caption=f"{front.y.heading} against {front.x.title}"
        f"{' (estimated)' * front.x.estimated}: best is the {better} left;"
        f" lines, {confidence(report)} intervals{tasks}. Per cent: of"
        f" {front.resamples or 'all'} resamples of the rounds, those in which the cell is on the"
        " front; how stable the front is from round to round, not the chance that the cell is truly"
        f" on it{titled(report, front.x)}",
    )
