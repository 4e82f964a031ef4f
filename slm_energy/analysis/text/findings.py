"""The sentences of a report: findings, and notes on how to read them."""

from __future__ import annotations

from slm_energy.analysis.result.comparison import Family, Pair
from slm_energy.analysis.result.metric import Metric
from slm_energy.analysis.result.report import MetricResult, Report
from slm_energy.analysis.result.verdict import COARSE
from slm_energy.analysis.stats.leave_one_out import MOST_TRIALS
from slm_energy.analysis.text.phrases import (
    changes,
    difference,
    equivalence_interval,
    interval,
    joined,
    kind,
    measured,
    measured_once,
    number,
    p_is,
    share,
    simultaneous,
    than,
    times,
    too_few_for_p,
)

_MOST_ROUNDS = 5
"""Rounds that a sentence names one by one."""

_WITHOUT = {"saves": "a saving", "gains": "a gain", "worse": "a loss"}


def findings(report: Report) -> tuple[str, ...]:
    """The verdict in sentences: per family the best cell against the next and against the last.

    With a reference that was named: the best other cell against it.
    """
    lines = []
    for result in report.deciding:
        own = [
            sentence(report, result.metric, family, pair)
            for family in result.families
            for pair in family.stated
        ]
        lines += measured_once(report, result.metric, own)
        if any(family.pairs for family in result.families):
            continue
        ranked = [cell for family in result.families for cell in family.ranked]
        if len(ranked) > 1:
            lines.append("No family has two cells to compare; families=[] compares all cells.")
        elif ranked:
            what = f"{result.metric.title}{kind(result.metric)}"
            lines.append(
                f"Only {report.labels[ranked[0]]} has {what}: there is nothing to compare."
                f"{measured(report, result.metric)}"
            )
    return tuple(lines)


def sentence(report: Report, metric: Metric, family: Family, pair: Pair) -> str:
    """One pair in words, with the rounds on which it rests and what was measured."""
    words = [_sentence(report, metric, family, pair), *_without_a_round(family, pair)]
    return " ".join(words) + measured(report, metric)


def _sentence(report: Report, metric: Metric, family: Family, pair: Pair) -> str:
    a, b = report.labels[pair.a], report.labels[pair.b]
    what = f"{metric.title}{kind(metric)}"
    if pair.ratio is None:
        return f"{a} against {b}, {what}: {pair.reason}."
    better = "cheaper" if metric.is_energy else "better"
    won = f"{better} in {pair.won} of {times(pair.rounds, 'round')}"
    seen = interval(report, family, pair)
    if not seen:
        return f"{a} against {b}, {what}: ratio {number(pair.ratio)}, no verdict: {pair.reason}."
    if pair.verdict == "equivalent":
        return (
            f"{a} and {b} are equivalent in {what}: ratio {number(pair.ratio)}, "
            f"{equivalence_interval(report, family, pair)}, within the margin of "
            f"{100 * report.options.margin:g} %."
        )
    if pair.verdict == "inconclusive" or pair.verdict == COARSE:
        more = "" if pair.more_rounds is None else (
            f"; about {times(pair.more_rounds, 'more round')} would settle it with a chance of 0.8"
        )  # fmt: skip
        return (
            f"{a} against {b}, {what}: {pair.verdict}, ratio {number(pair.ratio)}, {seen}, "
            f"{won}; {pair.reason}{more}."
        )
    assert pair.joint_low is not None
    assert pair.joint_high is not None
    span = changes(pair.joint_low, pair.joint_high)
    name = f"{simultaneous(report, family)} interval"
    return f"{a} {than(metric, pair.ratio, b)}, {name} {span}, {won}."


def _without_a_round(family: Family, pair: Pair) -> list[str]:
    """Whether the verdict rests on one round; nothing where that was not examined.

    That no round decides is said of a verdict, not of a pair without one.
    """
    if family.rests_on is None or pair.rounds < 2:
        return []
    changes: dict[str, list[int]] = {}
    for gone in family.rests_on:
        if (gone.a, gone.b) == (pair.a, pair.b):
            changes.setdefault(_WITHOUT.get(gone.verdict, gone.verdict), []).append(gone.round)
    if not changes:
        settled = pair.verdict not in ("inconclusive", COARSE)
        return ["The verdict holds without any single round."] * settled
    texts = []
    for verdict, rounds in changes.items():
        if len(rounds) == pair.rounds:
            texts.append(f"without any one of its rounds it would be {verdict}")
        elif len(rounds) > _MOST_ROUNDS:
            texts.append(f"without one of {len(rounds)} of its rounds it would be {verdict}")
        else:
            which = " or ".join(str(number) for number in rounds)
            texts.append(f"without round {which} it would be {verdict}")
    text = "; ".join(texts)
    return [text[:1].upper() + text[1:] + "."]


def notes(report: Report) -> tuple[str, ...]:
    """What a reader must know: the kind of energy, what p rests on, what was left out."""
    lines = []
    kinds = {result.metric.estimated for result in report.deciding}
    if True in kinds:
        lines.append(
            "Estimated energy comes from CodeCarbon's model of the machine, not from a measurement."
        )
    if len(kinds) == 2:
        lines.append("Measured and estimated cells are ranked separately: they cannot be compared.")
    lines += _differing_tokens(report)
    lines += [f"Left out: {out.name}: {out.reason}." for out in report.left_out]
    for result in report.deciding:
        for family in result.families:
            if len(family.ranked) > 1:
                lines += _family_notes(report, result, family)
    return tuple(lines)


def _differing_tokens(report: Report) -> list[str]:
    """Cells whose tokens differ from the reference engine's."""
    cells = [
        f"{cell.label} ({share(cell.agreement)} % of its prompts agree)"
        for cell in report.cells
        if cell.agreement is not None and cell.agreement < 1
    ]
    return (
        [f"Generated tokens differ from the reference engine's: {joined(cells)}."] if cells else []
    )


def _family_notes(report: Report, result: MetricResult, family: Family) -> list[str]:
    """What one comparison rests on, and where the conventional tests disagree."""
    cells, where = len(family.ranked), f"{family.name}: " if family.name else ""
    lines = []
    if too_few_for_p(family) and family.power is not None:
        lines.append(
            f"{where}The verdict rests on the t interval. No p is stated: of two cells, it can "
            f"reach {report.options.alpha:g} only with "
            f"{times(family.power.smallest_rounds, 'round')}."
        )
    elif family.draws:
        how = (
            f"all {family.draws:,} permutations of labels within rounds"
            if family.exact
            else f"{family.draws:,} random permutations of labels within rounds"
            if cells == 2
            else f"max-T over {times(len(family.pairs), 'pair')}, {family.draws:,} draws"
        )
        what = "p" if cells == 2 else "p and simultaneous intervals"
        lines.append(
            f"{where}{what}: {how}; {times(family.complete_rounds, 'round')} complete for these "
            "cells."
        )
    else:
        lines.append(f"{where}No p: {family.reason}.")
    plan = family.power
    if plan is not None and cells > 2 and plan.rounds < plan.smallest_rounds:
        lines.append(
            f"{where}With {cells} cells, p can reach {report.options.alpha:g} only with "
            f"{plan.smallest_rounds} rounds or more: run the sweep again to fill gaps, or "
            "raise study.rounds."
        )
    if plan is not None and plan.detectable_pct is not None:
        verdict = "gains" if result.metric.higher_is_better else "saves"
        beyond = "" if plan.margin_pct is None else f", beyond the margin of {plan.margin_pct:g} %"
        lines.append(
            f"{where}With {times(plan.rounds, 'round')}, "
            f"{difference(plan.detectable_pct)} gets a verdict ({verdict} or worse{beyond}) with a "
            "chance of 0.8."
        )
    if family.rests_on is None and cells * family.complete_rounds > MOST_TRIALS:
        lines.append(
            f"{where}With more than {MOST_TRIALS} trials, verdicts are not examined without single "
            "rounds."
        )
    return lines + _chain_notes(report, family, where)


def _chain_notes(report: Report, family: Family, where: str) -> list[str]:
    chain, alpha = family.conventional, report.options.alpha
    if chain is None:
        return []
    skewed = sum(cell.shapiro_p is not None and cell.shapiro_p < alpha for cell in chain.cells)
    differing = sum(pair.dunn_p <= alpha for pair in chain.pairs)
    lines = [
        f"{where}Conventional tests (ignoring rounds): Shapiro-Wilk rejects normality in {skewed} "
        f"of {len(chain.cells)} cells; Levene {p_is(chain.levene_p)}; Kruskal-Wallis "
        f"H = {number(chain.kruskal_h)}, {p_is(chain.kruskal_p)}, epsilon squared = "
        f"{chain.epsilon_squared:.2f}; Dunn with Holm finds a difference in {differing} of "
        f"{times(len(chain.pairs), 'pair')}."
    ]
    for why in dict.fromkeys(disagreement.why for disagreement in family.disagreements):
        first, *others = [row for row in family.disagreements if row.why == why]
        more = f" and {len(others)} more" if others else ""
        p = "" if too_few_for_p(family) else f"{p_is(first.p)}, "
        finder = "the comparison" if first.found_by == "rounds" else "Dunn"
        lines.append(
            f"{where}The comparison and Dunn disagree on {report.labels[first.a]} against "
            f"{report.labels[first.b]}{more}: {p}Dunn-Holm {p_is(first.dunn_p)}; "
            f"only {finder} finds a difference. {why}."
        )
    return lines
