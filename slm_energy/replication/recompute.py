"""A record as its capture gives it, with the code at hand."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable

from slm_energy.derive import solved
from slm_energy.record import Outcome, Record
from slm_energy.running.trial import derive

_REPEATED = "repeated: "
"""How the reason of a trial begins that the store refused (`tracking.Store.store`)."""
_SAME = 1e-9


def recomputed(claimed: Record) -> Record:
    """What a record's capture gives: joules, metrics, checks, outcome; the rest as it is."""
    if claimed.capture is None:
        return dataclasses.replace(claimed, energy=(), metrics={}, checks=())
    fresh = derive(claimed.trial, claimed.capture, claimed.started_unix_ns)
    metrics, scores = fresh.metrics, claimed.scores
    if scores:
        scores = tuple(solved.with_time_shares(scores, claimed.capture.generations))
        metrics = metrics | solved.metrics(scores, metrics)
    return dataclasses.replace(
        claimed,
        outcome=_outcome(fresh.outcome, claimed.outcome),
        energy=fresh.energy,
        metrics=metrics,
        checks=fresh.checks,
        scores=scores,
    )


def _outcome(fresh: Outcome, claimed: Outcome) -> Outcome:
    """A valid trial may have been refused, because its cell and round had a valid one."""
    refused = claimed.name == "invalid" and bool(claimed.reasons)
    refused = refused and all(reason.startswith(_REPEATED) for reason in claimed.reasons)
    return claimed if fresh.name == "valid" and refused else fresh


def changes(pairs: Iterable[tuple[Record, Record]]) -> tuple[str, ...]:
    """What computing records again has changed, one line each; empty where nothing has.

    Args:
        pairs: each record as stored, and as computed again.
    """
    lines, changed, largest = list[str](), 0, (0.0, "")
    for stored, fresh in pairs:
        if stored.outcome != fresh.outcome:
            reasons = "; ".join(fresh.outcome.reasons)
            was = f"{stored.trial.label}, round {stored.trial.round}, was {stored.outcome.name}"
            now = fresh.outcome.name + (f": {reasons}" if reasons else "")
            lines.append(f"{was} and is {now}.")
        moved = [
            (abs(fresh.metrics[name] - value) / abs(value) if value else math.inf, name)
            for name, value in stored.metrics.items()
            if name in fresh.metrics and not math.isclose(value, fresh.metrics[name], rel_tol=_SAME)
        ]
        if moved or stored.metrics.keys() != fresh.metrics.keys():
            changed += 1
            largest = max([largest, *moved])
    if changed:
        share, name = largest
        most = f": the largest change is {100 * share:.3g} % of {name}" if name else ""
        most = f": {name} was 0" if share == math.inf else most
        lines.append(
            f"{changed} trials were stored by another version, whose metrics differ from those of"
            f" this package{most}."
        )
    return tuple(lines)
