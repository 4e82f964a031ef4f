"""Samples of what cells generated, for a person to look at. Untrusted text."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from slm_energy.analysis.result.report import Report
from slm_energy.analysis.trials.answers import ReadArtifact, TrialAnswers
from slm_energy.store.artifacts import DIFFERS_AT, TABLE

_MOST_CELLS = 12
_MOST_CHARACTERS = 2000


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Generated:
    """What one cell generated for one prompt.

    Attributes:
        label: the cell's name.
        task_id: which prompt.
        completion: what the model wrote, at most 2,000 characters of it.
        differs_at: position of the first token that is not the reference engine's; None if there
            is none, or nothing was compared.
        verdict: `passed`, or how it failed and why; empty where it was not tested.
    """

    label: str
    task_id: str
    completion: str
    differs_at: int | None = None
    verdict: str = ""


def generated(
    report: Report, read: ReadArtifact, answers: Mapping[str, TrialAnswers] | None = None
) -> tuple[Generated, ...]:
    """Completions of one valid trial of each cell, of at most 12 cells.

    They are those of the first prompt, and of the first prompt for which the tokens of any cell
    differ from the reference engine's.

    Args:
        report: which cells and trials there are.
        read: gives the runs' tables of generations.
        answers: run id to scores.

    Raises:
        SlmEnergyError: from `read`.
    """
    first: dict[str, str] = {}
    for trial in report.trials:
        if trial.outcome == "valid":
            first.setdefault(trial.cell, trial.run_id)
    cells = [cell for cell in report.cells if cell.id in first][:_MOST_CELLS]
    rows = [(cell, row) for cell in cells for row in _rows(read(first[cell.id], TABLE))]
    shown = [row["task_id"] for _, row in rows][:1]
    shown += [row["task_id"] for _, row in rows if row.get(DIFFERS_AT) is not None][:1]
    verdicts = {
        (cell.id, score.task_id): f"{score.verdict}: {score.why}".removesuffix(": ")
        for cell in cells
        if (own := (answers or {}).get(first[cell.id])) is not None
        for score in own.scores
    }
    return tuple(
        Generated(
            label=cell.label,
            task_id=str(task),
            completion=_cut(str(row["completion"])),
            differs_at=row.get(DIFFERS_AT),
            verdict=verdicts.get((cell.id, task), ""),
        )
        for task in dict.fromkeys(shown)
        for cell, row in rows
        if row["task_id"] == task
    )


def _rows(text: str) -> list[dict[str, Any]]:
    table = json.loads(text)
    return [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]


def _cut(text: str) -> str:
    more = len(text) - _MOST_CHARACTERS
    return f"{text[:_MOST_CHARACTERS]}\n... and {more:,} more characters" if more > 0 else text
