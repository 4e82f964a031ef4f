"""Whether a trial's answers work: after its windows, and for trials that are stored already."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from slm_energy import prompts, workload
from slm_energy.config.groups import StudyConfig, WorkloadConfig
from slm_energy.derive import solved
from slm_energy.errors import ConfigError, WorkloadError
from slm_energy.machine import allowed_processors
from slm_energy.record import Record, TaskScore
from slm_energy.scoring import answer
from slm_energy.scoring.sandbox import SandboxError
from slm_energy.scoring.score import VERSION, Job, score
from slm_energy.serialization import from_plain, readable
from slm_energy.store.artifacts import SCORES, SETTINGS, TABLE
from slm_energy.store.mlflow_schema import score_tags
from slm_energy.store.tracking import Store
from slm_energy.tasks import Task

_KNOWN = "scores"
"""Folder of known verdicts in the cache."""


def scored(record: Record, study: StudyConfig) -> Record:
    """The record of a valid trial with its scores, or with the reason why it has none."""
    if record.outcome.name != "valid" or study.sandbox == "off" or record.capture is None:
        return record
    begun = time.monotonic()
    texts = {g.task_id: g.text or "" for g in record.capture.generations if g.pass_index == 0}
    trial = record.trial
    config = trial.cell.settings.workload
    try:
        (scores,) = score_texts(
            [(config, workload.load(config), texts)],
            Path(trial.cache_path),
            isolated=study.sandbox == "bubblewrap",
        )
    except (SandboxError, WorkloadError) as error:  # the trial itself is valid, and is kept
        return dataclasses.replace(record, unscored=str(error))
    return dataclasses.replace(
        record,
        scores=tuple(scores),
        scoring=VERSION if scores else 0,
        metrics=record.metrics | solved.metrics(scores, record.metrics),
        phases_s=record.phases_s | {"score": time.monotonic() - begun},
    )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class StudyScores:
    """The result of `score_study`.

    Attributes:
        solved: label of a cell to its solved and scored answers, over the trials scored now.
        skipped: trials that had scores already, or whose tasks have no tests.
        left: run id to the reason why a trial could not be scored.
    """

    solved: dict[str, tuple[int, int]]
    skipped: int
    left: dict[str, str]


def score_study(
    store: Store,
    study: str,
    cache: Path,
    *,
    isolated: bool,
    progress: Callable[[int, int], None],
) -> StudyScores:
    """Score the valid trials of a stored study that have no scores yet.

    Raises:
        TrackingError: there is no such study, or the store cannot be read or written.
        SandboxError: this machine cannot isolate them.
    """
    frame = store.frame(study)
    rows = frame[frame["outcome"] == "valid"] if len(frame) else frame
    to_score, left, skipped = dict[str, dict[Hashable, Any]](), dict[str, str](), 0
    inputs = dict[str, tuple[WorkloadConfig, Sequence[Task], Mapping[str, str]]]()
    load = functools.cache(workload.load)
    for row in rows.to_dict("records"):
        run = str(row["run_id"])
        if row["scored"] == str(VERSION):
            skipped += 1
            continue
        try:
            config = _workload(store, run)
            tasks = load(config)
            same = prompts.digest(tasks, config) == row["workload.digest"]
        except (ConfigError, WorkloadError) as error:
            left[run] = str(error)
            continue
        if not same:
            left[run] = f"workload.source={row['workload.source']} has changed since"
        elif not any(task.tests for task in tasks):
            skipped += 1
        else:
            to_score[run] = row
            inputs[run] = (config, tasks, _texts(store, run))
    results = score_texts([*inputs.values()], cache, isolated=isolated, progress=progress)
    solved_tasks = dict[str, tuple[int, int]]()
    for (run, row), scores in zip(to_score.items(), results, strict=True):
        label, values = str(row["label"]), _numbers(row)
        files = {SCORES: readable({"unscored": "", "scores": scores}).encode()}
        store.add(run, solved.metrics(scores, values), files, score_tags(scores, VERSION))
        passed, total = solved_tasks.get(label, (0, 0))
        own = [score for score in scores if score.verdict != "refused"]
        solved_tasks[label] = (passed + sum(s.solved for s in own), total + len(own))
    return StudyScores(solved=solved_tasks, skipped=skipped, left=left)


def _numbers(row: Mapping[Hashable, Any]) -> dict[str, float]:
    return {str(k): v for k, v in row.items() if isinstance(v, float) and math.isfinite(v)}


def _workload(store: Store, run: str) -> WorkloadConfig:
    settings = yaml.safe_load(store.attached(run, SETTINGS))
    return from_plain(WorkloadConfig, settings["workload"])


def _texts(store: Store, run: str) -> dict[str, str]:
    table = json.loads(store.attached(run, TABLE))
    at = {name: number for number, name in enumerate(table["columns"])}
    return {row[at["task_id"]]: row[at["completion"]] or "" for row in table["data"]}


def score_texts(
    trials: Sequence[tuple[WorkloadConfig, Sequence[Task], Mapping[str, str]]],
    cache: Path,
    *,
    isolated: bool,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[list[TaskScore]]:
    """Score several trials; equal answers once.

    Args:
        trials: how the model was asked, tasks, and task id to what was generated.
        cache: folder of the cache.
        isolated: see `score`.
        progress: called with the numbers of scored and of distinct answers.

    Returns:
        For each trial the scores of its tasks with tests.

    Raises:
        SandboxError: this machine cannot isolate them.
    """
    jobs = [
        [
            Job(task=task, program=answer.program(task, texts[task.task_id], config))
            for task in tasks
            if task.tests is not None and task.task_id in texts
        ]
        for config, tasks, texts in trials
    ]
    flat = [job for own in jobs for job in own]
    if not flat:
        return [[] for _ in jobs]
    workers = len(allowed_processors())
    scores = iter(
        score(flat, known=cache / _KNOWN, workers=workers, isolated=isolated, progress=progress)
    )
    return [[next(scores) for _ in own] for own in jobs]
