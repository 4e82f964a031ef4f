"""A comparison of repetitions that are no rounds: nobody ran every cell once, in a random order.

Each cell's repetitions are a sample of their own, so pairs are judged as one cell of two studies is
(`welch`): Welch's t interval on the log ratio, his t test and TOST, adjusted with Holm within the
family. The conventional chain stands beside it, without what needs blocks.

What it does not know: whether the repetitions are independent. With one figure per cell there is no
spread, so there is a ratio and nothing else.
"""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
from scipy import stats

from slm_energy.analysis.result.metric import Metric
from slm_energy.analysis.result.report import (
    Changed,
    Effects,
    Family,
    LeftOut,
    MetricResult,
    Pair,
    Report,
)
from slm_energy.analysis.result.verdict import Verdict, mirrored
from slm_energy.analysis.stats import conventional, factorial_anova, welch
from slm_energy.analysis.stats.effect_size import Floats, cliffs_delta, cliffs_interval
from slm_energy.analysis.stats.paired import Block, Comparison, Rule, ranking, savings

SINGLE = "values that do not vary, such as one per cell, leave nothing to test"
_NO_ROUNDS = "the repetitions are not rounds, so no cell's repetition belongs to another cell's"
_NEED_ROUNDS = "max-T test, paired t intervals, rounds won, Friedman, Conover, drift, power"
_NEED_SPREAD = (
    "t intervals, Welch's t test, max-T test, Games-Howell, equivalence tests, Cliff's delta, A12, "
    "Shapiro-Wilk, Levene, Kruskal-Wallis, Dunn, Friedman, Conover, factor effects, power"
)


def compare(block: Block, metric: Metric, rule: Rule, reference: str | None = None) -> Comparison:
    """Compare all cells of a block with each other; the counterpart of `compare.compare`.

    Args:
        block: the values of one family; which of a cell's values stands in which row says nothing.
        metric: what they are.
        rule: its alpha and margin.
        reference: a cell that comes last in its pairs; the others have the better one first.
    """
    block = block.of(ranking(_apart(block), rule))
    columns = (block.values[:, i] for i in range(len(block.cells)))
    samples = [values[~np.isnan(values)] for values in columns]
    places = list(itertools.combinations(range(len(samples)), 2))
    places = [(j, i) if block.cells[i] == reference else (i, j) for i, j in places]
    logs = [welch.Sample(logs=np.log(values)) for values in samples]
    # Its ratio is B / A, and its verdict is about B.
    changes = welch.judge(
        [welch.IndependentPair(metric=metric, cell="", a=logs[j], b=logs[i]) for i, j in places],
        margin=rule.margin,
        alpha=rule.alpha,
        floor=0.0,
    )
    pairs = []
    for (i, j), change in zip(places, changes, strict=True):
        pair = _pair(change, metric)
        pair = dataclasses.replace(pair, a=block.cells[i], b=block.cells[j])
        pairs.append(_with_delta(pair, samples[i], samples[j], rule.alpha))
    return Comparison(
        ranked=block.cells,
        complete_rounds=0,
        draws=0,
        exact=False,
        reason="" if not places or any(pair.p is not None for pair in pairs) else SINGLE,
        pairs=tuple(pairs),
    )


def _apart(block: Block) -> Block:
    """The same values with no two cells in one row, so that nothing takes a row for a round."""
    rows, columns = np.nonzero(~np.isnan(block.values))
    values = np.full((len(rows), len(block.cells)), np.nan)
    values[np.arange(len(rows)), columns] = block.values[rows, columns]
    return Block(cells=block.cells, values=values)


def _pair(change: welch.CellChange, metric: Metric) -> Pair:
    """The same as a pair of one family; no rounds are shared."""
    verdict: Verdict = "inconclusive"
    if change.verdict == "equivalent":
        verdict = "equivalent"
    elif change.verdict == "regression":
        verdict = "worse"
    elif change.verdict == "improvement":
        verdict = "gains" if metric.higher_is_better else "saves"
    return Pair(
        a="",
        b="",
        rounds=0,
        won=0,
        tied=0,
        ratio=change.ratio,
        low=change.low,
        high=change.high,
        difference=change.b - change.a,
        p=change.p,
        p_equivalent=change.p_equivalent,
        verdict=verdict,
        reason=SINGLE if change.low is None else change.reason,
    )


def _with_delta(pair: Pair, x: Floats, y: Floats, alpha: float) -> Pair:
    """Add Cliff's delta and A12, which one value on a side cannot give."""
    ends = cliffs_interval(x, y, alpha)
    if ends is None:
        return pair
    delta = cliffs_delta(x, y)
    return dataclasses.replace(
        pair,
        delta=delta,
        delta_low=ends[0],
        delta_high=ends[1],
        a12=(delta + 1) / 2,
        a12_low=(ends[0] + 1) / 2,
        a12_high=(ends[1] + 1) / 2,
    )


def without_rounds(report: Report) -> Report:
    """Take out of a report what rests on rounds, and put in what does not.

    Its paragraphs are left empty: they spoke of rounds.

    Args:
        report: as `report.build` gives it when each cell's repetitions are numbered from 1.
    """
    left_out = [out for out in report.left_out if out.scope not in ("test", "factor")]
    metrics = tuple(_metric(report, result, left_out) for result in report.metrics)
    single = not any(row.trials > 1 for result in metrics for row in result.descriptive)
    why = SINGLE if single else _NO_ROUNDS
    refused = LeftOut(scope="test", name=_NEED_SPREAD if single else _NEED_ROUNDS, reason=why)
    slots = tuple(slot for slot in report.audit.slots if slot.outcome != "missing")
    return dataclasses.replace(
        report,
        cells=tuple(dataclasses.replace(cell, rounds=cell.valid) for cell in report.cells),
        audit=dataclasses.replace(
            report.audit, rounds=(), complete_rounds=(), slots=slots, outcomes={"valid": len(slots)}
        ),
        left_out=tuple(dict.fromkeys([refused, *left_out])),
        metrics=metrics,
        methods=(),
        findings=(),
        notes=(),
    )


def _metric(report: Report, result: MetricResult, left_out: list[LeftOut]) -> MetricResult:
    cells = tuple(cell for family in result.families for cell in family.ranked)
    points = result.diagnostics.points
    values = np.full((max(point.round for point in points), len(cells)), np.nan)
    kept = values.copy()
    for point in points:
        place = point.round - 1, cells.index(point.cell)
        values[place] = point.value
        kept[place] = np.nan if point.outlier else point.value
    block, usual = (Block(cells=cells, values=part) for part in (values, kept))
    rule = Rule(
        alpha=report.options.alpha,
        margin=report.options.margin,
        higher_is_better=result.metric.higher_is_better,
    )
    families = [
        _family(block.of(each.ranked), result.metric, each, rule, left_out)
        for each in result.families
    ]
    changed = [each for family in families for each in _changed(family, result.metric, usual, rule)]
    residuals = np.array([point.residual for point in points])
    freedom = len(points) - len(cells)
    spread = math.sqrt(float((residuals**2).sum()) / freedom) if freedom else 0.0
    tested = spread > 1e-12 and 3 <= len(residuals) <= 5000
    return dataclasses.replace(
        result,
        families=tuple(families),
        effects=_effects(report, block, left_out),
        diagnostics=dataclasses.replace(
            result.diagnostics,
            drifts=(),
            residual_sd_pct=100 * math.expm1(spread) if freedom else None,
            residual_shapiro_p=float(stats.shapiro(residuals).pvalue) if tested else None,
            changed=tuple(changed),
        ),
    )


def _family(
    block: Block, metric: Metric, family: Family, rule: Rule, left_out: list[LeftOut]
) -> Family:
    named = family.reference if family.named else None
    comparison = compare(block, metric, rule, named)
    chain = None
    if len(block.cells) > 1:
        where = f" ({family.name})" if family.name else ""
        chain, missing = conventional.chain(_apart(block), comparison.pairs, rule.alpha, where)
        # Why Friedman and Conover are missing is said once, for all families.
        left_out += [out for out in missing if chain is not None and "Friedman" not in out.name]
    return dataclasses.replace(
        family,
        ranked=comparison.ranked,
        reference=comparison.ranked[0] if named is None else named,
        complete_rounds=0,
        draws=0,
        exact=False,
        reason=comparison.reason,
        pairs=comparison.pairs,
        savings=savings(comparison, rule),
        conventional=chain,
        disagreements=(),
        power=None,
    )


def _changed(family: Family, metric: Metric, usual: Block, rule: Rule) -> list[Changed]:
    """Verdicts that would be others without flagged values."""
    named = family.reference if family.named else None
    again = compare(usual.of(family.ranked), metric, rule, named)
    without = {(pair.a, pair.b): pair.verdict for pair in again.pairs} | {
        (pair.b, pair.a): mirrored(pair.verdict, rule.higher_is_better) for pair in again.pairs
    }
    return [
        Changed(a=pair.a, b=pair.b, verdict=pair.verdict, without=without[pair.a, pair.b])
        for pair in family.pairs
        if without.get((pair.a, pair.b), pair.verdict) != pair.verdict
    ]


def _effects(report: Report, block: Block, left_out: list[LeftOut]) -> Effects:
    """The linear model without rounds: every value is a column of one row."""
    rows, columns = np.nonzero(~np.isnan(block.values))
    levels = {cell.id: cell.levels for cell in report.cells}
    one_row = Block(
        cells=tuple(block.cells[i] for i in columns), values=block.values[rows, columns][None, :]
    )
    used = [levels[cell] for cell in one_row.cells]
    single = len(used) == len(set(one_row.cells))
    found, confounded = factorial_anova.effects(one_row, used, report.factors, report.options.alpha)
    if single:
        return dataclasses.replace(
            found, formula="", df_residual=0, r_squared=None, residual_sd_pct=None, effects=(),
            reason=SINGLE,
        )  # fmt: skip
    left_out += confounded
    return found
