"""Large studies for benchmarks: copies of one real trial, made by SQL in MLflow's own tables.

A trial of the store is what a trial of a sweep is, with another id, cell, round and values, but for
its curves: of what was sampled, and not measured, only the latest value is copied.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterable
from typing import NamedTuple

import sqlalchemy


class Copy(NamedTuple):
    """One trial to be made.

    Attributes:
        run: its run id, and its own.
        cell: id of its cell.
        label: the cell's name.
        model: name of its model.
        engine: name of its engine.
        batch: its batch size.
        round: from 1.
        number: place over all rounds, from 1; a second lies between two.
        factor: what the values of its metrics are multiplied by.
        valid: its outcome; else it is invalid, and says why.
    """

    run: str
    cell: str
    label: str
    model: str
    engine: str
    batch: int
    round: int
    number: int
    factor: float
    valid: bool = True


def run_id(generator: random.Random) -> str:
    """A run id of its own."""
    return uuid.UUID(int=generator.getrandbits(128)).hex


def make(
    uri: str, source: str, study: str, experiment: str, parent: str, copies: Iterable[Copy]
) -> None:
    """Copy a trial.

    Args:
        uri: the store's database.
        source: run id of what is copied.
        study: name of the copies' study.
        experiment: its id.
        parent: run id of their sweep.
        copies: what differs.
    """
    values = {"source": source, "study": study, "parent": parent, "experiment": int(experiment)}
    with sqlalchemy.create_engine(uri).begin() as base:
        base.execute(sqlalchemy.text(
            "CREATE TEMPORARY TABLE copied (run TEXT, cell TEXT, label TEXT, model TEXT,"
            " engine TEXT, batch BIGINT, round BIGINT, number BIGINT, factor DOUBLE PRECISION,"
            " valid BOOLEAN)"
        ))  # fmt: skip
        names = ", ".join(f":{name}" for name in Copy._fields)
        rows = [copy._asdict() for copy in copies]
        base.execute(sqlalchemy.text(f"INSERT INTO copied VALUES ({names})"), rows)
        for statement in _STATEMENTS:
            base.execute(sqlalchemy.text(statement), values)
        base.execute(sqlalchemy.text("DROP TABLE copied"))


_STATEMENTS = (
    """INSERT INTO runs (run_uuid, name, source_type, source_name, entry_point_name, user_id,
    status, start_time, end_time, source_version, lifecycle_stage, artifact_uri, experiment_id,
    deleted_time)
    SELECT c.run, c.label, source_type, source_name, entry_point_name, user_id, status,
    start_time + 1000 * c.number, end_time + 1000 * c.number, source_version, lifecycle_stage,
    artifact_uri, :experiment, deleted_time
    FROM runs, copied c WHERE run_uuid = :source ORDER BY c.number""",
    """INSERT INTO tags (key, value, run_uuid)
    SELECT key, CASE key WHEN 'slm.study' THEN :study WHEN 'slm.cell' THEN c.cell
    WHEN 'slm.label' THEN c.label WHEN 'slm.round' THEN CAST(c.round AS TEXT)
    WHEN 'slm.order' THEN CAST(c.number AS TEXT) WHEN 'slm.trial' THEN c.run
    WHEN 'slm.outcome' THEN CASE WHEN c.valid THEN 'valid' ELSE 'invalid' END
    WHEN 'mlflow.parentRunId' THEN :parent ELSE value END,
    c.run FROM tags, copied c WHERE run_uuid = :source ORDER BY c.number""",
    """INSERT INTO tags (key, value, run_uuid)
    SELECT 'slm.reason', 'copied as invalid', run FROM copied WHERE NOT valid""",
    """INSERT INTO params (key, value, run_uuid)
    SELECT key, CASE key WHEN 'model.name' THEN c.model WHEN 'engine.name' THEN c.engine
    WHEN 'workload.batch_size' THEN CAST(c.batch AS TEXT) ELSE value END,
    c.run FROM params, copied c WHERE run_uuid = :source ORDER BY c.number""",
    """INSERT INTO latest_metrics (key, value, timestamp, step, is_nan, run_uuid)
    SELECT key, value * c.factor, timestamp, step, is_nan,
    c.run FROM latest_metrics, copied c WHERE run_uuid = :source ORDER BY c.number""",
    """INSERT INTO metrics (key, value, timestamp, step, is_nan, run_uuid)
    SELECT key, value * c.factor, timestamp, step, is_nan,
    c.run FROM metrics, copied c WHERE run_uuid = :source
    AND substr(key, 1, 7) <> 'system/' ORDER BY c.number""",
)
