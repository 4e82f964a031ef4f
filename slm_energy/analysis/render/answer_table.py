"""The tables that need no statistics to read: every cell at a glance, its resources, the terms."""

from __future__ import annotations

import statistics

from slm_energy.analysis.render.against import against_reference
from slm_energy.analysis.render.summary_tables import mean, short_name
from slm_energy.analysis.render.tables import Grid
from slm_energy.analysis.result.comparison import Family
from slm_energy.analysis.result.metric import Metric
from slm_energy.analysis.result.report import Report
from slm_energy.analysis.result.verdict import COARSE, SEPARATES
from slm_energy.analysis.text.phrases import compared, confidence, number, share, titled
from slm_energy.metric_catalog import catalog


def answer(report: Report) -> Grid:
    """One row per cell: energy, latency, quality, and the verdict in words; best first."""
    latency = next((r for r in report.metrics if r.metric.name.startswith("latency/")), None)
    shown = [*report.deciding, *([latency] if latency and latency not in report.deciding else [])]
    by_cell = [{row.cell: row for row in result.descriptive} for result in shown]
    solved = {row.cell: f"{row.solved:g}/{row.scored}" for s in report.solved for row in s.cells}
    words: dict[str, str] = {}
    for result in report.deciding:
        for family in result.families:
            words[family.reference] = "reference" if family.headline else "not compared"
            words |= _against(report, result.metric, family)
    rows = []
    for cell in report.cells:
        texts = [
            mean(result.metric, table.get(cell.id), interval=result in report.deciding)
            for result, table in zip(shown, by_cell, strict=True)
        ]
        without = "not compared" if cell.valid else "no valid trial"
        texts += [solved.get(cell.id, "-"), share(cell.agreement)]
        rows.append((cell.label, *texts, words.get(cell.id, without)))
    head = (
        "Cell",
        *(f"{short_name(r.metric)}\n{r.metric.unit}".strip() for r in shown),
        "Tasks\nsolved",
        "Equal\nanswers, %",
        "Compared",
    )
    title = f"Every cell: means, {confidence(report)} intervals in brackets"
    title += next(filter(None, (titled(report, r.metric) for r in report.deciding)), "")
    return Grid(title=title, head=head, rows=tuple(rows)).without_empty()


_UNDECIDED = {
    COARSE: "below the resolution of the sensors",
    "inconclusive": "not decided",
    None: "not tested",
}


def _against(report: Report, metric: Metric, family: Family) -> dict[str, str]:
    """Cell to how it compares with its family's reference."""
    name, words = report.short_label(family.reference), {}
    for row in against_reference(metric, family):
        if row.ratio is None:
            words[row.cell] = f"not compared: {row.reason}"
        elif row.verdict in SEPARATES:
            words[row.cell] = f"{compared(row.ratio, name)}: {row.verdict}"
        elif row.verdict == "equivalent":
            words[row.cell] = f"equivalent to {name}"
        else:
            words[row.cell] = f"{_UNDECIDED[row.verdict]}: {compared(row.ratio, name)}"
    return words


def resources(report: Report) -> Grid:
    """Mean utilization and peak memory of each cell: means over its valid trials."""
    trials = [trial for trial in report.trials if trial.outcome == "valid"]
    names = sorted(filter(_is_resource, {name for trial in trials for name in trial.values}))
    metrics = [Metric(name=name) for name in names]
    rows = []
    for cell in report.cells:
        own = [trial.values for trial in trials if trial.cell == cell.id]
        known = [[row[name] for row in own if name in row] for name in names]
        texts = [number(statistics.fmean(values)) if values else "-" for values in known]
        rows.append((cell.label, *texts))
    head = ("Cell", *(", ".join(filter(None, (m.heading, m.unit))) for m in metrics))
    title = "While serving: means over the valid trials"
    return Grid(title=title, head=head, rows=tuple(rows) if names else ())


def _is_resource(name: str) -> bool:
    """Mean utilization, peak memory: what a reader asks of every cell."""
    group, _, quantity = name.partition("/")
    if catalog.find(name) is None:
        return False
    if group == "utilization":
        return "_mean_" in quantity and "frequency" not in quantity and "clock" not in quantity
    return group == "memory" and "_peak_" in quantity


_TERMS = (
    ("cell", "One combination of model, engine, provider and settings."),
    ("trial, round", "One run of a cell in a process of its own; each round runs every cell once."),
    ("pass", "The whole workload served once. Faster cells have more passes in a window."),
    ("geometric mean", "Mean of the logarithms, as ratios are compared."),
    ("simultaneous interval", "One that holds for all pairs of a family together."),
    ("saves, gains, worse", "A difference beyond the margin that the intervals exclude."),
    ("equivalent", "The difference is within the margin."),
    ("inconclusive", "The intervals allow both: more rounds, or a wider margin."),
    ("p", "How often chance alone gives such a difference, adjusted for all pairs of a family."),
    ("p50, p95", "Median and 95th percentile over requests."),
    ("TTFT", "Time to the first token of a request."),
    ("ITL", "Time between two successive tokens of a request."),
    ("E2E", "End-to-end latency: to the last token of a request."),
    ("CV", "Coefficient of variation: standard deviation over mean."),
    ("A12, Cliff's delta", "How likely a trial of one cell has more than one of the other; A12 is"
     " 0.5 and delta is 0 where neither has."),
)  # fmt: skip


def terms(report: Report) -> Grid:
    """What the words of the page mean."""
    return Grid(title="Words of this page", head=("Term", "Meaning"), rows=_TERMS)
