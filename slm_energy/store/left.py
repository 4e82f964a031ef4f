"""Runs without an outcome: what a killed invocation left open, and twins of runs.

A request to create a run can reach the server although its answer is lost or late. MLflow then
repeats it, and the first run, the twin, never gets an outcome or a child. The twin is deleted, as a
user of the UI would: the UI shows each trial once, and `mlflow gc` frees the space. Among deleted
runs, a tag tells it from one that a user has deleted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from slm_energy.store import mlflow_schema
from slm_energy.store.runs import search

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


def settle(client: MlflowClient, studies: Sequence[str], machine: str) -> None:
    """Delete twins, and end the runs of a machine that an earlier invocation left open.

    A twin has a sibling with an outcome, or with trials, so that deleting it is safe whichever
    machine sent it. Without such a sibling a run of this machine is ended as `KILLED`, which is
    the status of what an earlier version took for left open.

    Args:
        client: of the store.
        studies: ids of the experiments to look at.
        machine: the caller holds its lock, so that no other process is writing its runs.
    """
    killed = f"attributes.status = 'KILLED' and tags.`slm.kind` = '{mlflow_schema.TRIAL}'"
    for query in ("attributes.status = 'RUNNING'", killed):
        for run in search(client, studies, query):
            if _is_twin(client, run):
                delete(client, run)
            elif run.info.status == "RUNNING" and run.data.tags.get("slm.machine") == machine:
                client.set_terminated(run.info.run_id, status="KILLED")


def delete(client: MlflowClient, run: Run) -> None:
    """Delete a run that another one of the same trial or invocation replaces."""
    from mlflow.exceptions import MlflowException

    why = "incomplete: a request or transfer was repeated; another run has all of it"
    try:
        client.set_tag(run.info.run_id, mlflow_schema.DELETED, why)
    except MlflowException:  # a deleted run takes no tag: another process may have been faster
        if client.get_run(run.info.run_id).info.lifecycle_stage == "active":
            raise
    client.delete_run(run.info.run_id)


def _is_twin(client: MlflowClient, run: Run) -> bool:
    """Whether a run has nothing, and another run of the same trial or invocation has all."""
    tags = run.data.tags
    if tags.get("slm.kind") == mlflow_schema.TRIAL:
        return "slm.outcome" not in tags and any(
            "slm.outcome" in sibling.data.tags for sibling in _siblings(client, run, "slm.trial")
        )
    if tags.get("slm.kind") != mlflow_schema.SWEEP or _has_trials(client, run):
        return False
    return any(_has_trials(client, sibling) for sibling in _siblings(client, run, "slm.sweep"))


def _siblings(client: MlflowClient, run: Run, tag: str) -> list[Run]:
    kind, value = run.data.tags["slm.kind"], run.data.tags[tag]
    query = f"tags.`slm.kind` = '{kind}' and tags.`{tag}` = '{value}'"
    found = search(client, [run.info.experiment_id], query)
    return [each for each in found if each.info.run_id != run.info.run_id]


def _has_trials(client: MlflowClient, run: Run) -> bool:
    query = f"tags.`mlflow.parentRunId` = '{run.info.run_id}'"
    return len(client.search_runs([run.info.experiment_id], query, max_results=1)) > 0
