"""The store: sweeps and trials as runs of MLflow, written and read.

    experiment   a study
    parent run   one invocation of a sweep: plan, report
    child run    one trial; the tag `slm.outcome` is written last, and resuming trusts only that

No fluent active run, no autologging; explicit run ids. SQLite stores are created under a lock.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shlex
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from slm_energy import shared
from slm_energy.config.groups import TrackingConfig
from slm_energy.errors import TrackingError
from slm_energy.machine import locked
from slm_energy.planning.plan import Past
from slm_energy.record import Record
from slm_energy.scratch import scratch
from slm_energy.serialization import sync_files, write_files
from slm_energy.store import access, artifacts, frame, left, mlflow_schema, shared_view
from slm_energy.store.connection import (
    clear_errors,
    connect,
    create,
    exists,
    files_at,
    store_uri,
    upload,
)
from slm_energy.store.history_cache import Ledger, recall
from slm_energy.store.location import DATABASE, relocated
from slm_energy.store.offline import Offline, Sweep, now_ms
from slm_energy.store.runs import search
from slm_energy.store.trials import MachineTrials, entry, of_run, read

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.entities import Experiment, Metric, Param, Run

_BATCH = 1000
_NOTE = "mlflow.note.content"
"""Tag of a run or experiment: the description at the top of its page."""
_NOTE_LENGTH, _EXPERIMENT_NOTE_LENGTH = 8000, 5000


def open_store(tracking: TrackingConfig) -> Store | Offline:
    """Open the store of a sweep; `Offline` for `tracking=offline`."""
    return Offline(tracking) if tracking.offline else Store(tracking)


def open_existing(tracking: TrackingConfig) -> Store:
    """Open an existing store for reading.

    Raises:
        TrackingError: there is no such store, or it cannot be opened.
    """
    # `Store` itself says what to do about `tracking=offline`.
    if not tracking.offline and not exists(tracking):
        location = tracking.uri or shlex.quote(tracking.folder)
        raise TrackingError(
            f"there is no store in {location}: run a study first, or set tracking.folder=DIR"
            " (in Python tracking=DIR)"
        )
    return Store(tracking)


class Store:
    """An open MLflow store.

    Attributes:
        writable: it is a server, or its folder can be written; otherwise it can only be read.
    """

    def __init__(self, tracking: TrackingConfig) -> None:
        """Open the store; a fresh SQLite file is created under a lock.

        Raises:
            TrackingError: it cannot be created or opened, is damaged, or `tracking=offline`.
        """
        if tracking.offline:
            raise TrackingError(
                "tracking=offline has no store: slm-energy sync FOLDER tracking=NAME sends its"
                " records to one; read them there"
            )
        self._folder = Path(tracking.folder).absolute()
        self._uri = store_uri(tracking)
        self._movable = tracking.uri is None
        self._local = not access.is_server(self._uri)
        self._keeps = _can_be_written(self._folder)
        self.writable = self._keeps or not self._local
        with clear_errors(self._uri), self._opening(tracking):
            if not exists(tracking):
                create(self._folder / DATABASE)
            self._client = connect(self._uri)
            self._client.search_experiments(max_results=1)

    @contextlib.contextmanager
    def _opening(self, tracking: TrackingConfig) -> Iterator[None]:
        """Keep other processes from making the store meanwhile, where it can be made."""
        if not self._keeps and exists(tracking):
            yield
            return
        shared.add_folder(self._folder / "artifacts", within=self._folder)
        with self._alone():
            yield

    def _alone(self) -> contextlib.AbstractContextManager[None]:
        """Keep out other processes that make the store or a study in it."""
        return locked(self._folder / f"{DATABASE}.lock")

    def history(self, study: str, machine: str) -> list[Past]:
        """Earlier trials of a study on a machine, oldest first. An unknown study has none."""
        with clear_errors(self._uri):
            experiment = self._client.get_experiment_by_name(study)
            if experiment is None:
                return []
            trials = MachineTrials(self._client, experiment.experiment_id, machine)
            return recall(self._ledger(experiment, machine), trials, keep=self._keeps)

    def open_sweep(
        self,
        study: str,
        sweep: str,
        machine: str,
        note: str,
        plan: str | None = None,
        measured: str = "",
    ) -> str:
        """Start the parent run of one invocation; return its run id.

        `plan` is the digest of what its plan depends on, `measured` the scope of its sums in words.
        """
        with clear_errors(self._uri):
            experiment = self._experiment(study).experiment_id
            started = Sweep(
                id=sweep,
                study=study,
                machine=machine,
                started_ms=now_ms(),
                note=note,
                plan=plan,
                measured=measured,
            )
            return str(self._create_sweep(experiment, started).info.run_id)

    def close_left(self, study: str | None, machine: str) -> None:
        """Delete twins, and end what an earlier invocation left open on this machine (`left.py`).

        The caller holds the machine's lock, so no other process is writing its runs.

        Args:
            study: where to look; None is every study.
            machine: its name.
        """
        with clear_errors(self._uri):
            every = self._client.search_experiments()
            ids = [each.experiment_id for each in every if study in (None, each.name)]
            if ids:
                left.settle(self._client, ids, machine)

    def close_sweep(self, run_id: str, status: str) -> None:
        """End the parent run: `FINISHED`, `FAILED` or `KILLED`."""
        with clear_errors(self._uri):
            self._client.set_terminated(run_id, status=status)

    def describe(self, run_id: str, markdown: str) -> None:
        """Set the description at the top of the run's page."""
        with clear_errors(self._uri):
            self._client.set_tag(run_id, _NOTE, markdown[:_NOTE_LENGTH])

    def attach(self, run_id: str, files: Mapping[str, bytes]) -> str:
        """Store artifacts of a run, name (with its folder) to content; return their URI."""
        with clear_errors(self._uri), scratch() as folder:
            write_files(folder, files)
            artifact_uri = self._files_of(self._client.get_run(run_id))
            upload(folder, artifact_uri, self._uri)
            return artifact_uri

    def add(
        self,
        run_id: str,
        metrics: Mapping[str, float],
        files: Mapping[str, bytes],
        tags: Mapping[str, str],
        params: Mapping[str, str] | None = None,
    ) -> str:
        """Add to a stored run; the tags, name to value, come last. Returns its artifacts' URI."""
        from mlflow.entities import Metric, Param, RunTag

        place = self.attach(run_id, files)
        with clear_errors(self._uri):
            at_ms = now_ms()
            added = [Metric(name, value, at_ms, 0) for name, value in metrics.items()]
            settings = [Param(name, value) for name, value in (params or {}).items()]
            self._log(run_id, added, settings)
            self._client.log_batch(run_id, tags=[RunTag(*tag) for tag in tags.items()])
        return place

    def attached(self, run_id: str, name: str) -> str:
        """Read a text artifact of a run."""
        return self.artifact(run_id, name).decode()

    def artifact(self, run_id: str, name: str) -> bytes:
        """Read an artifact of a run; `name` includes its folder.

        Raises:
            TrackingError: the run has no such artifact, or it cannot be read.
        """
        with clear_errors(self._uri), contextlib.ExitStack() as stack:
            copy_to = None if self._local else str(stack.enter_context(scratch()))
            files = files_at(self._files_of(self._client.get_run(run_id)), self._uri)
            path = files.download_artifacts(name, copy_to)  # type: ignore[no-untyped-call]
            return Path(path).read_bytes()

    def download(self, run_id: str, folder: Path) -> None:
        """Copy all artifacts of a run into a folder.

        Raises:
            TrackingError: they cannot be read.
        """
        with clear_errors(self._uri):
            files = files_at(self._files_of(self._client.get_run(run_id)), self._uri)
            if self._local:  # MLflow would return the store's own folder
                shutil.copytree(files.artifact_dir, folder, dirs_exist_ok=True)  # type: ignore[attr-defined]
            else:
                files.download_artifacts("", str(folder))  # type: ignore[no-untyped-call]

    def adopt_sweep(self, sweep: Sweep) -> str:
        """Run id of the parent run of an invocation from elsewhere; created if missing.

        A parent run that is incomplete because of an interruption is completed.
        """
        with clear_errors(self._uri):
            experiment = self._experiment(sweep.study).experiment_id
            query = f"tags.`slm.kind` = '{mlflow_schema.SWEEP}' and tags.`slm.sweep` = '{sweep.id}'"
            runs = search(self._client, [experiment], query)
            if runs and (runs[0].info.status != "RUNNING" or not sweep.files):
                return str(runs[0].info.run_id)
            run = runs[0] if runs else self._create_sweep(experiment, sweep)
            self.attach(run.info.run_id, {k: v.encode() for k, v in sweep.files.items()})
            self._client.set_terminated(run.info.run_id, sweep.status, sweep.ended_ms)
            return str(run.info.run_id)

    def _create_sweep(self, experiment: str, sweep: Sweep) -> Run:
        tags = mlflow_schema.sweep_tags(
            sweep.study, sweep.id, sweep.machine, sweep.plan, sweep.measured
        )
        tags |= {_NOTE: sweep.note}
        name = f"sweep {sweep.id}"
        return self._client.create_run(experiment, sweep.started_ms, tags=tags, run_name=name)

    def first_plan(self, study: str, machine: str, *, measured: bool = False) -> str | None:
        """`plan.json` of the first invocation of a study on a machine; None before there is one.

        With `measured`: of the first invocation that knew the scope of its sums.
        """
        tag = mlflow_schema.MEASURED_TAG if measured else "slm.plan"
        return next(self.plans(study, machine, tag), None)

    def plans(self, study: str, machine: str, tag: str = "slm.plan") -> Iterator[str]:
        """`plan.json` of each invocation on a machine that has one and the tag, oldest first."""
        for run in self._sweeps(study, machine):
            if tag in run.data.tags:
                plan = self._complete_plan(run.info.run_id)
                if plan is not None:
                    yield plan

    def _complete_plan(self, run_id: str) -> str | None:
        """`plan.json` of an invocation; None if it was killed before it was complete."""
        with clear_errors(self._uri):
            artifact_uri = self._files_of(self._client.get_run(run_id))
            names = {file.path for file in files_at(artifact_uri, self._uri).list_artifacts()}
        if mlflow_schema.PLAN_FILE not in names:
            return None
        text = self.attached(run_id, mlflow_schema.PLAN_FILE)
        try:
            json.loads(text)
        except ValueError:
            return None
        return text

    def sweeps(self, study: str, machine: str) -> list[Sweep]:
        """The invocations of a study on a machine, oldest first, each with its plan if it has one.

        Raises:
            TrackingError: a plan cannot be read.
        """
        found = []
        for run in self._sweeps(study, machine):
            plan = self._complete_plan(run.info.run_id)
            found.append(
                Sweep(
                    id=run.data.tags["slm.sweep"],
                    study=study,
                    machine=machine,
                    started_ms=run.info.start_time,
                    note=run.data.tags.get(_NOTE, ""),
                    plan=run.data.tags.get("slm.plan"),
                    measured=run.data.tags.get("slm.measured", ""),
                    ended_ms=run.info.end_time,
                    status=run.info.status,
                    files={} if plan is None else {mlflow_schema.PLAN_FILE: plan},
                )
            )
        return found

    def last_sweep(self, study: str) -> str | None:
        """Run id of the latest invocation of a study, or None."""
        sweeps = self._runs(study, mlflow_schema.SWEEP)
        return str(sweeps[-1].info.run_id) if sweeps else None

    def note_stop(self, study: str, machine: str, why: str) -> None:
        """Note on the latest invocation on a machine why the study ended before its last round.

        That may be an earlier invocation, interrupted when enough rounds had been run.
        """
        for run in self._sweeps(study, machine)[-1:]:
            with clear_errors(self._uri):
                self._client.set_tag(run.info.run_id, mlflow_schema.STOPPED, why)

    def stopped(self, study: str, machine: str) -> str:
        """The reason that `note_stop` stored with the latest invocation on a machine, or ""."""
        last = self._sweeps(study, machine)[-1:]
        return "".join(run.data.tags.get(mlflow_schema.STOPPED, "") for run in last)

    def _sweeps(self, study: str, machine: str) -> list[Run]:
        sweeps = self._runs(study, mlflow_schema.SWEEP)
        return [run for run in sweeps if run.data.tags.get("slm.machine") == machine]

    def set_noise_floor(self, run_id: str, machine: str, text: str) -> None:
        """Store a machine's noise floor with the invocation that measured it."""
        with clear_errors(self._uri):
            self._client.set_tag(run_id, mlflow_schema.noise_floor_tag(machine), text)

    def noise_floors(self, machine: str) -> list[str]:
        """The noise floors of a machine over all studies, the latest first."""
        tag = mlflow_schema.noise_floor_tag(machine)
        with clear_errors(self._uri):
            studies = [study.experiment_id for study in self._client.search_experiments()]
            query, newest = f"tags.`{tag}` != ''", ["attributes.start_time DESC"]
            runs = self._client.search_runs(studies, query, max_results=100, order_by=newest)
            return [str(run.data.tags[tag]) for run in runs]

    def store(self, record: Record, folder: Path, parent: str, machine: str) -> str:
        """Send a record with its files; storing the same trial again changes nothing.

        A record is stored as invalid if the store has a valid trial of its cell and round: so did
        two invocations that could not see each other's records, of two users or two nodes.

        Args:
            record: the trial.
            folder: contains the files of `artifacts.write`.
            parent: run id of the invocation.
            machine: identity of this machine.

        Returns:
            The URI of the run's artifacts.
        """
        trial = record.trial
        with clear_errors(self._uri):
            study = self._experiment(trial.study)
            complete, leftovers = self._of_trial(study, trial.id)
            if not complete:
                for run in leftovers:
                    left.delete(self._client, run)
                with self._alone() if self._keeps else contextlib.nullcontext():
                    record = self._only_valid(study, record, folder, machine)
                    self._send(study, record, folder, parent, machine)
                complete, leftovers = self._of_trial(study, trial.id)
            if not complete:
                raise TrackingError(
                    f"trial {trial.id} was being sent by another process too: run slm-energy sync"
                )
            # A process that sent it at the same time keeps the same run. What is left over is a
            # twin (`left.py`), or such a process's run, which then is not needed.
            for run in (*complete[1:], *leftovers):
                left.delete(self._client, run)
            self._ledger(study, machine).add(entry(of_run(complete[0])))
            return self._files_of(complete[0])

    def _only_valid(self, study: Experiment, record: Record, folder: Path, machine: str) -> Record:
        """The record, or an invalid one if the store has a valid trial of its cell and round."""
        trial = record.trial
        query = f"tags.`slm.outcome` = 'valid' and tags.`slm.trial` != '{trial.id}'"
        same = {"cell": trial.cell.id, "round": str(trial.round), "machine": machine}
        for tag, value in same.items():
            query += f" and tags.`slm.{tag}` = '{value}'"
        valid = record.outcome.name == "valid"
        earlier = search(self._client, [study.experiment_id], query) if valid else []
        if not earlier:
            return record
        name = f"{earlier[0].info.run_name} (trial {earlier[0].data.tags['slm.trial']})"
        reason = f"repeated: {name}, stored earlier, is the valid trial of this cell and round"
        return artifacts.refuse(folder, record, reason)

    def _files_of(self, run: Run) -> str:
        """The URI of a run's artifacts; those of a folder's own store are in that folder."""
        uri = str(run.info.artifact_uri)
        return relocated(uri, self._folder) if self._movable else uri

    def _of_trial(self, study: Experiment, trial_id: str) -> tuple[list[Run], list[Run]]:
        """Complete runs of this trial, ordered by id, and incomplete runs of failed attempts."""
        query = f"tags.`slm.trial` = '{trial_id}'"
        runs = search(self._client, [study.experiment_id], query)
        complete = [run for run in runs if "slm.outcome" in run.data.tags]
        leftovers = [run for run in runs if "slm.outcome" not in run.data.tags]
        return sorted(complete, key=lambda run: str(run.info.run_id)), leftovers

    def _send(
        self, study: Experiment, record: Record, folder: Path, parent: str, machine: str
    ) -> None:
        from mlflow.utils.file_utils import local_file_uri_to_path

        trial = record.trial
        tags = mlflow_schema.tags(record, machine) | {"mlflow.parentRunId": parent}
        name = trial.name or trial.label
        name += f" / r{trial.round:02d}" if trial.round else ""
        run = self._client.create_run(
            study.experiment_id, record.started_unix_ns // 1_000_000, tags=tags, run_name=name
        )
        run_id = run.info.run_id
        self._log_numbers(run_id, record)
        artifact_uri = self._files_of(run)
        upload(folder, artifact_uri, self._uri)
        if self._local:  # the outcome guarantees complete files, after a power loss too
            path = local_file_uri_to_path(artifact_uri)  # type: ignore[no-untyped-call]
            sync_files(Path(path))
        good = record.outcome.name in ("valid", "unsupported")
        self._client.set_terminated(
            run_id,
            status="FINISHED" if good else "FAILED",
            end_time=record.ended_unix_ns // 1_000_000,
        )
        self._client.set_tag(run_id, "slm.outcome", record.outcome.name)

    def studies(self) -> dict[str, str]:
        """Name to experiment id of each study, the one that changed last first."""
        with clear_errors(self._uri):
            found = self._client.search_experiments(order_by=["last_update_time DESC"])
        return {each.name: each.experiment_id for each in found if each.experiment_id != "0"}

    def set_view(
        self, study: str, metrics: Sequence[str], groups: Collection[str] = (), markdown: str = ""
    ) -> None:
        """Store how the UI opens a study: its description, and its trials (`shared_view.py`).

        Args:
            study: its name.
            metrics: stored names, the deciding one first.
            groups: those of all metrics that its trials have.
            markdown: the description.
        """
        with clear_errors(self._uri):
            experiment = self._experiment(study).experiment_id
            view = shared_view.shared_view(metrics, groups, now_ms())
            self._client.set_experiment_tag(experiment, shared_view.TAG, view)
            self._client.set_experiment_tag(experiment, _NOTE, markdown[:_EXPERIMENT_NOTE_LENGTH])

    def frame(self, study: str) -> pd.DataFrame:
        """One row per trial (`frame.py`).

        Raises:
            TrackingError: there is no such study.
        """
        with clear_errors(self._uri):
            experiment = self._client.get_experiment_by_name(study)
            if experiment is None:
                names = ", ".join(self.studies()) or "none"
                raise TrackingError(f"study={study!r} is not in {self._uri}; it has: {names}")
            return frame.of_trials(
                read(self._client, experiment.experiment_id, frame.WANTED), self.attached
            )

    def _experiment(self, study: str) -> Experiment:
        experiment = self._client.get_experiment_by_name(study)
        if experiment is not None:
            if experiment.lifecycle_stage != "active":
                raise TrackingError(
                    f"study.name={study} was deleted in the MLflow UI: restore it there or choose"
                    " another study.name"
                )
            return experiment
        location = (self._folder / "artifacts" / study).as_uri() if self._local else None
        # Makes the UI open the table of runs instead of asking for the kind of experiment.
        tags = {"mlflow.experimentKind": "custom_model_development"}
        with self._alone():
            experiment = self._client.get_experiment_by_name(study)
            if experiment is None:
                self._create_experiment(study, location, tags)
                experiment = self._client.get_experiment_by_name(study)
            assert experiment is not None
            return experiment

    def _create_experiment(self, study: str, location: str | None, tags: dict[str, str]) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_experiment(study, location, tags)
        except MlflowException as error:
            # Another machine was faster: the lock covers only this one.
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def _runs(self, study: str, kind: str) -> list[Run]:
        with clear_errors(self._uri):
            experiment = self._client.get_experiment_by_name(study)
            if experiment is None:
                return []
            return search(self._client, [experiment.experiment_id], f"tags.`slm.kind` = '{kind}'")

    def _ledger(self, study: Experiment, machine: str) -> Ledger:
        """This machine's cache of a study in this store."""
        facts = [self._uri, study.experiment_id, study.creation_time, machine]
        name = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
        return Ledger(self._folder / "history" / f"{name}.jsonl")

    def _log_numbers(self, run_id: str, record: Record) -> None:
        from mlflow.entities import Metric, Param

        at_ms = record.ended_unix_ns // 1_000_000
        values = mlflow_schema.metrics(record)
        metrics = [Metric(name, value, at_ms, 0) for name, value in values.items()]
        metrics += [Metric(*point) for point in mlflow_schema.system_series(record)]
        params = [Param(key, value) for key, value in mlflow_schema.params(record).items()]
        self._log(run_id, metrics, params)

    def _log(self, run_id: str, metrics: Sequence[Metric], params: Sequence[Param]) -> None:
        """Log in batches of as many metrics as MLflow takes at once."""
        self._client.log_batch(run_id, metrics=metrics[:_BATCH], params=params)
        for start in range(_BATCH, len(metrics), _BATCH):
            self._client.log_batch(run_id, metrics=metrics[start : start + _BATCH])


def _can_be_written(folder: Path) -> bool:
    """Whether files can be made in a folder, or in the closest one above it that there is."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    return os.access(there, os.W_OK | os.X_OK)
