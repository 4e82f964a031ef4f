"""The short tables of a report, for the terminal and for Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from slm_energy.analysis.render import footprint_tables, solved_tables, supporting_tables
from slm_energy.analysis.render.against import against
from slm_energy.analysis.render.tables import MARGINAL, Grid, audit, figure, ratio, registration
from slm_energy.analysis.result.comparison import Family, Pair
from slm_energy.analysis.result.design import Cell
from slm_energy.analysis.result.diagnostics import Descriptive
from slm_energy.analysis.result.failure import Failure
from slm_energy.analysis.result.metric import DEVICES, Metric
from slm_energy.analysis.result.report import MetricResult, Report
from slm_energy.analysis.sections import Sections, of_family
from slm_energy.analysis.text import phrases, recommendation


def grids(report: Report, makes: Sections | None = None) -> list[Grid]:
    """All tables in reading order.

    Args:
        report: what they show.
        makes: makes them one by one, and keeps what failed; such a table states the reason.
    """
    makes = makes or Sections()
    lead = report.deciding
    rest = report.metrics[len(lead) :]
    made = [
        makes.make(name, grid, _left_out)
        for name, grid in (
            ("table of trials that are not valid", partial(audit, report)),
            ("table of machines", partial(across, report)),
            ("table of the cheapest", partial(choices, report)),
            ("table of cells", partial(cells, report)),
            *(
                ("table of solved tasks", partial(solved_tables.cells, report, s))
                for s in report.solved
            ),
            *(
                (
                    f"table of solved tasks by pair{of_family(f.name)}",
                    partial(solved_tables.short_pairs, report, s, f),
                )
                for s in report.solved
                for f in s.families
            ),
            *(
                (f"table of pairs{of_family(family.name)}", partial(pairs, report, main, family))
                for main in lead
                for family in main.families
                if len(main.families) <= recommendation.MOST_FAMILIES  # the page has every pair
            ),
            ("table of other metrics", partial(others, report, rest)),
            ("table of factor effects", partial(effects, report)),
            *(("table of models in general", partial(over_models, report, main)) for main in lead),
            ("table of the registration", partial(registration, report)),
            *(("table of carbon and money", grid) for grid in footprint_tables.grids(report)),
        )
    ]
    return [grid for grid in made if grid.rows]


def _left_out(failure: Failure) -> Grid:
    return Grid(title=failure.part, head=("Left out after an error",), rows=((failure.reason,),))


def across(report: Report) -> Grid:
    """The best cells of two machines, and what ran on both."""
    quantities = list(dict.fromkeys(found.metric.quantity for found in report.across))
    heads = {found.metric.quantity: found.metric.heading for found in report.across}
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for found in report.across:
        for pair in found.pairs:
            size = ratio(pair.ratio, pair.joint_wide_low, pair.joint_wide_high)
            row = rows.setdefault((report.labels[pair.a], report.labels[pair.b]), {})
            row[found.metric.quantity] = f"{size} {phrases.verdict(pair)}"
    return Grid(
        title="Machines against each other: the best of each, then what ran on both; simultaneous "
        f"{phrases.confidence(report)} intervals, those of energy with the gain of the sensors",
        head=("Cell", "Against", *(heads[name] for name in quantities)),
        rows=tuple(
            (*names, *(row.get(q, "no ratio") for q in quantities)) for names, row in rows.items()
        ),
    )


def choices(report: Report) -> Grid:
    """The cheapest cell of each of many families against the next best."""
    made = recommendation.choices(report)
    rows = []
    for each in made if len(made) > recommendation.MOST_FAMILIES else ():
        best, *others = each.eligible or (None,)
        if best is None or best.cost is None:
            continue
        cost = figure(each.metric, best.cost)
        against = "not compared"
        if others and others[0].ratio is not None:
            name = report.short_label(others[0].cell)
            against = f"{phrases.compared(others[0].ratio, name)}: {others[0].stated}"
        rows.append((each.family, report.short_label(best.cell), cost, against))
    unit = f", {made[0].metric.unit}" if made else ""
    of = "Model" if report.options.families == ("model",) else "Family"
    return Grid(
        title="The cheapest of each, compared with the next best",
        head=(of, "Cheapest", f"Cost{unit}", "Compared"),
        rows=tuple(rows),
    )


def cells(report: Report) -> Grid:
    """What each cell costs; the best of each family in bold."""
    lead = [result.metric for result in report.deciding]
    columns = [result.metric for result in report.metrics]
    by_cell = [{row.cell: row for row in result.descriptive} for result in report.metrics]
    compared = any(cell.agreement is not None for cell in report.cells)
    fixed = ("Cell", "Valid", *(["Agrees\n%"] if compared else []))
    head = (*fixed, *(f"{short_name(metric)}\n{metric.unit}".strip() for metric in columns))
    rows = []
    for cell in report.cells:
        texts = [
            mean(metric, table.get(cell.id), interval=metric in lead)
            for metric, table in zip(columns, by_cell, strict=True)
        ]
        if compared:
            texts.insert(0, phrases.share(cell.agreement))
        valued = sum(of[cell.id].trials for of in by_cell[: len(lead)] if cell.id in of)
        rows.append((cell.label, _valid(cell, valued), *texts))
    rows_of = {cell.id: i for i, cell in enumerate(report.cells)}
    bold = {
        (rows_of[family.ranked[0]], column)
        for column, result in enumerate(report.metrics, start=len(fixed))
        for family in result.families
        if len(family.ranked) > 1
    }
    heading = f"Per cell: geometric means, {phrases.confidence(report)} interval in brackets"
    heading += next(filter(None, (phrases.titled(report, metric) for metric in columns)), "")
    return Grid(title=heading, head=head, rows=tuple(rows), bold=frozenset(bold))


def _valid(cell: Cell, valued: int) -> str:
    """How many trials count; `valued` of the valid ones have a value of the metric that decides."""
    if not cell.rounds:
        return "-"
    if valued < cell.valid:
        return f"{valued} of {cell.rounds} have a value"
    return f"{cell.valid}/{cell.rounds}"


def short_name(metric: Metric) -> str:
    """What the head of a narrow column calls a metric."""
    name = _SHORT.get(metric.quantity, metric.title)
    name = name if name[:2].isupper() else name[:1].upper() + name[1:]
    if metric.name.startswith(DEVICES):
        name = f"Device\n{name.removeprefix('Device ').lower()}"
    return f"{name}\nestimated" if metric.estimated else name


_SHORT = {
    "energy/per_output_token_j": "energy",
    "latency/e2e_p50_s": "E2E\np50",
    "latency/ttft_p50_s": "TTFT\np50",
    "latency/itl_p50_s": "ITL\np50",
    "throughput/output_tokens_per_s": "output",
    "memory/process_peak_mb": "peak\nmemory",
}


def mean(metric: Metric, row: Descriptive | None, *, interval: bool) -> str:
    """A cell's mean, with its interval in brackets where one is wanted and known."""
    if row is None:
        return "-"
    text = figure(metric, row.mean)
    if interval and row.low is not None and row.high is not None:
        text += f" ({phrases.between(metric, row.low, row.high)})"
    return text


def pairs(report: Report, result: MetricResult, family: Family) -> Grid:
    """The pairwise table of one family: every cell against the reference."""
    metric = result.metric
    rows = []
    for pair in family.headline:
        size = ratio(pair.ratio, pair.joint_low, pair.joint_high)
        name, change = _name(report, pair, family), phrases.change(pair)
        p, won = phrases.pair_p(family, pair), phrases.won(pair)
        rows.append((name, size, change, p, won, phrases.verdict(pair)))
    suffix, first = _against(report, family)
    return Grid(
        title=f"{metric.heading}, {phrases.simultaneous(report, family)} intervals{suffix}"
        + phrases.titled(report, metric),
        head=(first, "Ratio", "Difference", "p", "Won", "Verdict"),
        rows=tuple(rows),
    ).without_empty()


def others(report: Report, rest: Sequence[MetricResult]) -> Grid:
    """The other metrics on the pairs of the one that decides: ratio and verdict."""
    tables = [
        {frozenset((pair.a, pair.b)): pair for family in result.families for pair in family.pairs}
        for result in rest
    ]
    families = [f for result in report.deciding for f in result.families if f.headline]
    if len(families) > recommendation.MOST_FAMILIES:
        rest = ()
    only = families[0] if len(families) == 1 else None
    rows = []
    for pair in (pair for family in families for pair in family.headline if rest):
        texts = []
        for result, table in zip(rest, tables, strict=True):
            found = table.get(frozenset((pair.a, pair.b)))
            row = None if found is None else against(result.metric, found, pair.b)
            texts.append(
                "-"
                if row is None or row.ratio is None
                else f"{phrases.number(row.ratio)} {row.stated}"
            )
        rows.append((_name(report, pair, only), *texts))
    suffix, first = ("", "Pair") if only is None else _against(report, only)
    return Grid(
        title=f"Other metrics, ratio and verdict{suffix}",
        head=(first, *(result.metric.heading for result in rest)),
        rows=tuple(rows),
    )


def _against(report: Report, family: Family) -> tuple[str, str]:
    """What goes in the title and the first heading of a table of one family's pairs."""
    reference = report.labels[family.reference]
    if family.named:
        return f": against {reference}", "Cell"
    return f": {reference} against", "Against"


def _name(report: Report, pair: Pair, family: Family | None) -> str:
    """What the first column calls a pair: in a table of one family, the cell that changes."""
    a, b = report.labels[pair.a], report.labels[pair.b]
    if family is None:
        return f"{a} against {b}"
    return a if family.named else b


def effects(report: Report) -> Grid:
    """The factors' effects on the metric that decides, where there are several factors."""
    rows = []
    for result in report.deciding:
        for effect in result.effects.effects:
            if effect.term == "round" or len(report.factors) < 2:
                continue
            shown = (f"{level.level} {phrases.number(level.ratio)}" for level in effect.levels)
            levels = ", ".join(shown)
            size = f"{effect.partial_eta_squared:.2f}"
            rows.append((effect.term, phrases.p_value(effect.p), size, levels or "-"))
    return Grid(
        title="Factor effects on these cells: linear model of the log metric with rounds; ratios to"
        " the mean",
        head=("Term", "p", "Partial eta squared", "Levels"),
        rows=tuple(rows),
    )


def over_models(report: Report, result: MetricResult) -> Grid:
    """Configurations over models in general, in short."""
    grid = supporting_tables.over_models(report, result)
    return grid.without(MARGINAL, "Model by model")
