"""The sentences about how steady trials and machine were: what a verdict should be held against."""

from __future__ import annotations

from slm_energy.analysis.result.diagnostics import MetricNoise, NoiseFloor, Sentinel
from slm_energy.analysis.result.metric import Metric
from slm_energy.analysis.result.report import MetricResult, Report
from slm_energy.analysis.text.phrases import confidence, joined, kind, number, p_is, times


def findings(report: Report) -> tuple[str, ...]:
    """The machine's noise floor, and the verdicts that are not beyond it."""
    if report.noise_floor is None:
        return ()
    known = [(r, seen) for r in report.metrics if (seen := report.noise_floor.of(r.metric.name))]
    lines = [noise_floor(report.noise_floor, seen) for r, seen in known if r in report.deciding]
    for result, seen in known:
        within = [
            f"{report.labels[pair.a]} against {report.labels[pair.b]}"
            for family in result.families
            for pair in family.pairs
            if pair.verdict in ("saves", "gains", "worse")
            and pair.ratio is not None
            and 100 * (max(pair.ratio, 1 / pair.ratio) - 1) < seen.largest_pct
        ]
        if within:
            what = f"{result.metric.title}{kind(result.metric)}"
            lines.append(
                f"Within the noise floor of {what}, so do not rely on it: {joined(within)}."
            )
    return tuple(lines)


def noise_floor(floor: NoiseFloor, seen: MetricNoise) -> str:
    """What a machine shows of a metric where nothing differs."""
    metric = Metric(name=seen.name)
    when = f" of {floor.day}" if floor.day else ""
    return (
        f"Noise floor of this machine (study {floor.study}{when}, {floor.cell}): "
        f"{metric.title}{kind(metric)} of one trial varies by {number(seen.sd_pct)} %, and one "
        f"cell under two names differs by less than {number(seen.largest_pct)} %."
    )


def notes(report: Report) -> tuple[str, ...]:
    """Outliers, drift, the sentinel, and why the study ended early."""
    lines = [f"The study ended by its precision rule: {report.stopped}."] if report.stopped else []
    for result in report.deciding:
        lines += _diagnosis(report, result)
        if result.sentinel is not None:
            lines.append(_sentinel(report, result.metric, result.sentinel))
    return tuple(lines)


def _diagnosis(report: Report, result: MetricResult) -> list[str]:
    seen, lines = result.diagnostics, []
    flagged = [point for point in seen.points if point.outlier]
    if flagged:
        names = list(dict.fromkeys(report.labels[point.cell] for point in flagged))
        lines.append(
            f"{times(len(flagged), 'trial')} flagged as outlier{'s' * (len(flagged) != 1)} and "
            f"kept: {joined(names)}"
            + (
                f"; without {'it' if len(flagged) == 1 else 'them'} "
                f"{times(len(seen.changed), 'verdict')} would change."
                if seen.changed
                else "; no verdict changes without."
            )
        )
    for drift in seen.drifts:
        if drift.p <= report.options.alpha and drift.against != "round":
            lines.append(
                f"{result.metric.heading} drifts with {_AGAINST[drift.against]}: "
                f"{drift.slope_pct:+.2g} % per step, {p_is(drift.p)}."
            )
    return lines


def _sentinel(report: Report, metric: Metric, seen: Sentinel) -> str:
    """How the machine drifted, as one cell saw it that ran in every round."""
    where = f"Sentinel {seen.label}, {metric.title}{kind(metric)}"
    if seen.drift is None:
        return f"{where}: {times(len(seen.points), 'trial')}; drift needs three that vary."
    drift = seen.drift
    shown = "it drifted" if drift.p <= report.options.alpha else "no drift is shown"
    span = (
        f"{number(seen.hours)} hours" if seen.hours >= 2 else f"{number(60 * seen.hours)} minutes"
    )
    return (
        f"{where}: {drift.slope_pct:+.2g} % over the {span} of its "
        f"{times(drift.trials, 'trial')}, {confidence(report)} interval {drift.low_pct:+.2g} to "
        f"{drift.high_pct:+.2g} %: {shown}."
    )


_AGAINST = {
    "order": "the order of trials (rounds take out what lies between them)",
    "place": "the place in a round (which the shuffled order spreads over cells)",
    "temperature": "the temperature at the start",
}
