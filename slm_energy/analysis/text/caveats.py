"""The sentences about how steady trials and machine were, which limits what a verdict means."""

from __future__ import annotations

from slm_energy.analysis.result.diagnostics import Drift, MetricNoise, NoiseFloor, Sentinel
from slm_energy.analysis.result.metric import Metric
from slm_energy.analysis.result.report import MetricResult, Report
from slm_energy.analysis.text.phrases import confidence, joined, kind, number, p_is, times
from slm_energy.duration import duration


def findings(report: Report) -> tuple[str, ...]:
    """The machine's noise floor, and the verdicts that do not exceed it."""
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
                f"Within the noise floor of {what}, and therefore not reliable: {joined(within)}."
            )
    return tuple(lines)


def noise_floor(floor: NoiseFloor, seen: MetricNoise) -> str:
    """How much a metric varies on a machine where nothing differs."""
    metric = Metric(name=seen.name)
    when = f" of {floor.day}" if floor.day else ""
    return (
        f"Noise floor of this machine (study {floor.study}{when}, {floor.cell}): "
        f"the standard deviation of {metric.title}{kind(metric)} over trials is "
        f"{number(seen.sd_pct)} %, and the same cell under two names differs by less than "
        f"{number(seen.largest_pct)} %."
    )


def notes(report: Report) -> tuple[str, ...]:
    """Outliers, drift, the sentinel, and why the study ended early."""
    lines = []
    if report.stopped:
        lines.append(f"The study stopped early by its precision rule: {report.stopped}.")
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
        several = len(flagged) != 1
        changed = times(len(seen.changed), "verdict") if seen.changed else "no verdict"
        lines.append(
            f"{times(len(flagged), 'trial')} flagged as outlier{'s' * several} and kept: "
            f"{joined(names)}; without {'them' if several else 'it'} {changed} would change."
        )
    for drift in seen.drifts:
        if drift.p_adjusted is not None and drift.p_adjusted <= report.options.alpha:
            lines.append(
                f"{result.metric.heading} drifts with {_against(report, drift)}: "
                f"{drift.slope_pct:+.2g} % per step, {p_is(drift.p_adjusted)} (adjusted for "
                f"{times(len(seen.drifts), 'slope')})."
            )
    return lines


def _against(report: Report, drift: Drift) -> str:
    if drift.against == "round":
        return "the number of the round (comparisons within rounds remove it)"
    if drift.against == "place":
        varied = " (the order of cells differs between rounds)" * bool(report.audit.varied_order)
        return f"the position in a round{varied}"
    return "the temperature at the start, within rounds"


def _sentinel(report: Report, metric: Metric, seen: Sentinel) -> str:
    """How the machine drifted, by a cell that ran in every round."""
    where = f"Sentinel {seen.label}, {metric.title}{kind(metric)}"
    if seen.drift is None:
        return f"{where}: {times(len(seen.points), 'trial')}; drift needs three trials that vary."
    drift = seen.drift
    shown = "it drifted" if drift.p <= report.options.alpha else "no drift is shown"
    return (
        f"{where}: {drift.slope_pct:+.2g} % over {duration(3600 * seen.hours)} "
        f"({times(drift.trials, 'trial')}), {confidence(report)} interval {drift.low_pct:+.2g} to "
        f"{drift.high_pct:+.2g} %: {shown}."
    )
