"""Items about statistics, and about what others need to check them."""

from __future__ import annotations

from slm_energy.analysis.checklist.facts import Facts, distinct
from slm_energy.analysis.checklist.item import Answer
from slm_energy.analysis.text.footprint import basis
from slm_energy.analysis.text.methods import multiplicity
from slm_energy.analysis.text.phrases import difference, joined, p_value, times

_ONE = "a second cell, and two rounds or more"


def tests(facts: Facts) -> Answer:
    """Unit, test, correction and margin."""
    report = facts.report
    if not report.compared and not any(f.pairs for r in report.metrics for f in r.families):
        return Answer("nothing is compared", _ONE)
    return Answer(
        f"the trial is the unit, rounds are blocks; margin {100 * report.options.margin:g} %, alpha"
        f" {report.options.alpha:g}. {multiplicity(report)}"
    )


def effects(facts: Facts) -> Answer:
    """Sizes with intervals, not p alone."""
    pairs = [pair for r in facts.report.deciding for f in r.families for pair in f.pairs]
    known = [pair for pair in pairs if pair.joint_low is not None]
    text = (
        f"{len(known)} of {times(len(pairs), 'pair')} with the ratio of geometric means and its"
        " simultaneous interval, Cliff's delta, A12"
    )
    return Answer(text, "" if known and len(known) == len(pairs) else _ONE)


def distribution(facts: Facts) -> Answer:
    """Normality, equal spread, outliers."""
    result = facts.report.deciding[0]
    found = result.diagnostics
    flagged = sum(point.outlier for point in found.points)
    levene = [f.conventional.levene_p for f in result.families if f.conventional]
    parts = [f"Shapiro-Wilk on residuals: p {p_value(found.residual_shapiro_p)}"]
    if known := [p for p in levene if p is not None]:
        parts.append(f"Levene: smallest p {p_value(min(known))}")
    parts.append(f"{times(flagged, 'trial')} flagged by a fixed rule, none removed")
    few = "" if found.residual_shapiro_p is not None else "three rounds or more"
    return Answer("; ".join(parts), few)


def power(facts: Facts) -> Answer:
    """The difference that these rounds can show."""
    known = [
        f.power.detectable_pct
        for result in facts.report.deciding
        for f in result.families
        if f.power is not None and f.power.detectable_pct is not None
    ]
    if not known:
        return Answer("not known", "two cells and three rounds or more")
    return Answer(f"{difference(max(known))} gets a verdict with a chance of 0.8")


def beforehand(facts: Facts) -> Answer:
    """Metrics, margin, rounds and rules declared before the first trial."""
    check = facts.report.registration
    if check is None:
        how = "slm-energy plan --register FILE before the first trial, then registration=FILE"
        return Answer("no registration was given", how)
    departures = [item.name for item in check.departures]
    text = f"registration {check.digest[:12]} of {check.registered}"
    if departures:
        return Answer(f"{text}; departs in {joined(departures)}", "justify the departures")
    return Answer(f"{text}, followed")


def frozen(facts: Facts) -> Answer:
    """Whether the study is one experiment."""
    changes = [text for record in facts.records for text in record.trial.changed]
    text = f"plan {facts.each(lambda record: record.trial.plan)}, frozen at the first trial"
    if changes:
        named = joined(list(dict.fromkeys(changes)), most=3)
        return Answer(f"{text}; later: {named}", "run it again under another study.name")
    return Answer(f"{text}; nothing changed since")


def code(facts: Facts) -> Answer:
    """The version of the measuring program, and of the folder it ran in."""
    digests = facts.each(lambda record: record.code)
    commits = distinct(plan.get("frozen", {}).get("git") for plan in facts.plans)
    versions = facts.report.provenance.versions
    text = f"slm_energy {versions['slm_energy']}, code {digests or 'unknown'}"
    text += f"; commit {commits}" if commits else "; no commit is known"
    if "+changes" in commits:
        return Answer(text, "commit the changes of the working folder before a study")
    return Answer(text, "" if digests else "run a round again: trials of this version record it")


def data(facts: Facts) -> Answer:
    """What is kept of each trial."""
    count = facts.report.audit.outcomes.get("valid", 0)
    return Answer(
        f"of each of {times(count, 'valid trial')}: every reading, answer, setting and check"
    )


def carbon(facts: Facts) -> Answer:
    """Grams with stated assumptions."""
    footprint = facts.report.footprint
    if footprint is None or footprint.factor is None:
        return Answer("not converted", "carbon.location=..., and carbon.pue in a data centre")
    return Answer(f"{basis(footprint, 'g_co2e')}; factor from {footprint.factor.source}")


def threats(facts: Facts) -> Answer:
    """What limits the conclusions."""
    report, settings = facts.report, [record.trial.cell.settings for record in facts.records]
    names = {each.model.name for each in settings}
    parts = [
        f"on {report.machine}",
        times(len(names), "model"),
        times(len({each.workload.name for each in settings}), "workload"),
    ]
    if any(each.model.weights == "random" for each in settings):
        parts.append("random weights: answers mean nothing")
    if any(each.model.source == "bundled" for each in settings):
        parts.append("the bundled model is a toy")
    if any(result.metric.estimated for result in facts.energy):
        parts.append("energy of a model of the machine, whose error is not known")
    if report.left_out:
        parts.append(f"{times(len(report.left_out), 'thing')} left out, with reasons in the report")
    return Answer("; ".join(parts))
