"""What the sentinel shows: one cell that runs once more at the start of each round.

It is compared with nothing, because its position in a round is not random. Nothing but the machine
changes from one of its trials to the next, so its slope over time is the machine's drift.
"""

from __future__ import annotations

import numpy as np

from slm_energy.analysis.result.diagnostics import Drift, Sentinel
from slm_energy.analysis.result.metric import Metric
from slm_energy.analysis.stats.diagnostics import trial_points
from slm_energy.analysis.stats.drift import slope
from slm_energy.analysis.trials import blocks
from slm_energy.analysis.trials.frame import Study, started


def sentinel_drift(study: Study, metric: Metric, alpha: float) -> Sentinel | None:
    """One metric of a study's sentinel; None without a sentinel or a value.

    Drift is against the time at which trials began, not against their position in the plan: a round
    may have been run days after the one before it.
    """
    if study.sentinel is None:
        return None
    own = study.sentinel
    trials = own.valid[started(own.valid).notna()]
    values, _ = blocks.block(own, metric)
    points = trial_points(values, blocks.trial_facts(trials))
    if not points:
        return None
    begun = dict(zip(trials["run_id"].astype(str), started(trials), strict=True))
    since = np.array([(begun[p.run_id] - begun[points[0].run_id]).total_seconds() for p in points])
    span_s = float(np.ptp(since))
    drift: Drift | None = None
    if span_s > 0:
        logs = np.log([point.value for point in points])
        cells = np.unique([point.cell for point in points], return_inverse=True)[1]
        drift = slope("time", logs, since / span_s, [cells], alpha)
    return Sentinel(label=own.core(points[0].cell), hours=span_s / 3600, points=points, drift=drift)
