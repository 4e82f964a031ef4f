"""What cells generated: one completion each, for a person to look at. Untrusted text."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable

from slm_energy.analysis.result import Report
from slm_energy.artifacts import TABLE

_MOST_CELLS = 12
_MOST_CHARACTERS = 2000

ReadArtifact = Callable[[str, str], str]
"""Run id and name of an artifact to its text, such as `tracking.Store.attached`."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Generated:
    """What one cell generated for one prompt.

    Attributes:
        label: the cell's name.
        task_id: which prompt.
        completion: what the model wrote, at most 2,000 characters of it.
    """

    label: str
    task_id: str
    completion: str


def generated(report: Report, read: ReadArtifact) -> tuple[Generated, ...]:
    """The first completion of one valid trial of each cell, of at most 12 cells.

    Args:
        report: which cells and trials there are.
        read: gives the runs' tables of generations.

    Raises:
        SlmEnergyError: from `read`.
    """
    first: dict[str, str] = {}
    for trial in report.trials:
        if trial.outcome == "valid":
            first.setdefault(trial.cell, trial.run_id)
    found = []
    for cell in [cell for cell in report.cells if cell.id in first][:_MOST_CELLS]:
        table = json.loads(read(first[cell.id], TABLE))
        if not table["data"]:
            continue
        row = dict(zip(table["columns"], table["data"][0], strict=True))
        text = str(row["completion"])
        more = len(text) - _MOST_CHARACTERS
        if more > 0:
            text = f"{text[:_MOST_CHARACTERS]}\n... and {more:,} more characters"
        found.append(Generated(label=cell.label, task_id=str(row["task_id"]), completion=text))
    return tuple(found)
