"""The reporting checklist of a stored study."""

from __future__ import annotations

import json

from slm_energy.analysis.checklist import Facts
from slm_energy.analysis.result.report import Report
from slm_energy.running.report import last_records
from slm_energy.store.reading import Readable


def study_facts(store: Readable, result: Report) -> Facts:
    """What `analysis.checklist.checklist` answers from.

    Args:
        store: has the study.
        result: its report, from `study_report`.

    Raises:
        TrackingError: a record was lost.
    """
    machines = result.machine.split(",")
    plans = [json.loads(plan) for m in machines for plan in store.plans(result.study, m)]
    return Facts(report=result, records=tuple(last_records(store, result)), plans=tuple(plans))
