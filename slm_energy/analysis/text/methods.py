"""What was done, in the paragraphs that a paper's method section needs."""

from __future__ import annotations

from slm_energy.analysis.result.design import Audit
from slm_energy.analysis.result.report import Report
from slm_energy.analysis.text.phrases import confidence, times
from slm_energy.config.options import AnalysisOptions


def methods(report: Report) -> tuple[str, ...]:
    """The methods of a report, as paragraphs."""
    options, counts = report.options, report.audit.outcomes
    total, valid = sum(counts.values()), counts.get("valid", 0)
    rest = [f"{n} {name}" for name, n in counts.items() if name != "valid"]
    design = (
        f"The unit of analysis is the trial: one cell in one fresh process. "
        f"{times(len(report.cells), 'cell')} ran in {times(len(report.audit.rounds), 'round')}"
        f"{_blocks(report.audit)} on {report.machine}; {valid} of {total} trials are "
        f"valid{' (' + ', '.join(rest) + ')' if rest else ''}, and "
        f"{times(len(report.audit.complete_rounds), 'round')} complete."
    )
    lead = report.deciding
    kinds = [
        "Energy was measured by hardware counters or power sensors"
        f"{f', and is that of: {report.scope}' if report.scope else ''}."
        for result in lead
        if result.metric.is_energy and not result.metric.estimated
    ] + [
        "Energy is the estimate of a model of the machine (CodeCarbon), not a measurement; "
        "estimated cells are never compared with measured ones."
        for result in lead
        if result.metric.estimated
    ]
    return (
        " ".join([design, *_course(report), *kinds]),
        *_agreement(report),
        _comparison(report),
        multiplicity(report),
        *_without_rounds(report),
        *_conventional(report),
        _rest(options),
    )


def _blocks(audit: Audit) -> str:
    """What kind of blocks the rounds are, as far as the trials show it."""
    if audit.varied_order and audit.late == 0 and audit.complete_rounds == audit.rounds:
        return ", each a randomised complete block,"
    parts = []
    if audit.varied_order is not None:
        order = "an order that differs between" if audit.varied_order else "the same order in all"
        parts.append(f"cells in {order} rounds")
    if audit.late:
        parts.append(f"{times(audit.late, 'trial')} began when a later round had begun")
    return f" ({'; '.join(parts)})" if parts else ""


def _course(report: Report) -> list[str]:
    """What was fixed in advance besides the rounds."""
    sentences = []
    if report.stopped:
        sentences.append(
            "The number of rounds was decided by a rule that depends on the widths of intervals, "
            f"not on differences (study.precision_pct): {report.stopped}."
        )
    if any(result.sentinel is not None for result in report.metrics):
        sentences.append(
            "At the start of each round one cell ran an additional time, as a sentinel that shows "
            "drift and is not compared with any cell."
        )
    return sentences


def _agreement(report: Report) -> tuple[str, ...]:
    if all(cell.agreement is None for cell in report.cells):
        return ()
    return (
        "What each cell generated was compared with what a reference engine generated beforehand "
        "for the same prompts, one at a time, in the cell's data type (float32 for int8) and on "
        "its provider where the reference engine has it. Agreement is the share of prompts whose "
        "tokens are all equal.",
    )


def _comparison(report: Report) -> str:
    options = report.options
    sizes = {len(f.ranked) for result in report.deciding for f in result.families}
    how = []
    if any(size > 2 for size in sizes):
        how.append(
            "p-values and intervals hold simultaneously for all pairs of a family: they are those "
            "of a max-T test, of the largest moderated t over all pairs (each cell's variance "
            "shrunk towards the common one, Smyth 2004), whose distribution was drawn "
            f"{options.draws:,} times from noise of each cell's variance; the test against the "
            "margin takes the levels of cells for which it errs most"
        )
    if 2 in sizes:
        how.append(
            "with two cells the interval is a t interval, which decides, and p is that of the "
            "paired permutation test"
        )
    split = ""
    if any(family.name for result in report.metrics for family in result.families):
        load = ("load",) if report.under_load is not None else ()
        split = f" within the same {' and '.join([*options.families, *load])}"
    return (
        f"Cells are compared{split} by the ratio of geometric means over the rounds valid for both,"
        f" with {confidence(report)} intervals on the log ratio"
        f"{'; ' + '; '.join(how) if how else ''}. The margin is "
        f"{100 * options.margin:g} %, and a smaller difference is taken not to matter: "
        f"{rule(options)}. Where the "
        "instruments' own intervals could explain a difference, it is called below the "
        "instrument's resolution. These intervals cover sampling and the latency of the sensors; "
        "the gain of a sensor cancels in a ratio of two cells on one machine. Where it is known, "
        "the interval with sensor gain covers it: that is the one for absolute figures, and for "
        "comparisons between machines."
    )


def rule(options: AnalysisOptions) -> str:
    """The verdicts, in half a sentence."""
    return (
        "a cell saves when the whole interval lies beyond this margin; two cells are equivalent "
        f"when the interval of confidence {100 * (1 - 2 * options.alpha):g} % lies within it (two "
        "one-sided tests)"
    )


def multiplicity(report: Report) -> str:
    """How many comparisons and pairs were tested, and what has the error rate."""
    options, compared = report.options, report.compared
    pairs = sum(len(family.pairs) for family in compared)
    metrics = sum(any(f in compared for f in result.families) for result in report.metrics)
    ran = (
        f"{times(len(compared), 'comparison')} (families of cells on {times(metrics, 'metric')}) "
        f"with {times(pairs, 'pair')} in all"
    )
    if len(compared) < 2:
        return f"Tested: {ran}, with the error rate {options.alpha:g}."
    if options.adjust == "study":
        return (
            f"Tested: {ran}. They share the error rate {options.alpha:g} in equal parts "
            "(Bonferroni), so that it holds for all verdicts of the study together."
        )
    return (
        f"Tested: {ran}. The error rate {options.alpha:g} holds for each comparison, not for all "
        "of them together; adjust=study gives one rate for all."
    )


def _without_rounds(report: Report) -> tuple[str, ...]:
    families = [family for result in report.deciding for family in result.families]
    if all(family.rests_on is None for family in families):
        return ()
    return (
        "Each verdict that is stated was examined again without each round in turn, with the same "
        "test on the other rounds.",
    )


def _conventional(report: Report) -> tuple[str, ...]:
    if not any(f.conventional for result in report.metrics for f in result.families):
        return ()
    return (
        "For comparison with earlier work, the conventional tests were run on the same trials: "
        "Shapiro-Wilk, Levene (about the median), Kruskal-Wallis with epsilon squared, "
        "Dunn with Holm, Games-Howell, Friedman and Conover with Holm, Cliff's delta and "
        "Vargha-Delaney's A12 (intervals: Feng and Cliff 2004; Newcombe 2006, method 5, where all "
        "trials of one cell exceed all of the other).",
    )


def _rest(options: AnalysisOptions) -> str:
    return (
        "Trials are flagged, and kept, whose residual from a median polish of rounds and cells is "
        "larger, in spreads of their cell, than the largest of a study without outliers is in "
        f"{100 * options.alpha:g} % of draws. Drift is tested on one value per round and, within "
        "rounds, with a mean for each round. Tests of the factors give each cell a noise of its "
        "own (a Wald-type statistic against a parametric bootstrap); they are about the levels "
        f"that ran, not about others. Random draws use seed {options.seed}."
    )
