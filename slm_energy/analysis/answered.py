"""The scores of a study beside the energy of its attempts, as joules per solved task."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from slm_energy.analysis.result.design import LeftOut
from slm_energy.analysis.result.metric import Metric
from slm_energy.analysis.stats.comparison import Block
from slm_energy.analysis.trials import blocks
from slm_energy.analysis.trials.answers import CellAnswers, TrialAnswers, by_cell
from slm_energy.analysis.trials.frame import Study

_ATTEMPT = Metric(name="energy/per_request_j")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Answered:
    """Cells with scores whose energy is of one kind.

    Attributes:
        metric: joules per solved task of that kind; None where no energy was recorded.
        answers: of each cell.
        block: joules per solved task, rounds x cells of the study; NaN where it is not known.
    """

    metric: Metric | None
    answers: Mapping[str, CellAnswers]
    block: Block

    @property
    def tested(self) -> tuple[Block, ...]:
        """The values of each comparison, for the number of those that share one error rate."""
        scored = [cell in self.answers for cell in self.block.cells]
        rates = Block(cells=self.block.cells, values=np.where(scored, 1.0, np.nan)[None])
        return (rates,) if self.metric is None else (rates, self.block)


def valued(block: Block) -> set[str]:
    """Cells that have any value."""
    columns = zip(block.cells, block.values.T, strict=True)
    return {cell for cell, values in columns if not np.isnan(values).all()}


def answered(
    study: Study, answers: Mapping[str, TrialAnswers]
) -> tuple[tuple[Answered, ...], list[LeftOut]]:
    """The scores of a study beside the energy of its attempts, one entry per kind of energy.

    Args:
        study: its trials.
        answers: run id to scores, from `trials.answers.read_answers`.

    Returns:
        The entries, none where nothing was scored, and values that cannot be used.
    """
    scores, left_out = dict[str, CellAnswers](), list[LeftOut]()
    for cell, own_scores in by_cell(study, answers).items():
        if own_scores.tasks:
            scores[cell] = own_scores
        why = _missing(own_scores)
        if why:
            name = f"Pass rate of {study.labels[cell]}"
            left_out.append(LeftOut(scope="metric", name=name, reason=why))
    kinds, rest = list[Answered](), dict(scores)
    for kind in _ATTEMPT.kinds:
        block, unused = blocks.block(study, kind)
        there = valued(block)
        own = {cell: rest.pop(cell) for cell in scores if cell in there and cell in rest}
        if own:
            metric = Metric(name=kind.name.replace("per_request", "per_solved"))
            kinds.append(Answered(metric=metric, answers=own, block=_per_solved(block, own)))
            left_out += unused
    if rest and kinds:  # no energy is known of these: their pass rates stand beside the others'
        kinds[0] = dataclasses.replace(kinds[0], answers={**kinds[0].answers, **rest})
    elif rest:
        unknown = Block(cells=study.cells, values=np.full((1, len(study.cells)), np.nan))
        kinds.append(Answered(metric=None, answers=rest, block=unknown))
    return tuple(kinds), left_out


def _missing(own: CellAnswers) -> str:
    """Which tasks a cell's pass rate and joules per solved task are without; empty if none."""
    if not own.tasks:
        return "none of its tasks could be scored"
    if not own.unserved:
        return ""
    every = len(own.tasks) + own.refused + own.unserved
    return f"{own.unserved} of {every} tasks, which only some rounds served"


def _per_solved(block: Block, answers: Mapping[str, CellAnswers]) -> Block:
    """Joules per solved task from those per attempt; NaN where none is solved or one is refused.

    All rounds are divided by the mean number solved. Where answers differ between rounds, a round's
    value is that of the mean, moved by its own number to first order: a round in which none is
    solved has a finite value.
    """
    factor = np.full(block.values.shape, np.nan)
    for column, cell in enumerate(block.cells):
        own = answers.get(cell)
        if own is None or own.refused or not own.solved.any():
            continue
        rate = float(own.solved.mean())
        factor[:, column] = 1 / rate
        rows = np.array(own.rounds) - 1
        factor[rows, column] *= np.exp(1 - own.solved.mean(axis=1) / rate)
    low, high, *gain = (
        None if part is None else part * factor
        for part in (block.low, block.high, *(block.with_gain or ()))
    )
    with_gain = None if not gain or gain[0] is None or gain[1] is None else (gain[0], gain[1])
    values = block.values * factor
    return Block(cells=block.cells, values=values, low=low, high=high, with_gain=with_gain)
