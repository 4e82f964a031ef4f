"""Study B against study A, cell by cell: what got worse since then?

`build` matches the cells of two studies (`manifest`), refuses to compare them when anything else
differs that may not, and judges each cell and metric (`stats.welch`). The exit code of its result
is for CI.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
import typing
from collections.abc import Mapping
from typing import Any

import pandas as pd
from scipy.special import nctdtrinc, stdtrit

from slm_energy.analysis.regression.floors import StoredFloor, floor_warnings, no_floor
from slm_energy.analysis.regression.manifest import Difference, Group, differences, match
from slm_energy.analysis.regression.samples import not_in_second, pair_up
from slm_energy.analysis.result.design import LeftOut
from slm_energy.analysis.result.metric import MEASURED, Metric
from slm_energy.analysis.stats.autocorrelation import dependence
from slm_energy.analysis.stats.effect_size import GOOD_POWER
from slm_energy.analysis.stats.welch import CellChange, IndependentPair, judge, noise
from slm_energy.analysis.trials.answers import ReadArtifact
from slm_energy.analysis.trials.frame import Study, tidy
from slm_energy.config.check import checked
from slm_energy.config.options import CompareOptions
from slm_energy.errors import ConfigError, one_line
from slm_energy.serialization import to_plain

SCHEMA = 1


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Side:
    """One of the two studies.

    Attributes:
        name: what a page calls it.
        frame: its trials, as `tracking.Store.frame` returns them.
        attached: reads a text artifact of a trial.
        stored_floor: the latest noise floor of a machine in the study's store; None without one.
    """

    name: str
    frame: pd.DataFrame
    attached: ReadArtifact
    stored_floor: StoredFloor = no_floor


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class MetricChange:
    """One metric of one kind over the matched cells.

    Attributes:
        metric: which; estimated joules are compared with estimated ones only.
        ratio: geometric mean of the cells' ratios: a change that all cells share has a common
            cause.
        noise_pct: standard deviation of trials within a cell and study, in per cent; None without
            two trials anywhere.
        visible_pct: difference above which the interval of a typical cell excludes 1, with floor:
            the median over cells; None without an interval.
        cells: in the order of study A.
        verdict_pct: difference for which a typical cell is called a regression or an improvement
            with a chance of 0.8: the median over cells; None without an interval.
        correlation: of a round with the next, within each study; intervals allow for it.
        rounds: of a typical cell, the fewer of both studies: the median over cells.
        effective_rounds: independent rounds that these are worth.
    """

    metric: Metric
    ratio: float
    noise_pct: float | None
    visible_pct: float | None
    cells: tuple[CellChange, ...]
    verdict_pct: float | None = None
    correlation: float = 0.0
    rounds: int | None = None
    effective_rounds: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class StudyComparison:
    """Study B against study A.

    Attributes:
        a: name of the study that is compared with.
        b: name of the study that is judged.
        options: as given.
        differences: facts that matched cells do not share.
        left_out: cells without a partner and values that were not used.
        metrics: the comparison; empty when the studies' facts differ and may not.
        refusal: why there is no verdict, one line; empty when there is one.
        a_scope: what measured energy of the first study covers, in words; empty if not known.
        b_scope: the same of the second.
        warnings: what makes verdicts less certain than they are stated, one line each.
        missing: values of the first study that the second lacks, such as those of a cell whose
            trials all failed: `METRIC of CELL`.
        schema: version of this format.
    """

    a: str
    b: str
    options: CompareOptions
    differences: tuple[Difference, ...]
    left_out: tuple[LeftOut, ...]
    metrics: tuple[MetricChange, ...]
    refusal: str
    a_scope: str = ""
    b_scope: str = ""
    warnings: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    schema: int = SCHEMA

    @property
    def exit_code(self) -> int:
        """0 nothing that `options.fail_on` names, 1 something, 2 nothing can be said."""
        if self.refusal:
            return 2
        happened = {str(cell.verdict) for metric in self.metrics for cell in metric.cells}
        happened |= {"missing"} if self.missing else set()
        return 1 if happened & set(self.options.fail_on) else 0

    def to_json(self) -> dict[str, Any]:
        """All figures, unrounded and in SI units."""
        return {"exit_code": self.exit_code, **to_plain(self)}


def options(mapping: Mapping[str, Any]) -> CompareOptions:
    """Check the keys of conf/compare.yaml and freeze them.

    Raises:
        ConfigError: a wrong type, a value out of range, or no such group of facts.
    """
    result = checked(CompareOptions, mapping, "compare")
    if not result.metrics:
        raise ConfigError(
            f"metrics=[] is empty: name at least one, such as {MEASURED}per_output_token_j"
        )
    groups = (*typing.get_args(Group), "all")
    if unknown := [name for name in result.allow if name not in groups]:
        raise ConfigError(f"allow={unknown[0]}: no such group; choose from {', '.join(groups)}")
    return result


def build(a: Side, b: Side, options: CompareOptions) -> StudyComparison:
    """Compare two studies.

    Raises:
        AnalysisError: a study has no valid trial, no cell is in both, neither has a metric, or one
            has measured and the other estimated energy.
    """
    studies = (tidy(a.frame, a.name, options.machine), tidy(b.frame, b.name, options.machine))
    matched = match(*studies)
    facts = differences(
        ((studies[0], a.attached), (studies[1], b.attached)), matched, options.allow
    )
    refusal = _refused(a.name, b.name, facts, options.allow)
    left_out = list(matched.left_out)
    metrics: tuple[MetricChange, ...] = ()
    missing: tuple[str, ...] = ()
    if not refusal:
        pairs, not_paired = pair_up(studies, matched.pairs, options.metrics)
        left_out += not_paired
        missing = not_in_second(studies[0], pairs, options.metrics)
        metrics = _judged(pairs, options)
        refusal = _undecided(metrics)
    judged = [change.metric for change in metrics]
    return StudyComparison(
        a=a.name,
        b=b.name,
        options=options,
        differences=facts,
        left_out=tuple(dict.fromkeys(left_out)),
        metrics=metrics,
        refusal=refusal,
        a_scope=_scope(studies[0]),
        b_scope=_scope(studies[1]),
        missing=missing,
        warnings=tuple(
            dict.fromkeys(
                line
                for study, side in zip(studies, (a, b), strict=True)
                for line in floor_warnings(study.machine, side.stored_floor, judged, options.floor)
            )
        ),
    )


def _scope(study: Study) -> str:
    return "" if study.scope is None else study.scope.words


def _refused(a: str, b: str, facts: tuple[Difference, ...], allow: tuple[str, ...]) -> str:
    bad = [row for row in facts if not row.allowed]
    if not bad:
        return ""
    names = one_line(", ".join(dict.fromkeys(row.fact for row in bad)))
    groups = dict.fromkeys([*allow, *(row.group for row in bad)])
    return (
        f"{a} and {b} differ in {names}, so a change may have several causes; to compare them"
        f" anyway: allow={','.join(groups)}"
    )


def _undecided(metrics: tuple[MetricChange, ...]) -> str:
    """Why there is no verdict; empty when there is one."""
    cells = [cell for metric in metrics for cell in metric.cells]
    if not cells:
        return "no metric has a value in both studies"
    if any(cell.p is not None or cell.verdict != "inconclusive" for cell in cells):
        return ""
    return f"the ratios are descriptive only, no cell can be judged: {cells[0].reason}"


def _judged(pairs: list[IndependentPair], options: CompareOptions) -> tuple[MetricChange, ...]:
    """All pairs as one family; the result metric by metric."""
    changes = judge(pairs, margin=options.margin, alpha=options.alpha, floor=options.floor)
    result = []
    for metric in dict.fromkeys(pair.metric for pair in pairs):
        mine = [pair for pair in pairs if pair.metric == metric]
        cells = [cell for pair, cell in zip(pairs, changes, strict=True) if pair.metric == metric]
        rounds = statistics.median(min(cell.a_trials, cell.b_trials) for cell in cells)
        correlation = mine[0].correlation
        result.append(
            MetricChange(
                metric=metric,
                ratio=math.exp(sum(math.log(cell.ratio) for cell in cells) / len(cells)),
                noise_pct=noise(mine),
                visible_pct=_visible(cells, options.floor),
                cells=tuple(cells),
                verdict_pct=_verdict_pct(cells, options, sum(c.p is not None for c in changes)),
                correlation=correlation,
                rounds=int(rounds),
                effective_rounds=dependence(int(rounds), correlation).effective,
            )
        )
    return tuple(result)


def _visible(cells: list[CellChange], floor: float) -> float | None:
    halves = [math.sqrt(c.high / c.low) for c in cells if c.low is not None and c.high is not None]
    return 100 * (statistics.median(halves) * (1 + floor) - 1) if halves else None


def _verdict_pct(cells: list[CellChange], options: CompareOptions, tests: int) -> float | None:
    """See `MetricChange.verdict_pct`; the level is the first one of Holm's steps."""
    shown = []
    for cell in cells:
        if cell.low is None or cell.high is None or cell.freedom is None:
            continue
        # Both allow for rounds that resemble their neighbours.
        freedom, half = cell.freedom, math.log(cell.high / cell.low) / 2
        error = half / float(stdtrit(freedom, 1 - options.alpha / 2))
        beside = math.log1p(options.floor) + math.log(cell.instrument or 1)
        # The test against the margin is one-sided where the margin is wide against the error.
        limits = ((-math.log1p(-options.margin), 1), (beside, 2))
        shown.append(
            max(
                limit + error * _noncentrality(freedom, options.alpha / (sides * tests))
                for limit, sides in limits
            )
        )
    return 100 * math.expm1(statistics.median(shown)) if shown else None


def _noncentrality(freedom: float, level: float) -> float:
    """For which t exceeds its one-sided critical value with good power."""
    return float(nctdtrinc(freedom, 1 - GOOD_POWER, float(stdtrit(freedom, 1 - level))))
