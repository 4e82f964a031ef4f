"""The only module that speaks to MLflow: where records go, and where they come back from.

    experiment   a study
    parent run   one invocation of a sweep: plan, report
    child run    one trial; the tag `slm.outcome` is written last, and resume trusts only that

No fluent active run, no autologging; explicit run ids. SQLite stores are created under a lock.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from filelock import FileLock

from slm_energy import fields
from slm_energy.config import TrackingConfig
from slm_energy.errors import TrackingError, one_line
from slm_energy.plain import write_files
from slm_energy.plan import Past
from slm_energy.record import OutcomeName, Record

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient
    from mlflow.entities import Run

_BATCH = 1000
_NOTE_LENGTH = 8000
_FRAME_TAGS = ("study", "sweep", "cell", "label", "machine", "outcome", "reason")
_FRAME_NUMBERS = ("round", "order", "attempt")


def store_uri(tracking: TrackingConfig) -> str:
    """The MLflow tracking URI of a configuration."""
    return tracking.uri or f"sqlite:///{Path(tracking.folder).absolute() / 'mlflow.db'}"


def exists(tracking: TrackingConfig) -> bool:
    """Whether there is a store already; a server is taken to be there."""
    return tracking.uri is not None or (Path(tracking.folder) / "mlflow.db").is_file()


class Store:
    """An open MLflow store."""

    def __init__(self, tracking: TrackingConfig) -> None:
        """Open the store; a fresh SQLite file is created under a lock.

        Raises:
            TrackingError: it cannot be created, opened or is damaged.
        """
        self._folder = Path(tracking.folder).absolute()
        self._uri = store_uri(tracking)
        self._local = tracking.uri is None
        with _clear_errors(self._uri):
            (self._folder / "artifacts").mkdir(parents=True, exist_ok=True)
            with FileLock(self._folder / "mlflow.db.lock"):
                self._client = _client(self._uri)
                self._client.search_experiments(max_results=1)

    def history(self, study: str, machine: str) -> list[Past]:
        """Earlier trials of a study on a machine, oldest first. An unknown study has none."""
        rows = []
        for run in self._runs(study, fields.TRIAL):
            tags = run.data.tags
            if tags.get("slm.machine") != machine or "slm.outcome" not in tags:
                continue
            rows.append(
                Past(
                    cell=tags["slm.cell"],
                    model=run.data.params.get("model.name", ""),
                    round=int(tags["slm.round"]),
                    outcome=cast("OutcomeName", tags["slm.outcome"]),
                    reason=tags.get("slm.reason", ""),
                    duration_s=run.data.metrics.get("time/trial_s"),
                    joules=fields.joules(run.data.metrics),
                    interrupted=tags.get("slm.interrupted") == "true",
                )
            )
        return rows

    def open_sweep(self, study: str, sweep: str, machine: str, note: str) -> str:
        """Start the parent run of one invocation; return its run id.

        Runs of this machine that an earlier, killed invocation left open are closed first: the
        caller holds the machine's lock, so nobody else is writing them.
        """
        with _clear_errors(self._uri):
            experiment = self._experiment(study)
            for run in self._runs(study, fields.SWEEP) + self._runs(study, fields.TRIAL):
                left = run.info.status == "RUNNING" and run.data.tags.get("slm.machine") == machine
                if left:
                    self._client.set_terminated(run.info.run_id, status="KILLED")
            tags = fields.sweep_tags(study, sweep, machine)
            run = self._client.create_run(
                experiment, tags=tags | {"mlflow.note.content": note}, run_name=f"sweep {sweep}"
            )
            return str(run.info.run_id)

    def close_sweep(self, run_id: str, status: str) -> None:
        """End the parent run: `FINISHED`, `FAILED` or `KILLED`."""
        with _clear_errors(self._uri):
            self._client.set_terminated(run_id, status=status)

    def describe(self, run_id: str, markdown: str) -> None:
        """Set what the run's page says at the top."""
        with _clear_errors(self._uri):
            self._client.set_tag(run_id, "mlflow.note.content", markdown[:_NOTE_LENGTH])

    def attach(self, run_id: str, files: Mapping[str, bytes]) -> str:
        """Store artifacts of a run, name (with its folder) to content; return where they lie."""
        with _clear_errors(self._uri), tempfile.TemporaryDirectory() as folder:
            write_files(Path(folder), files)
            self._client.log_artifacts(run_id, folder)
            return str(self._client.get_run(run_id).info.artifact_uri)

    def attached(self, run_id: str, name: str) -> str:
        """Read a text artifact of a run."""
        with _clear_errors(self._uri), tempfile.TemporaryDirectory() as folder:
            place = self._client.download_artifacts(run_id, name, folder)
            return Path(place).read_text(encoding="utf-8")

    def last_sweep(self, study: str) -> str | None:
        """Run id of the latest invocation of a study, or None."""
        runs = self._runs(study, fields.SWEEP)
        return str(runs[-1].info.run_id) if runs else None

    def store(self, record: Record, folder: Path, parent: str, machine: str) -> str:
        """Send a record with its files; storing the same trial again changes nothing.

        Args:
            record: the trial.
            folder: where `artifacts.write` put its files.
            parent: run id of the invocation.
            machine: identity of this machine.

        Returns:
            Where the run's artifacts lie.
        """
        trial = record.trial
        with _clear_errors(self._uri):
            experiment = self._experiment(trial.study)
            stored = self._stored(experiment, trial.id)
            if stored is not None:
                return str(stored.info.artifact_uri)
            tags = fields.tags(record, machine) | {"mlflow.parentRunId": parent}
            name = f"{trial.label} / r{trial.round:02d}" if trial.round else trial.label
            run = self._client.create_run(
                experiment, record.started_unix_ns // 1_000_000, tags=tags, run_name=name
            )
            run_id = run.info.run_id
            self._log_numbers(run_id, record)
            self._client.log_artifacts(run_id, str(folder))
            good = record.outcome.name in ("valid", "unsupported")
            self._client.set_terminated(
                run_id,
                status="FINISHED" if good else "FAILED",
                end_time=record.ended_unix_ns // 1_000_000,
            )
            self._client.set_tag(run_id, "slm.outcome", record.outcome.name)
            return str(run.info.artifact_uri)

    def frame(self, study: str) -> pd.DataFrame:
        """One row per trial: identity, dotted settings, metrics.

        Raises:
            TrackingError: there is no such study.
        """
        import pandas as pd

        with _clear_errors(self._uri):
            if self._client.get_experiment_by_name(study) is None:
                known = sorted(each.name for each in self._client.search_experiments())
                names = ", ".join(known) or "none"
                raise TrackingError(f"study={study!r} is not in {self._uri}; there: {names}")
        rows = []
        with _uncollected():
            runs = self._runs(study, fields.TRIAL)
        for run in runs:
            tags = run.data.tags
            if "slm.outcome" not in tags:
                continue
            row: dict[str, Any] = {"run_id": run.info.run_id, "started": run.info.start_time}
            row |= {name: tags.get(f"slm.{name}", "") for name in _FRAME_TAGS}
            row |= {name: int(tags[f"slm.{name}"]) for name in _FRAME_NUMBERS}
            series = {key for key in run.data.metrics if key.startswith("system/")}
            metrics = {k: v for k, v in run.data.metrics.items() if k not in series}
            rows.append(row | run.data.params | metrics)
        return pd.DataFrame(rows)

    def _experiment(self, study: str) -> str:
        found = self._client.get_experiment_by_name(study)
        if found is not None:
            if found.lifecycle_stage != "active":
                raise TrackingError(
                    f"study.name={study} was deleted in the MLflow UI: restore it there or choose"
                    " another study.name"
                )
            return str(found.experiment_id)
        location = (self._folder / "artifacts" / study).as_uri() if self._local else None
        # Opens the UI on the table of runs instead of asking what kind of experiment this is.
        tags = {"mlflow.experimentKind": "custom_model_development"}
        with FileLock(self._folder / "mlflow.db.lock"):
            found = self._client.get_experiment_by_name(study)
            if found is not None:
                return str(found.experiment_id)
            return str(self._client.create_experiment(study, location, tags))

    def _runs(self, study: str, kind: str) -> list[Run]:
        with _clear_errors(self._uri):
            experiment = self._client.get_experiment_by_name(study)
            if experiment is None:
                return []
            return list(self._search(experiment.experiment_id, f"tags.`slm.kind` = '{kind}'"))

    def _search(self, experiment: str, query: str) -> Iterator[Run]:
        token = None
        while True:
            page = self._client.search_runs(
                [experiment],
                query,
                max_results=_BATCH,
                order_by=["attributes.start_time ASC"],
                page_token=token,
            )
            yield from page
            token = page.token
            if not token:
                return

    def _stored(self, experiment: str, trial_id: str) -> Run | None:
        """The run that already holds this trial; leftovers of a broken attempt are removed."""
        for run in list(self._search(experiment, f"tags.`slm.trial` = '{trial_id}'")):
            if "slm.outcome" in run.data.tags:
                return run
            self._client.delete_run(run.info.run_id)
        return None

    def _log_numbers(self, run_id: str, record: Record) -> None:
        from mlflow.entities import Metric, Param

        at_ms = record.ended_unix_ns // 1_000_000
        metrics = [Metric(name, value, at_ms, 0) for name, value in fields.metrics(record).items()]
        metrics += [Metric(*point) for point in fields.system_series(record)]
        params = [Param(key, value) for key, value in fields.params(record).items()]
        self._client.log_batch(run_id, metrics=metrics[:_BATCH], params=params)
        for start in range(_BATCH, len(metrics), _BATCH):
            self._client.log_batch(run_id, metrics=metrics[start : start + _BATCH])


def _client(uri: str) -> MlflowClient:
    from mlflow import MlflowClient

    # Set after the import, which sets them itself: creating a store is no news.
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # nor is reading a file
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Pause Python's collector of cycles: it looks at MLflow's objects again and again."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


@contextlib.contextmanager
def _clear_errors(uri: str) -> Iterator[None]:
    """Turn what MLflow, SQLAlchemy and the file system raise into one line."""
    try:
        yield
    except TrackingError:
        raise
    except Exception as error:
        raise TrackingError(
            f"tracking store {uri} cannot be used: {type(error).__name__}: {one_line(error)};"
            " check it or set tracking.folder=DIR or tracking.uri=URI"
        ) from error


def ui_command(tracking: TrackingConfig, port: int) -> tuple[list[str], dict[str, str]]:
    """The command and environment that serve the MLflow UI of a local store on loopback.

    One worker and no job runner, because MLflow's job consumers outlive the server.
    """
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", store_uri(tracking)]
    command += [
        "--default-artifact-root",
        (Path(tracking.folder).absolute() / "artifacts").as_uri(),
    ]
    return command, os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
