"""Whether a trial's answers work: after its windows, and for trials that are stored already."""

from __future__ import annotations

import dataclasses
import functools
import math
import platform
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from slm_energy import cpu_quota, prompts, workload
from slm_energy.config.groups import StudyConfig, WorkloadConfig
from slm_energy.derive import solved
from slm_energy.errors import SlmEnergyError, one_line
from slm_energy.machine import measuring
from slm_energy.record import Generation, Record, TaskScore
from slm_energy.scoring import answer, bubblewrap
from slm_energy.scoring.score import VERSION, Job, score
from slm_energy.serialization import from_plain
from slm_energy.store import artifacts
from slm_energy.store.capture_files import StoredGenerations
from slm_energy.store.mlflow_schema import score_tags
from slm_energy.store.tracking import Store
from slm_energy.tasks import Task

_KNOWN = "scores"
"""Folder of known verdicts in the cache."""

Progress = Callable[[int, int], None]
"""Called with the numbers of scored and of distinct answers."""


def scored(
    record: Record, study: StudyConfig, progress: Progress = lambda done, total: None
) -> Record:
    """The record of a valid trial with its scores, or with the reason why it has none."""
    if record.outcome.name != "valid" or study.sandbox == "off" or record.capture is None:
        return record
    begun = time.monotonic()
    generations = record.capture.generations
    trial, isolated = record.trial, study.sandbox == "bubblewrap"
    config = trial.cell.settings.workload
    try:
        (scores,) = _score_answers(
            [(config, workload.load(config), generations)],
            Path(trial.cache_path),
            isolated=isolated,
            progress=progress,
        )
        where = _scored_in(isolated) if scores else ""
    except SlmEnergyError as error:  # the trial itself is valid, and is kept
        return dataclasses.replace(record, unscored=str(error))
    except KeyboardInterrupt as error:
        raise Interrupted(record) from error
    return dataclasses.replace(
        record,
        scores=tuple(solved.with_time_shares(scores, generations)),
        scoring=VERSION if scores else 0,
        scored_in=where,
        unscored=_refused_tasks(scores),
        metrics=record.metrics | solved.metrics(scores, record.metrics),
        phases_s=record.phases_s | {"score": time.monotonic() - begun},
    )


def _refused_tasks(scores: Sequence[TaskScore]) -> str:
    """One line about the tasks that cannot be scored here; empty if there are none."""
    refused = [score for score in scores if score.verdict == "refused"]
    if not refused:
        return ""
    first = refused[0]
    return f"{len(refused)} of {len(scores)} tasks are refused: {first.task_id} {first.why}"


class Interrupted(Exception):
    """The user stopped the scoring of a trial; what was measured is in `record`."""

    def __init__(self, record: Record) -> None:
        """Take a valid record without scores."""
        study = record.trial.study
        why = f"scoring was interrupted: slm-energy score study={study} scores this trial"
        self.record = dataclasses.replace(record, unscored=why)
        super().__init__(why)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class StudyScores:
    """The result of `score_study`.

    Attributes:
        solved: label of a cell to its solved and scored answers, over the trials scored now.
        skipped: trials that had scores already, or whose tasks have no tests.
        refused: task to the reason why it cannot be scored here.
        left: run id to the reason why a trial could not be scored.
    """

    solved: dict[str, tuple[int, int]]
    skipped: int
    refused: dict[str, str]
    left: dict[str, str]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Stored:
    """A stored trial that is to be scored: its row of the frame, and what its run has."""

    row: Mapping[Hashable, Any]
    config: WorkloadConfig
    tasks: Sequence[Task]
    generations: Sequence[Generation]


def score_study(
    store: Store,
    study: str,
    cache: Path,
    *,
    isolated: bool,
    progress: Progress,
    busy: Callable[[Path], None],
) -> StudyScores:
    """Score the valid trials of a stored study that have no scores of this version yet.

    Holds the lock of this machine while it scores: the work would be in other sweeps' windows.

    Args:
        store: has the study.
        study: its name.
        cache: folder of the cache.
        isolated: see `score`.
        progress: see `Progress`.
        busy: called if a sweep is measuring on this machine, see `machine.measuring`.

    Raises:
        TrackingError: there is no such study, or the store cannot be written.
        SandboxError: this machine cannot isolate them.
    """
    frame = store.frame(study)
    rows = frame[frame["outcome"] == "valid"] if len(frame) else frame
    to_score, left, skipped = dict[str, _Stored](), dict[str, str](), 0
    load = functools.cache(workload.load)
    for row in rows.to_dict("records"):
        run = str(row["run_id"])
        if row["scored"] == str(VERSION):
            skipped += 1
            continue
        try:
            stored = _stored(store, row, load)
        except (SlmEnergyError, ValueError, TypeError, LookupError, yaml.YAMLError) as error:
            left[run] = one_line(error, 500)  # a path must not cut off what is missing
            continue
        if any(task.tests for task in stored.tasks):
            to_score[run] = stored
        else:
            skipped += 1
    if not to_score:
        return StudyScores(solved={}, skipped=skipped, refused={}, left=left)
    inputs = [(stored.config, stored.tasks, stored.generations) for stored in to_score.values()]
    with measuring(busy):
        results = _score_answers(inputs, cache, isolated=isolated, progress=progress)
    counts, refused = dict[str, tuple[int, int]](), dict[str, str]()
    for (run, stored), scores in zip(to_score.items(), results, strict=True):
        _add(store, run, stored, scores, _scored_in(isolated))
        label = str(stored.row["label"])
        passed, total = counts.get(label, (0, 0))
        own = [score for score in scores if score.verdict != "refused"]
        refused |= {s.task_id: s.why for s in scores if s.verdict == "refused"}
        counts[label] = (passed + sum(s.solved for s in own), total + len(own))
    return StudyScores(solved=counts, skipped=skipped, refused=refused, left=left)


def _stored(
    store: Store,
    row: Mapping[Hashable, Any],
    load: Callable[[WorkloadConfig], tuple[Task, ...]],
) -> _Stored:
    """What scoring needs of a trial.

    Raises:
        SlmEnergyError, ValueError, TypeError, LookupError, yaml.YAMLError: it cannot be had, or the
            workload is another one now.
    """
    run = str(row["run_id"])
    settings = yaml.safe_load(store.attached(run, artifacts.SETTINGS))
    config = from_plain(WorkloadConfig, settings["workload"])
    tasks = load(config)
    if prompts.digest(tasks, config) != row["workload.digest"]:
        raise ValueError(f"workload.source={config.source} has changed since")
    generations: Sequence[Generation] = ()
    if any(task.tests for task in tasks):
        generations = StoredGenerations(store.artifact(run, artifacts.GENERATIONS.as_posix()))
    return _Stored(row=row, config=config, tasks=tasks, generations=generations)


def _add(
    store: Store, run: str, stored: _Stored, scores: Sequence[TaskScore], scored_in: str
) -> None:
    """Add scores to a stored trial, as a trial that is scored at once has them."""
    values = {str(k): v for k, v in stored.row.items() if isinstance(v, float)}
    known = {name: value for name, value in values.items() if math.isfinite(value)}
    # MLflow cannot remove what another version of the scoring stored and this one does not know.
    gone = dict.fromkeys(filter(solved.is_of_scores, known), math.nan)
    own = {name: value for name, value in known.items() if name not in gone}
    files = {
        artifacts.SCORES: artifacts.scores_text(
            solved.with_time_shares(scores, stored.generations), scored_in, _refused_tasks(scores)
        ).encode()
    }
    store.add(run, gone | solved.metrics(scores, own), files, score_tags(scores, VERSION))


def _scored_in(isolated: bool) -> str:
    sandbox = bubblewrap.version() if isolated else "none"
    return f"{sandbox}, Python {platform.python_version()}"


def _score_answers(
    trials: Sequence[tuple[WorkloadConfig, Sequence[Task], Sequence[Generation]]],
    cache: Path,
    *,
    isolated: bool,
    progress: Progress = lambda done, total: None,
) -> list[list[TaskScore]]:
    """Score several trials; equal answers once.

    Args:
        trials: how the model was asked, tasks, and what was generated; the first pass is scored.
        cache: folder of the cache.
        isolated: see `score`.
        progress: see `Progress`.

    Returns:
        For each trial the scores of its tasks with tests.

    Raises:
        SandboxError: this machine cannot isolate them.
    """
    jobs = [_jobs(*trial) for trial in trials]
    flat = [job for own in jobs for job in own]
    if not flat:
        return [[] for _ in jobs]
    workers = cpu_quota.usable_processors()
    scores = iter(
        score(flat, known=cache / _KNOWN, workers=workers, isolated=isolated, progress=progress)
    )
    return [[next(scores) for _ in own] for own in jobs]


def _jobs(
    config: WorkloadConfig, tasks: Sequence[Task], generations: Sequence[Generation]
) -> list[Job]:
    """The answers of a trial's first pass to tasks with tests."""
    texts = {g.task_id: g.text or "" for g in generations if g.pass_index == 0}
    return [
        Job(task=task, program=answer.program(task, texts[task.task_id], config))
        for task in tasks
        if task.tests is not None and task.task_id in texts
    ]
