"""The trials of several machines as one study: each cell is one on its machine.

Machines share no round, so their rounds are numbered on, and nothing but `across_machines` compares
cells of two.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence

import pandas as pd

from slm_energy.analysis.result.design import Audit
from slm_energy.analysis.trials.frame import Study, study_of, tidy
from slm_energy.cell import MACHINE


def one_study(raw: pd.DataFrame, study: str, machines: Sequence[str]) -> Study:
    """Choose the trials that count, machine by machine: see `frame.tidy`.

    The sentinels, which show the drift of one machine each, are left out.

    Args:
        raw: what `tracking.Store.frame` returns.
        study: its name, for messages.
        machines: whose trials.

    Raises:
        AnalysisError: one of them has no valid trial.
    """
    own = [tidy(raw, study, machine) for machine in machines]
    frames, audits, begun = [], [], 0
    for each in own:
        rounds = each.trials["round"]
        frames.append(
            each.trials.assign(
                cell=[on_machine(cell, each.machine) for cell in each.trials["cell"]],
                round=rounds.mask(rounds > 0, rounds + begun),
                **{MACHINE: each.machine},
            )
        )
        audits.append(_moved(each, begun))
        begun += len(each.rounds)
    merged = study_of(pd.concat(frames, ignore_index=True), study, " and ".join(machines))
    return dataclasses.replace(
        merged,
        audit=_joined(audits),
        repeated=sum(each.repeated for each in own),
        other_scopes=tuple(
            dataclasses.replace(out, name=f"{out.name} on {each.machine}")
            for each in own
            for out in each.other_scopes
        ),
        scopes={each.machine: each.scope for each in own},
    )


def on_machine(cell: str, machine: str) -> str:
    """The id of a cell on a machine."""
    return f"{cell}@{machine}"


def _moved(study: Study, rounds: int) -> Audit:
    """The audit of a machine whose rounds are numbered on from these."""
    slots = tuple(
        dataclasses.replace(
            slot,
            cell=on_machine(slot.cell, study.machine),
            round=slot.round and slot.round + rounds,
        )
        for slot in study.audit.slots
    )
    return dataclasses.replace(
        study.audit,
        rounds=tuple(number + rounds for number in study.audit.rounds),
        complete_rounds=tuple(number + rounds for number in study.audit.complete_rounds),
        slots=slots,
    )


def _joined(audits: Sequence[Audit]) -> Audit:
    late = [audit.late for audit in audits]
    varied = [audit.varied_order for audit in audits]
    return Audit(
        rounds=tuple(number for audit in audits for number in audit.rounds),
        complete_rounds=tuple(number for audit in audits for number in audit.complete_rounds),
        slots=tuple(slot for audit in audits for slot in audit.slots),
        outcomes=dict(sum((Counter(audit.outcomes) for audit in audits), Counter())),
        late=None if None in late else sum(each for each in late if each is not None),
        varied_order=None if None in varied else all(varied),
    )
