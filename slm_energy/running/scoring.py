"""Whether a trial's answers work: after its windows, and for trials that are stored already."""

from __future__ import annotations

import dataclasses
import functools
import math
import platform
import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
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
from slm_energy.scoring.score import VERSION, Job, score, tests_digest
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
        tasks = prompts.load_unchanged(config, trial.cell.workload_digest)
        (scores,) = _score_answers(
            [(config, tasks, generations)],
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
        tests=tests_digest(tasks) if scores else "",
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
        skipped: trials that had scores by these tests already, or whose tasks have no tests.
        refused: task to the reason why it cannot be scored here.
        left: run id to the reason why a trial could not be scored.
    """

    solved: dict[str, tuple[int, int]]
    skipped: int
    refused: dict[str, str]
    left: dict[str, str]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Asked:
    """What stored trials of one cell were asked, and the digest of today's tests of it."""

    config: WorkloadConfig
    tasks: Sequence[Task]
    tests: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Stored:
    """A stored trial that is to be scored: its row of the frame, and what its run has."""

    row: Mapping[Hashable, Any]
    asked: _Asked
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
    """Score the valid trials of a stored study that have no scores by today's tests yet.

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
    to_score, left = _to_score(store, rows.to_dict("records"))
    skipped = len(rows) - len(to_score) - len(left)
    if not to_score:
        return StudyScores(solved={}, skipped=skipped, refused={}, left=left)
    inputs = [(each.asked.config, each.asked.tasks, each.generations) for each in to_score.values()]
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


def _to_score(
    store: Store, rows: Iterable[Mapping[Hashable, Any]]
) -> tuple[dict[str, _Stored], dict[str, str]]:
    """The trials without scores by today's tests, and why some of them cannot be scored.

    Scores stay where today's tests cannot be had: they are by those of their time.
    """
    to_score, left = dict[str, _Stored](), dict[str, str]()
    load = functools.cache(workload.load)
    known = dict[tuple[Any, ...], _Asked]()
    for row in rows:
        run, has_scores = str(row["run_id"]), row["scored"] == str(VERSION)
        key = tuple(row.get(k) for k in ("cell", "workload.source", "workload.revision"))
        asked = known.get(key)
        try:
            if asked is None:
                asked = known[key] = _asked(store, row, load)
            if any(task.tests for task in asked.tasks) and not (
                has_scores and row["tests"] == asked.tests
            ):
                answers = store.artifact(run, artifacts.GENERATIONS.as_posix())
                generations = StoredGenerations(answers)
                to_score[run] = _Stored(row=row, asked=asked, generations=generations)
        except (SlmEnergyError, ValueError, TypeError, LookupError, yaml.YAMLError) as error:
            if asked is not None or not has_scores:
                left[run] = one_line(error, 500)  # a path must not cut off what is missing
    return to_score, left


def _asked(
    store: Store,
    row: Mapping[Hashable, Any],
    load: Callable[[WorkloadConfig], tuple[Task, ...]],
) -> _Asked:
    """What a trial was asked.

    Raises:
        SlmEnergyError, ValueError, TypeError, LookupError, yaml.YAMLError: it cannot be had, or the
            workload is another one now.
    """
    settings = yaml.safe_load(store.attached(str(row["run_id"]), artifacts.SETTINGS))
    config = from_plain(WorkloadConfig, settings["workload"])
    tasks = load(config)
    if prompts.digest(tasks, config) != row["workload.digest"]:
        raise ValueError(f"workload.source={config.source} has changed since")
    return _Asked(config=config, tasks=tasks, tests=tests_digest(tasks))


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
    tags = score_tags(scores, VERSION, stored.asked.tests)
    store.add(run, gone | solved.metrics(scores, own), files, tags)


def _scored_in(isolated: bool) -> str:
    sandbox = bubblewrap.version() if isolated else "none"
    return f"{sandbox}, Python {platform.python_version()}"


def _score_answers(
    trials: Sequence[tuple[WorkloadConfig, Sequence[Task], Sequence[Generation]]],
    cache: Path,
    *,
    isolated: bool,
    progress: Progress,
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
