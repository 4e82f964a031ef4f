"""The tables that support a verdict: diagnostics, factor effects, conventional tests, power.

Every builder leaves out tables without rows.
"""

from __future__ import annotations

from collections.abc import Iterator

from slm_energy.analysis.render.tables import MARGINAL, MOST_PAIRS, Grid, figure, ratio, unit
from slm_energy.analysis.result.comparison import Conventional
from slm_energy.analysis.result.effects import Effects
from slm_energy.analysis.result.report import MetricResult, Report
from slm_energy.analysis.text.phrases import (
    confidence,
    difference,
    number,
    p_value,
    titled,
    too_few_for_p,
)


def diagnostics(report: Report, result: MetricResult) -> list[Grid]:
    """Drift, flagged trials, and verdicts that rest on these."""
    diagnosed, metric = result.diagnostics, result.metric
    drifts = tuple(
        (
            drift.against,
            f"{drift.slope_pct:+.3g} %",
            f"{drift.low_pct:+.3g} to {drift.high_pct:+.3g} %",
            p_value(drift.p),
            p_value(drift.p_adjusted),
            str(drift.trials),
        )
        for drift in diagnosed.drifts
    )
    flagged = tuple(
        (
            report.labels[point.cell],
            str(point.round),
            figure(metric, point.value),
            "-" if point.score is None else f"{point.score:.1f}",
        )
        for point in diagnosed.points
        if point.outlier
    )
    changed = tuple(
        (f"{report.labels[c.a]} against {report.labels[c.b]}", c.verdict, c.without)
        for c in diagnosed.changed
    )
    return _filled(
        Grid(
            title="Slope of the metric per step: over rounds (one value each), and within rounds; p"
            " alone and adjusted with Holm for all of these",
            head=("Against", "Slope", "Interval", "p", "Adjusted", "Values"),
            rows=drifts,
        ),
        Grid(
            title="Flagged trials: more spreads of their cell than "
            f"{number(diagnosed.flagged_above or 0)} from what cell and round make of them, which"
            f" {100 * report.options.alpha:g} % of studies without outliers have; none is removed",
            head=("Cell", "Round", unit(metric), "Score"),
            rows=flagged,
        ),
        Grid(
            title="Verdicts that would change without flagged trials",
            head=("Pair", "Verdict", "Without"),
            rows=changed,
        ),
    )


def effects(result: MetricResult) -> list[Grid]:
    """The linear model's terms and levels."""
    model = result.effects
    terms = tuple(
        (e.term, str(e.df), p_value(e.p), number(e.f), f"{e.partial_eta_squared:.3f}")
        for e in model.effects
    )
    levels = tuple(
        (effect.term, level.level, ratio(level.ratio, level.low, level.high))
        for effect in model.effects
        for level in effect.levels
    )
    return _filled(
        Grid(
            title=f"{model.formula}; {model.trials} trials, residual degrees of freedom"
            f" {model.df_residual}; of these levels, such as these models; {_noise(model)}",
            head=("Term", "df", "p", "F, equal noise", "Partial eta squared"),
            rows=terms,
        ),
        Grid(
            title="Levels against the mean of their factor",
            head=("Factor", "Level", "Ratio"),
            rows=levels,
        ),
    )


def _noise(model: Effects) -> str:
    if all(effect.unequal_noise for effect in model.effects):
        return "p and intervals give each cell a noise of its own"
    return "p and intervals take all cells to be equally noisy"


def over_models(report: Report, result: MetricResult) -> Grid:
    """Configurations over models in general, pair by pair; without rows where nothing is said."""
    seen = result.population
    if seen is None or seen.reason:
        return Grid(title="", head=(), rows=())
    rows = tuple(
        (
            pair.a,
            pair.b,
            pair.verdict,
            ratio(pair.ratio, pair.joint_low, pair.joint_high),
            ratio(None, pair.low, pair.high),
            p_value(pair.p),
            f"{pair.won}/{len(pair.models)}",
            f"{number(min(m.ratio for m in pair.models))} to "
            f"{number(max(m.ratio for m in pair.models))}",
        )
        for pair in seen.pairs
    )
    return Grid(
        title=f"{result.metric.heading} over models like these {len(seen.models)}, model as a"
        f" random factor: {confidence(report)} intervals for all pairs together, and for each"
        f" alone{titled(report, result.metric)}",
        head=(
            "Configuration",
            "Against",
            "Verdict",
            "Ratio",
            MARGINAL,
            "p",
            "Models won",
            "Model by model",
        ),
        rows=rows,
    )


def conventional(report: Report, result: MetricResult) -> list[Grid]:
    """The field's usual tests, family by family, and where they contradict the comparison."""
    grids = []
    for family in result.families:
        chain = family.conventional
        if chain is None:
            continue
        name = f"{family.name}: " if family.name else ""
        whole = len(chain.pairs) <= MOST_PAIRS
        shown = [p for p in chain.pairs if whole or family.reference in (p.a, p.b)]
        apart = [d for d in family.disagreements if whole or family.reference in (d.a, d.b)]
        grids += [
            Grid(
                title=f"{name}Shapiro-Wilk per cell; cells that share a letter do not differ",
                head=("Cell", "n", "W", "p", "Letters"),
                rows=tuple(
                    (
                        report.labels[cell.cell],
                        str(cell.trials),
                        "-" if cell.shapiro_w is None else f"{cell.shapiro_w:.3f}",
                        p_value(cell.shapiro_p),
                        cell.letters,
                    )
                    for cell in chain.cells
                ),
            ),
            Grid(
                title=f"{name}Tests over all cells",
                head=("Test", "Statistic", "p", "Effect size"),
                rows=tuple(_omnibus(chain)),
            ),
            Grid(
                title=f"{name}Tests pair by pair, p adjusted within each test"
                + ("" if whole else f": those with {report.labels[family.reference]}"),
                head=("Pair", "Dunn-Holm", "Games-Howell", "Conover-Holm"),
                rows=tuple(
                    (
                        f"{report.labels[pair.a]} against {report.labels[pair.b]}",
                        p_value(pair.dunn_p),
                        p_value(pair.games_howell_p),
                        p_value(pair.conover_p),
                    )
                    for pair in shown
                ),
            ),
            Grid(
                title=f"{name}Where the comparison within rounds and Dunn-Holm disagree",
                head=("Pair", "Found by", "p", "Dunn-Holm", "Reason"),
                rows=tuple(
                    (
                        f"{report.labels[d.a]} against {report.labels[d.b]}",
                        "rounds" if d.found_by == "rounds" else "Dunn-Holm",
                        "-" if too_few_for_p(family) else p_value(d.p),
                        p_value(d.dunn_p),
                        d.why,
                    )
                    for d in apart
                ),
            ),
        ]
    return _filled(*grids)


def _omnibus(chain: Conventional) -> Iterator[tuple[str, ...]]:
    if chain.levene_w is not None:
        yield ("Levene, about the median", number(chain.levene_w), p_value(chain.levene_p), "-")
    size = f"epsilon squared {chain.epsilon_squared:.3f}"
    yield ("Kruskal-Wallis", number(chain.kruskal_h), p_value(chain.kruskal_p), size)
    if chain.friedman_chi2 is not None:
        size = "-" if chain.kendall_w is None else f"Kendall's W {chain.kendall_w:.3f}"
        name = f"Friedman, {chain.friedman_rounds} complete rounds"
        yield (name, number(chain.friedman_chi2), p_value(chain.friedman_p), size)


def power(result: MetricResult) -> list[Grid]:
    """The chance that a difference gets a verdict in these rounds, and rounds needed for others."""
    grids = []
    for family in result.families:
        plan = family.power
        if plan is None:
            continue
        name = f"{family.name}: " if family.name else ""
        beyond = "" if plan.margin_pct is None else f", beyond {number(plan.margin_pct)} %"
        detectable = (
            "" if plan.detectable_pct is None
            else f"; {difference(plan.detectable_pct)} gets a verdict with a"
            " chance of 0.8"
        )  # fmt: skip
        grids.append(
            Grid(
                title=f"{name}{plan.rounds} rounds, standard deviation of a ratio "
                f"{number(plan.spread_pct)} %{detectable}",
                head=(
                    "True difference",
                    f"Chance of a verdict{beyond}",
                    "Rounds for a chance of 0.8",
                ),
                rows=tuple(
                    (
                        f"{number(row.difference_pct)} %",
                        f"{row.power:.2f}",
                        "more than 1,000" if row.rounds is None else str(row.rounds),
                    )
                    for row in plan.rows
                ),
            )
        )
    return _filled(*grids)


def _filled(*grids: Grid) -> list[Grid]:
    return [grid for grid in grids if grid.rows]
