"""From trials to a report: `build` where cells ran in rounds, `build_independent` where not."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from slm_energy.analysis.across_machines import across_machines
from slm_energy.analysis.answered import Answered, answered
from slm_energy.analysis.metric_result import ONE_MACHINE, analyse, not_possible
from slm_energy.analysis.noise_floor import floor
from slm_energy.analysis.recommend import recommend
from slm_energy.analysis.resolve_design import Design, resolve_design, with_sharing
from slm_energy.analysis.result.design import Cell, LeftOut
from slm_energy.analysis.result.diagnostics import Diagnostics, NoiseFloor
from slm_energy.analysis.result.effects import Effects
from slm_energy.analysis.result.failure import Failure
from slm_energy.analysis.result.metric import Metric
from slm_energy.analysis.result.report import MetricResult, Report
from slm_energy.analysis.result.solved import Solved
from slm_energy.analysis.sections import Sections
from slm_energy.analysis.solved import solved
from slm_energy.analysis.text import (
    caveats,
    findings,
    independent,
    machines_in_words,
    population,
    solved_findings,
    solved_methods,
)
from slm_energy.analysis.text.methods import methods
from slm_energy.analysis.trade_offs import trade_offs
from slm_energy.analysis.trials import blocks
from slm_energy.analysis.trials.answers import TrialAnswers, answer_counts
from slm_energy.analysis.trials.frame import Study, chosen_machines, level, tidy
from slm_energy.analysis.trials.machines import one_study
from slm_energy.analysis.trials.provenance import provenance, trial_rows
from slm_energy.config.options import AnalysisOptions

Writer = Callable[[Report], tuple[str, ...]]
"""Writes sentences about a report that has none yet."""


def build(
    raw: pd.DataFrame,
    options: AnalysisOptions,
    *,
    noise_floor: NoiseFloor | None = None,
    stopped: str = "",
    answers: Mapping[str, TrialAnswers] | None = None,
    unscored: str = "",
) -> Report:
    """Analyse a study whose cells ran in rounds.

    Args:
        raw: one row per trial, as `tracking.Store.frame` returns it.
        options: see `analysis.options`.
        noise_floor: what is stored of the machine; a study that measures it has its own.
        stopped: why the study ended before its last round; empty if it did not.
        answers: run id to scores, from `trials.answers.read_answers`.
        unscored: why there are no scores; empty if there are.

    Raises:
        AnalysisError: the study cannot be analysed as requested; the message names the key to
            change.
    """
    machines = chosen_machines(raw, options.study, options.machine)
    if len(machines) > 1:
        study = one_study(raw, options.study, machines)
        options = dataclasses.replace(options, families=("machine", *options.families))
    else:
        study = tidy(raw, options.study, machines[0])
    sections = Sections()
    scores = answers or {}
    with threadpool_limits(limits=1, user_api="blas"):  # small matrices: more threads only wait
        report = _analysed(study, raw, options, sections, rounds=True, answers=scores)
    report = dataclasses.replace(
        report,
        noise_floor=report.noise_floor or noise_floor,
        stopped=stopped,
        unscored=unscored,
        answers=answer_counts(study, scores),
    )
    recommendations = sections.make(
        "recommendation", lambda: recommend(report, {}, {}), lambda failure: ()
    )
    return _worded(
        dataclasses.replace(report, recommendations=recommendations),
        sections,
        methods={
            "methods": methods,
            "methods on solved tasks": solved_methods.methods,
            "methods over models": population.methods,
        },
        findings={
            "solved tasks in words": solved_findings.findings,
            "verdicts in words": findings.findings,
            "verdicts over models in words": population.findings,
            "machines in words": machines_in_words.findings,
            "noise in words": caveats.findings,
        },
        notes={
            "notes on solved tasks": solved_findings.notes,
            "notes on the comparison": findings.notes,
            "notes on models": population.notes,
            "notes on the machine": caveats.notes,
        },
    )


def build_independent(raw: pd.DataFrame, options: AnalysisOptions, aggregate: str = "") -> Report:
    """Analyse repetitions that are not rounds: each cell is an independent sample.

    Args:
        raw: one row per cell and repetition, as `external.table.read` returns it.
        options: see `analysis.options`.
        aggregate: what a cell's only figure is, such as `median of 10 repetitions`.

    Raises:
        AnalysisError: the table cannot be analysed as requested; the message names the key to
            change.
    """
    study = _without_rounds(tidy(raw, options.study, options.machine))
    sections = Sections()
    with threadpool_limits(limits=1, user_api="blas"):
        report = _analysed(study, raw, options, sections, rounds=False, answers={})
    return _worded(
        report,
        sections,
        methods={
            "methods": partial(independent.methods, figure=aggregate or "one value"),
            "methods over models": population.methods,
        },
        findings={
            "verdicts in words": independent.findings,
            "verdicts over models in words": population.findings,
        },
        notes={"notes": independent.notes, "notes on models": population.notes},
    )


def _analysed(
    study: Study,
    raw: pd.DataFrame,
    options: AnalysisOptions,
    sections: Sections,
    *,
    rounds: bool,
    answers: Mapping[str, TrialAnswers],
) -> Report:
    """The report without its sentences."""
    design = resolve_design(study, options, rounds=rounds)
    values, left_out = blocks.usable(study, options)
    nothing: tuple[tuple[Answered, ...], list[LeftOut]] = (), []
    scored, unusable = sections.make(
        "answers", lambda: answered(study, answers), lambda failure: nothing
    )
    left_out += unusable
    if not design.one_machine:
        what = "drift, effects of factors, models in general, trade-offs, noise floor"
        left_out.append(LeftOut(scope="test", name=what, reason=ONE_MACHINE))
    tested = [block for _, block in values] + [block for each in scored for block in each.tested]
    design = with_sharing(design, tested)
    trials = blocks.trial_facts(study.valid)
    first, metrics = values[0][0].quantity, []
    for metric, block in values:
        decides = metric.quantity == first or not rounds
        result, missing = sections.make(
            "analysis",
            partial(analyse, study, trials, metric, block, design, sections, decides=decides),
            partial(_not_analysed, metric),
            metric=metric.name,
        )
        metrics.append(result)
        left_out += missing
    if not rounds:
        left_out = [not_possible(metrics), *left_out]
        return _assembled(study, raw, design, metrics, left_out, sections)
    costs = sections.make(
        "solved tasks",
        lambda: tuple(solved(each, design) for each in scored),
        lambda failure: (),
    )
    report = _assembled(study, raw, design, metrics, left_out, sections, costs)
    if not design.one_machine:
        across = sections.make(
            "machines", lambda: across_machines(study, metrics, design), lambda failure: ()
        )
        return dataclasses.replace(report, across=across)
    own_floor = sections.make(
        "noise floor", lambda: floor(study, values, options.alpha), lambda failure: None
    )
    return dataclasses.replace(report, noise_floor=own_floor)


def _not_analysed(metric: Metric, failure: Failure) -> tuple[MetricResult, list[LeftOut]]:
    """The place of a metric whose analysis failed as a whole."""
    empty = MetricResult(
        metric=metric,
        descriptive=(),
        diagnostics=Diagnostics.unknown(),
        families=(),
        effects=Effects.not_fitted(failure.reason),
    )
    return empty, []


def _worded(
    report: Report,
    sections: Sections,
    *,
    methods: Mapping[str, Writer],
    findings: Mapping[str, Writer],
    notes: Mapping[str, Writer],
) -> Report:
    """Add the sentences, written part by part, and what failed."""

    def lines(writers: Mapping[str, Writer]) -> tuple[str, ...]:
        texts = [
            sections.make(part, partial(write, report), lambda failure: ())
            for part, write in writers.items()
        ]
        return tuple(itertools.chain.from_iterable(texts))

    worded = dataclasses.replace(
        report, methods=lines(methods), findings=lines(findings), notes=lines(notes)
    )
    return with_failures(worded, sections.failures)


def with_failures(report: Report, failures: Sequence[Failure]) -> Report:
    """The report with sections that errors kept out; its notes name them first."""
    lines = tuple(failure.sentence() for failure in failures)
    return dataclasses.replace(
        report, failures=(*report.failures, *failures), notes=(*lines, *report.notes)
    )


def _without_rounds(study: Study) -> Study:
    """The study with an audit that knows repetitions only."""
    slots = tuple(slot for slot in study.audit.slots if slot.outcome != "missing")
    audit = dataclasses.replace(
        study.audit, rounds=(), complete_rounds=(), slots=slots, outcomes={"valid": len(slots)}
    )
    return dataclasses.replace(study, audit=audit)


def _assembled(
    study: Study,
    raw: pd.DataFrame,
    design: Design,
    metrics: Sequence[MetricResult],
    left_out: Sequence[LeftOut],
    sections: Sections,
    costs: tuple[Solved, ...] = (),
) -> Report:
    """What was analysed, with the cells, trials and trade-offs that it is about."""
    not_run = study.left_out()
    if study.sentinel is not None:
        not_run += study.sentinel.left_out()
    return Report(
        study=study.name,
        machine=study.machine,
        options=design.options,
        provenance=provenance(study, raw),
        factors=design.factors,
        shared=study.shared,
        cells=_cells(study, metrics, design),
        audit=study.audit,
        left_out=tuple(dict.fromkeys([*not_run, *left_out])),
        metrics=tuple(metrics),
        pareto=sections.make(
            "trade-offs",
            lambda: trade_offs(study, metrics, costs, design.options) if design.one_machine else (),
            lambda failure: (),
        ),
        trials=trial_rows(study),
        scope=study.measured,
        solved=costs,
        methods=(),
        findings=(),
        notes=(),
    )


def _cells(study: Study, metrics: Sequence[MetricResult], design: Design) -> tuple[Cell, ...]:
    """Family by family, best first by the metric that decides; cells without a value last."""
    first = metrics[0].metric.quantity
    ranked = [
        cell
        for result in metrics
        if result.metric.quantity == first
        for family in result.families
        for cell in family.ranked
    ]
    order = list(dict.fromkeys([*ranked, *study.cells]))
    names = list(dict.fromkeys(design.families[cell] for cell in order))
    order.sort(key=lambda cell: names.index(design.families[cell]))
    agreement, agreeing_tokens = (
        _means(study, f"quality/{name}") for name in ("agreement", "agreeing_tokens")
    )
    slots: dict[str, list[str]] = {cell: [] for cell in study.cells}
    for slot in study.audit.slots:
        if slot.round:
            slots[slot.cell].append(slot.outcome)
    return tuple(
        Cell(
            id=cell,
            label=study.labels[cell],
            family=design.families[cell],
            levels={f.key: level(study.settings[cell], f.key) for f in design.factors},
            valid=slots[cell].count("valid"),
            rounds=len(slots[cell]),
            agreement=agreement.get(cell),
            agreeing_tokens=agreeing_tokens.get(cell),
        )
        for cell in order
    )


def _means(study: Study, name: str) -> dict[str, float]:
    """Of a metric over the valid trials of each cell that has it."""
    columns = zip(study.cells, study.block(name).T, strict=True)
    known = ((cell, values[~np.isnan(values)]) for cell, values in columns)
    return {cell: float(values.mean()) for cell, values in known if values.size}
