"""When a study has run enough rounds: the rule of `study.precision_pct`.

After a round, the study ends if every pair's own t interval of its ratio is narrower than plus and
minus so many per cent (the simultaneous intervals of a report are wider): on the metric that
decides, in every family, and not before every pair has the rounds that it takes to find any
difference.

The rule looks at widths, never at which cell is ahead, so it favours no finding. But it stops where
the spread happens to look small, so intervals are a little too narrow: they cover the true ratio in
95 % of studies only as widths go to zero (Chow and Robbins 1965, Annals of Mathematical Statistics
36, 457-462). Of 95 % intervals 0.92 to 0.945 cover it with two cells and 0.93 to 0.95 with more
(`benchmarks/simulated_lab.py --stopping`; 4 to 47 rounds).
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from slm_energy.analysis.resolve_design import members, resolve_design
from slm_energy.analysis.stats.effect_size import half_width
from slm_energy.analysis.stats.max_t import FEWEST, smallest_rounds
from slm_energy.analysis.text.phrases import number, times
from slm_energy.analysis.trials import blocks
from slm_energy.analysis.trials.frame import Study, tidy
from slm_energy.config.options import AnalysisOptions


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """Whether the study may stop, and why."""

    stop: bool
    reason: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Pair:
    """Two cells: rounds that they share and need, half the width of their interval if known."""

    name: str
    rounds: int
    fewest: int
    half_pct: float | None


def settled(
    frame: pd.DataFrame, options: AnalysisOptions, precision_pct: float, cells: Sequence[str]
) -> Decision:
    """Apply the rule to the trials there are.

    Args:
        frame: one row per trial, as `tracking.Store.frame` returns it.
        options: see `analysis.options`.
        precision_pct: every interval must be narrower than plus and minus this.
        cells: ids of those that count.

    Raises:
        AnalysisError: there is no valid trial, or no such metric.
    """
    own = frame if frame.empty else frame[frame["cell"].isin(cells)]
    study = tidy(own, options.study, options.machine)
    last = study.rounds[-1]
    if any(slot.round == last and slot.outcome == "missing" for slot in study.audit.slots):
        return Decision(stop=False, reason=f"round {last} is not complete")
    pairs = list(_pairs(study, options))
    if not pairs:
        return Decision(stop=False, reason="no two cells are compared")
    widest_pct = 0.0
    for pair in pairs:
        if pair.rounds < pair.fewest:
            why = f"{times(pair.rounds, 'round')} of at least {pair.fewest}"
            return Decision(stop=False, reason=f"{pair.name}: {why}")
        if pair.half_pct is None:
            why = "the same ratio in every round, so its spread is unknown"
            return Decision(stop=False, reason=f"{pair.name}: {why}")
        if pair.half_pct > precision_pct:
            why = f"an interval of ±{number(pair.half_pct)} %"
            return Decision(stop=False, reason=f"{pair.name}: {why}")
        widest_pct = max(widest_pct, pair.half_pct)
    width = f"±{number(widest_pct)} %"
    return Decision(
        stop=True,
        reason=f"after {times(last, 'round')} every pair's own interval is within {width}",
    )


def _pairs(study: Study, options: AnalysisOptions) -> Iterator[_Pair]:
    """Pairs of cells of one family that have a value of the metric that decides."""
    design = resolve_design(study, options)
    values, _ = blocks.usable(study, options)
    for metric, block in values:
        if metric.quantity != values[0][0].quantity:
            continue
        logs = dict(zip(block.cells, np.log(block.values).T, strict=True))
        valued = [cell for cell, column in logs.items() if not np.isnan(column).all()]
        for cells in members(valued, design).values():
            fewest = max(FEWEST, smallest_rounds(len(cells), options.alpha))
            for a, b in itertools.combinations(cells, 2):
                ratios = logs[a] - logs[b]
                ratios = ratios[~np.isnan(ratios)]
                half = half_width(ratios, options.alpha)
                yield _Pair(
                    name=f"{study.labels[a]} against {study.labels[b]}",
                    rounds=len(ratios),
                    fewest=fewest,
                    half_pct=None if half is None else 100 * math.expm1(half),
                )
