"""A study with scores, made by hand: torch, onnx and int8 on 40 tasks, figures as in an article.

`int8` is the cheapest per token and solves least; `onnx` costs least per solved task.
"""

from __future__ import annotations

import dataclasses
import functools

from slm_energy.analysis import build, options
from slm_energy.analysis.recommend import recommend
from slm_energy.analysis.result.metric import Metric
from slm_energy.analysis.result.report import Report
from slm_energy.analysis.result.solved import (
    CellSolved,
    Range,
    Solved,
    SolvedFamily,
    SolvedPair,
)
from slm_energy.analysis.text import solved_findings as text
from tests.analysis.conftest import make_study

TORCH, ONNX, INT8 = "torch-cpu", "onnx-cpu", "int8-cpu"


def cell(name: str, solved: int, joules: float | None, **changes: object) -> CellSolved:
    """A cell that solves some of 40 tasks; its intervals are rough."""
    rate = solved / 40
    known = joules is not None
    row = CellSolved(
        cell=name,
        solved=float(solved),
        scored=40,
        varying=0,
        rate=rate,
        rate_range=Range(low=max(0.0, rate - 0.13), high=rate + 0.15),
        per_solved_j=joules,
        these=Range(low=0.99 * joules, high=1.01 * joules) if known else None,
        like=Range(low=0.7 * joules, high=1.5 * joules) if known else None,
        reason="" if known else "it solves no task",
    )
    return dataclasses.replace(row, **changes)


def pair(a: CellSolved, b: CellSolved, low: float, high: float, **changes: object) -> SolvedPair:
    """`a` against `b`; `low` and `high` are the ends of the ratio's interval."""
    assert a.per_solved_j is not None
    assert b.per_solved_j is not None
    shared = int(min(a.solved, b.solved)) - 1
    verdict = "saves" if high < 0.98 else "inconclusive"
    made = SolvedPair(
        a=a.cell,
        b=b.cell,
        both=shared,
        only_a=int(a.solved) - shared,
        only_b=int(b.solved) - shared,
        neither=40 - int(a.solved) - int(b.solved) + shared,
        mcnemar_p=0.5,
        p=1.0,
        difference=a.rate - b.rate,
        difference_range=Range(low=a.rate - b.rate - 0.1, high=a.rate - b.rate + 0.1),
        quality="inconclusive",
        ratio=a.per_solved_j / b.per_solved_j,
        ratio_range=Range(low=low, high=high),
        verdict=verdict,
    )
    return dataclasses.replace(made, **changes)


@functools.cache
def unscored_report() -> Report:
    """The study without scores: int8 costs least per token, then onnx, then torch."""
    frame = make_study({"torch/cpu": 0.030, "onnx/cpu": 0.021, "int8/cpu": 0.018})
    frame["latency/e2e_p95_s"] = frame["latency/e2e_p50_s"] * 1.2
    frame["energy/per_request_j"] = 100 * frame["energy/per_output_token_j"]
    return build(frame, options({"study": "toy"}))


def solved_of(*rows: CellSolved, pairs: tuple[SolvedPair, ...], **changes: object) -> Solved:
    """One family, in the order given."""
    family = SolvedFamily(name="", ranked=tuple(row.cell for row in rows), pairs=pairs)
    made = Solved(
        metric=Metric(name="energy/per_solved_j"), tasks=40, cells=rows, families=(family,)
    )
    return dataclasses.replace(made, **changes)


def with_solved(*results: Solved) -> Report:
    """The study with these results, its sentences and its recommendations."""
    report = dataclasses.replace(unscored_report(), solved=results)
    report = dataclasses.replace(
        report,
        recommendations=recommend(report, {}, {}),
        findings=(*text.findings(report), *report.findings),
        notes=(*text.notes(report), *report.notes),
    )
    return report


@functools.cache
def scored_report() -> Report:
    """Onnx costs least per solved task; int8, the cheapest per token, solves 4 tasks only."""
    onnx, torch, int8 = cell(ONNX, 11, 12.3), cell(TORCH, 12, 15.0), cell(INT8, 4, 28.9, varying=2)
    return with_solved(
        solved_of(
            onnx,
            torch,
            int8,
            pairs=(
                pair(onnx, torch, 0.70, 0.95, quality="not worse"),
                pair(onnx, int8, 0.30, 0.70, quality="better", p=0.012),
                pair(torch, int8, 0.35, 0.80, quality="better", p=0.02),
            ),
        )
    )
