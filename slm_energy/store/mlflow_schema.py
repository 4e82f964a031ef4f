"""The MLflow form of a record: tags, params, metrics and series as plain names and values.

Pure functions; `tracking.py` sends their results.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, cast

from slm_energy.cell import cell_levels
from slm_energy.metric_catalog.catalog import WINDOWS, describe
from slm_energy.metric_catalog.definition import DEVICES, ESTIMATED, MEASURED, SUMS, energy_name
from slm_energy.planning.plan import EnergyKind, Past
from slm_energy.record import EnergyFigure, OutcomeName, Record, Series, TaskScore
from slm_energy.scope import Scope, of_domains, of_figures
from slm_energy.serialization import from_plain, to_plain
from slm_energy.store.artifacts import TABLE

TRIAL, SWEEP = "trial", "sweep"
PLAN_FILE = "plan.json"
"""Artifact of a parent run: the plan of its invocation, and what it depends on."""
STOPPED = "slm.stopped"
"""Tag of a parent run: why the study ended before its last round (`study.precision_pct`)."""
DELETED = "slm.deleted"
"""Tag of a run that this program deleted: the reason."""

SCORED = "slm.scored"
"""Tag of a trial with scores: the version of the scoring."""
TESTS = "slm.tests"
"""Tag of a trial with scores: digest of the tests used (`score.tests_digest`)."""
VERDICTS = "slm.verdicts"
"""Tag of a trial with scores: hash of which tasks are solved; equal hashes mean equal verdicts."""
SCOPE = "slm.scope_parts"
"""Tag of a trial: the devices that its sum covers, as JSON (`scope.Scope`)."""
MEASURED_TAG = "slm.measured"
"""Tag of a trial, and of a parent run: the same in words."""

INTERRUPTED = "interrupted"
"""Reason of a failed trial that a user stopped: it does not count as an attempt."""

_SERIES_POINTS = 300
_NOTED = (
    f"{MEASURED}/per_output_token_j",
    f"{DEVICES}/per_output_token_j",
    f"{ESTIMATED}/per_output_token_j",
    f"{MEASURED}/per_solved_j",
    f"{DEVICES}/per_solved_j",
    f"{ESTIMATED}/per_solved_j",
    "latency/ttft_p50_s",
    "throughput/output_tokens_per_s",
    "quality/pass_at_1",
)
_KINDS = {MEASURED: " (measured)", DEVICES: " (measured)", ESTIMATED: " (estimated)"}


class Point(NamedTuple):
    """One value of a series, in the order of MLflow's own constructor."""

    name: str
    value: float
    unix_ms: int
    step: int


def sweep_tags(
    study: str, sweep: str, machine: str, plan: str | None, measured: str = ""
) -> dict[str, str]:
    """Tags of a parent run.

    Args:
        study: its study.
        sweep: its id.
        machine: where its trials run.
        plan: the digest of what its plan depends on, if there is one.
        measured: the scope of its sums in words; empty if it is not known.
    """
    known = {"plan": plan or "", "measured": measured}
    present = {key: value for key, value in known.items() if value}
    return _tags(kind=SWEEP, study=study, sweep=sweep, machine=machine, **present)


def tags(record: Record, machine: str) -> dict[str, str]:
    """Tags of a trial except `slm.outcome`, which is written after everything else."""
    trial = record.trial
    result = _tags(
        kind=TRIAL,
        trial=trial.id,
        study=trial.study,
        sweep=trial.sweep,
        cell=trial.cell.id,
        label=trial.label,
        round=str(trial.round),
        order=str(trial.order),
        attempt=str(trial.attempt),
        machine=machine,
        plan=trial.plan,
        schema=str(record.schema),
    )
    if record.outcome.reasons:
        result["slm.reason"] = "; ".join(record.outcome.reasons)[:4000]
    flags = [f"{check.name}: {check.detail}" for check in record.checks if check.flagged]
    if flags:
        result["slm.flags"] = "; ".join(flags)[:4000]
    if record.scores:
        result |= score_tags(record.scores, record.scoring, record.tests)
    result |= _scope_tags(record)
    if record.job:
        result |= _tags(node=record.node, job=record.job, node_kind=record.node_kind)
    if record.restarts:
        result |= _tags(restarts=str(record.restarts))
    if record.ended_by:
        result |= _tags(ended_by=record.ended_by)
    if interrupted(record) or record.ended_by:
        result["slm.interrupted"] = "true"
    if record.capture is not None:
        result["mlflow.loggedArtifacts"] = json.dumps([{"path": TABLE, "type": "table"}])
    result["mlflow.note.content"] = _note(record)
    return result


def score_tags(scores: Sequence[TaskScore], version: int, tests: str) -> dict[str, str]:
    """Tags of a trial with scores: `version` of the scoring, `tests` as `score.tests_digest`."""
    verdicts = json.dumps([(score.task_id, score.verdict) for score in scores])
    digest = hashlib.sha256(verdicts.encode()).hexdigest()[:16]
    return {SCORED: str(version), TESTS: tests, VERDICTS: digest}


def _scope_tags(record: Record) -> dict[str, str]:
    """What the sum of a trial covers; `slm.scope` has the domains only."""
    scope = scope_of(record.energy, interchangeable=bool(record.job))
    if scope is None:
        return {}
    domains = {"slm.scope": "+".join(sorted(scope.domains))} if scope.kind == "measured" else {}
    return domains | {SCOPE: json.dumps(to_plain(scope)), MEASURED_TAG: scope.words}


def scope_of(energy: Iterable[EnergyFigure], *, interchangeable: bool) -> Scope | None:
    """The scope of a trial's sum.

    Args:
        energy: its figures.
        interchangeable: it ran as a cluster's job: the nodes are one machine, and their devices
            are equal if name and number are.
    """
    scope = of_figures(energy)
    return scope.of_any_node() if scope is not None and interchangeable else scope


def stored_scope(tags: Mapping[str, str]) -> Scope | None:
    """The scope in a trial's tags; of one that an older version stored, only the domains."""
    if SCOPE in tags:
        return from_plain(Scope, json.loads(tags[SCOPE]))
    return of_domains(tags["slm.scope"].split("+")) if "slm.scope" in tags else None


def noise_floor_tag(machine: str) -> str:
    """Tag of the parent run of an A/A study: how much one cell under several names differs.

    It names the machine, because the trials of a study may come from several.
    """
    return f"slm.noise_floor.{machine}"


def interrupted(record: Record) -> bool:
    """Whether a user stopped the trial."""
    return record.outcome.reasons == (INTERRUPTED,)


def _tags(**values: str) -> dict[str, str]:
    return {f"slm.{key}": value for key, value in values.items()}


def _note(record: Record) -> str:
    """The description at the top of the run's page, in Markdown."""
    lines = [f"**{record.outcome.name}**: {record.trial.label}, round {record.trial.round}", ""]
    lines += [f"- {reason}" for reason in record.outcome.reasons]
    lines += [f"- flagged, {c.name}: {c.detail}" for c in record.checks if c.flagged]
    lines += [f"- {_figure(name, record)}" for name in _NOTED if name in record.metrics]
    scope = scope_of(record.energy, interchangeable=bool(record.job))
    lines += [] if scope is None else [f"- energy of: {scope.words}"]
    return "\n".join(lines)


def _figure(name: str, record: Record) -> str:
    metric = describe(name)
    kind = _KINDS.get(metric.group, "")
    value = record.metrics[name] * metric.unit.scale
    return f"{metric.title}{kind}: {value:.4g} {metric.unit.shown}"


def params(record: Record) -> dict[str, str]:
    """Resolved settings under dotted keys, library versions, digests."""
    cell = record.trial.cell
    digests = {"model.digest": cell.model_digest, "workload.digest": cell.workload_digest}
    return {key: str(value)[:6000] for key, value in (cell_levels(cell) | digests).items()}


def metrics(record: Record) -> dict[str, float]:
    """The record's metrics and the length of the trial, also of a failed one."""
    values = record.metrics | {
        f"time/phase_{name}_s": seconds for name, seconds in record.phases_s.items()
    }
    whole_s = record.duration_s
    if whole_s is not None:
        values["time/trial_s"] = whole_s
    if whole_s is not None and record.capture is not None:
        inside_s = sum(window.duration_s for window in record.capture.windows)
        values["time/outside_windows_s"] = whole_s - inside_s
    return values


_GROUPS: dict[EnergyKind, tuple[str, ...]] = {
    "measured": (MEASURED, DEVICES),
    "estimated": (ESTIMATED,),
}
_JOULES = {
    kind: tuple(energy_name(group, window, SUMS[group]) for group in groups for window in WINDOWS)
    for kind, groups in _GROUPS.items()
}
PAST_TAGS = ("slm.cell", "slm.round", "slm.outcome", "slm.reason", "slm.interrupted")
PAST_PARAMS = ("model.name",)
PAST_METRICS = ("time/trial_s", *_JOULES["measured"], *_JOULES["estimated"])
"""What `past` reads."""


def past(tags: Mapping[str, str], params: Mapping[str, str], metrics: Mapping[str, float]) -> Past:
    """What a plan needs to know about an earlier trial, from its run's data in MLflow."""
    took_s = metrics.get("time/trial_s")
    return Past(
        cell=tags["slm.cell"],
        model=params.get("model.name", ""),
        round=int(tags["slm.round"]),
        outcome=cast("OutcomeName", tags["slm.outcome"]),
        reason=tags.get("slm.reason", ""),
        # Earlier versions stored the difference of two dates, which may be negative.
        duration_s=took_s if took_s is not None and took_s > 0 else None,
        joules=joules(metrics),
        interrupted=tags.get("slm.interrupted") == "true",
    )


def past_of(record: Record) -> Past:
    """`past` of a record that is not in MLflow yet; it needs neither capture nor checks."""
    outcome = {"slm.outcome": record.outcome.name}
    return past(tags(record, machine="") | outcome, params(record), metrics(record))


def joules(metrics: Mapping[str, float]) -> dict[EnergyKind, float]:
    """Joules inside a trial's windows, from its metrics; measured and estimated kept apart."""
    sums: dict[EnergyKind, float] = {}
    for kind, names in _JOULES.items():
        totals = [metrics[name] for name in names if name in metrics]
        if totals:
            sums[kind] = math.fsum(totals)
    return sums


def system_series(record: Record) -> list[Point]:
    """Gauges, thinned, under the `system/` names that MLflow's System metrics tab expects."""
    if record.capture is None:
        return []
    offset_ns = record.capture.clock.unix_ns - record.capture.clock.monotonic_ns
    return [
        Point(f"system/{series.source.id}", value, (time_ns + offset_ns) // 1_000_000, step)
        for series in record.capture.series
        if series.source.kind == "gauge"
        for step, (time_ns, value) in enumerate(thinned(series))
    ]


def thinned(series: Series) -> list[tuple[int, float]]:
    """At most 300 readings of a series, evenly spaced: pairs of monotonic ns and value."""
    pairs = zip(series.before_ns, series.raw, strict=True)
    known = [(time_ns, float(raw)) for time_ns, raw in pairs if raw is not None]
    stride = -(-len(known) // _SERIES_POINTS) or 1
    return known[::stride]
