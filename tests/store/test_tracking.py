from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import mlflow.artifacts
import pytest
from mlflow import MlflowClient
from mlflow.entities import ViewType
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

from slm_energy.config.groups import RunConfig, TrackingConfig
from slm_energy.errors import TrackingError
from slm_energy.record import Record
from slm_energy.running import trial
from slm_energy.store import artifacts, left, mlflow_schema
from slm_energy.store.connection import store_uri, ui_command
from slm_energy.store.mlflow_schema import INTERRUPTED
from slm_energy.store.offline import Sweep
from slm_energy.store.tracking import Store
from tests.captures import a_capture
from tests.conftest import a_trial

MACHINE = "here-123456"


@pytest.fixture
def fresh(tmp_path: Path) -> TrackingConfig:
    """A store that nobody has opened yet."""
    return TrackingConfig(name="local", folder=str(tmp_path / "mlruns"))


@pytest.fixture
def tracking(fresh: TrackingConfig, empty_store: Path) -> TrackingConfig:
    """A store without any run."""
    Path(fresh.folder).mkdir()
    shutil.copy(empty_store, fresh.folder)
    return fresh


def a_sweep(**changes: Any) -> Sweep:
    values = {"id": "s1", "study": "test", "machine": MACHINE, "started_ms": 1000}
    return Sweep(**values | changes)


def stored(store: Store, record: Record, folder: Path, parent: str) -> str:
    folder.mkdir(parents=True)
    artifacts.write(folder, record, {"a": "def a():", "b": "def b():"})
    return store.store(record, folder, parent, MACHINE)


def test_a_record_becomes_one_child_run_as_the_design_maps_it(
    tmp_path: Path, tracking: TrackingConfig, config: RunConfig
) -> None:
    store = Store(tracking)
    parent = store.open_sweep("test", "s1", MACHINE, "note")
    record = trial.derive(a_trial(config), a_capture(), 1_700_000_000_000_000_000)
    place = stored(store, record, tmp_path / "record", parent)
    store.close_sweep(parent, "FINISHED")

    client = MlflowClient(store_uri(tracking))
    experiment = client.get_experiment_by_name("test")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    [child] = [run for run in runs if run.data.tags["slm.kind"] == "trial"]
    assert child.info.run_name == "bundled / scripted / cpu / r01"
    assert child.info.status == "FINISHED"
    assert child.data.tags["mlflow.parentRunId"] == parent
    assert child.data.tags["slm.outcome"] == "valid"
    assert child.data.params["engine.name"] == "scripted"
    assert child.data.metrics["energy/total_j"] == pytest.approx(40)
    series = client.get_metric_history(child.info.run_id, "system/cpu_utilization_percentage")
    assert [point.value for point in series][:9] == [25.0] * 8 + [75.0]
    assert series[0].timestamp == 1_700_000_000_000

    table = json.loads(child.data.tags["mlflow.loggedArtifacts"])
    assert table == [{"path": "outputs/generations.json", "type": "table"}]
    copy = Path(mlflow.artifacts.download_artifacts(artifact_uri=place, dst_path=str(tmp_path)))
    assert artifacts.read(copy) == record


def test_storing_a_trial_again_changes_nothing(
    tmp_path: Path, tracking: TrackingConfig, config: RunConfig
) -> None:
    store = Store(tracking)
    parent = store.open_sweep("test", "s1", MACHINE, "note")
    record = trial.derive(a_trial(config), a_capture(), 0)
    place = stored(store, record, tmp_path / "record", parent)
    assert store.store(record, tmp_path / "record", parent, MACHINE) == place
    assert len(store.frame("test")) == 1


def test_history_tells_outcomes_and_only_of_this_machine(
    tmp_path: Path, tracking: TrackingConfig, config: RunConfig
) -> None:
    store = Store(tracking)
    assert store.history("test", MACHINE) == []
    parent = store.open_sweep("test", "s1", MACHINE, "note")
    entry = a_trial(config)
    first = dataclasses.replace(trial.failed(entry, "it broke", 0), duration_s=1.5)
    stored(store, first, tmp_path / "1", parent)
    second = dataclasses.replace(entry, id="t2", attempt=2)
    stored(store, trial.failed(second, INTERRUPTED, 0), tmp_path / "2", parent)
    broken, stopped = store.history("test", MACHINE)
    assert (broken.outcome, broken.reason, broken.interrupted) == ("failed", "it broke", False)
    assert stopped.interrupted
    assert broken.duration_s == 1.5
    assert store.history("test", "elsewhere") == []


def test_the_frame_has_one_row_per_trial_with_settings_and_metrics(
    tmp_path: Path, tracking: TrackingConfig, config: RunConfig
) -> None:
    store = Store(tracking)
    parent = store.open_sweep("test", "s1", MACHINE, "note")
    stored(store, trial.derive(a_trial(config), a_capture(), 0), tmp_path / "1", parent)
    frame = store.frame("test")
    assert frame["engine.name"].tolist() == ["scripted"]
    assert frame["round"].tolist() == [1]
    assert frame["energy/per_output_token_j"].tolist() == pytest.approx([2.5])
    assert not [column for column in frame if column.startswith("system/")]
    with pytest.raises(TrackingError, match=r"study='other' is not in .*; it has: test"):
        store.frame("other")


def test_the_latest_noise_floor_of_a_machine_is_found_in_whatever_study_measured_it(
    tracking: TrackingConfig,
) -> None:
    store = Store(tracking)
    assert store.noise_floors(MACHINE) == []
    for study, text in (("first", "old"), ("second", "new")):
        run = store.open_sweep(study, "s1", MACHINE, "note")
        store.set_noise_floor(run, MACHINE, text)
        time.sleep(0.002)  # runs are told apart by the millisecond
    store.set_noise_floor(store.open_sweep("third", "s1", "other", "note"), "other", "another's")
    assert store.noise_floors(MACHINE)[0] == "new"


def test_why_a_study_ended_early_is_told_of_its_latest_invocation(
    tracking: TrackingConfig,
) -> None:
    store = Store(tracking)
    assert store.stopped("test", MACHINE) == ""
    store.open_sweep("test", "s1", MACHINE, "note")
    time.sleep(0.002)
    store.open_sweep("test", "s1", "elsewhere", "note")
    store.note_stop("test", MACHINE, "after 5 rounds")
    assert store.stopped("test", MACHINE) == "after 5 rounds"
    assert store.stopped("test", "elsewhere") == ""
    store.open_sweep("test", "s2", MACHINE, "note")
    assert store.stopped("test", MACHINE) == ""


def test_files_are_attached_to_a_run_under_their_names_and_read_back(
    tracking: TrackingConfig,
) -> None:
    store = Store(tracking)
    run = store.open_sweep("test", "s1", MACHINE, "note")
    place = store.attach(run, {"report.html": "<h1>ä</h1>".encode(), "tables/a.tex": b"x"})
    assert store.attached(run, "report.html") == "<h1>ä</h1>"
    assert (Path(place.removeprefix("file://")) / "tables" / "a.tex").read_bytes() == b"x"
    with pytest.raises(TrackingError, match=r"none\.txt"):
        store.attached(run, "none.txt")


def test_more_metrics_than_mlflow_takes_at_once_are_all_added(tracking: TrackingConfig) -> None:
    store = Store(tracking)
    parent = store.open_sweep("test", "s1", "here", "note")
    figures = {f"power/cell {number}": float(number) for number in range(2001)}
    store.add(parent, figures, {}, {})
    assert MlflowClient(store_uri(tracking)).get_run(parent).data.metrics == figures


def test_runs_that_a_killed_sweep_left_open_are_closed_by_the_next(
    tracking: TrackingConfig,
) -> None:
    store = Store(tracking)
    store.close_left("test", MACHINE)  # an unknown study has none
    left = store.open_sweep("test", "s1", MACHINE, "note")
    elsewhere = store.open_sweep("test", "s2", "elsewhere", "note")
    store.close_left("test", MACHINE)
    client = MlflowClient(store_uri(tracking))
    assert client.get_run(left).info.status == "KILLED"
    assert client.get_run(elsewhere).info.status == "RUNNING"


def in_the_ui(tracking: TrackingConfig) -> list[tuple[str, str]]:
    """Kind and status of the runs that the UI shows."""
    client = MlflowClient(store_uri(tracking))
    experiment = client.get_experiment_by_name("test")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    return sorted((run.data.tags["slm.kind"], run.info.status) for run in runs)


def twin_of(tracking: TrackingConfig, run_id: str, status: str) -> None:
    """What a request leaves whose answer was lost or late: a run without an outcome or a child."""
    client = MlflowClient(store_uri(tracking))
    run = client.get_run(run_id)
    tags = {k: v for k, v in run.data.tags.items() if k != "slm.outcome"}
    twin = client.create_run(run.info.experiment_id, tags=tags)
    if status != "RUNNING":
        client.set_terminated(twin.info.run_id, status)


def test_a_request_that_was_answered_late_leaves_no_second_run_of_a_trial(
    tmp_path: Path, tracking: TrackingConfig, config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tracking)
    parent = store.open_sweep("test", "s1", MACHINE, "note")
    create = MlflowClient.create_run

    def twice(*arguments: Any, **named: Any) -> Any:
        create(*arguments, **named)
        return create(*arguments, **named)

    monkeypatch.setattr(MlflowClient, "create_run", twice)
    stored(store, trial.derive(a_trial(config), a_capture(), 0), tmp_path / "record", parent)
    assert in_the_ui(tracking) == [("sweep", "RUNNING"), ("trial", "FINISHED")]
    assert store.frame("test")["outcome"].tolist() == ["valid"]


def test_a_twin_that_another_process_has_deleted_is_no_error(tracking: TrackingConfig) -> None:
    run = Store(tracking).open_sweep("test", "s1", MACHINE, "note")
    client = MlflowClient(store_uri(tracking))
    found = client.get_run(run)
    left.delete(client, found)
    left.delete(client, found)
    assert client.get_run(run).info.lifecycle_stage == "deleted"


@pytest.mark.parametrize("status", ["RUNNING", "KILLED"])
def test_the_next_sweep_removes_twins_that_came_later(
    status: str, tmp_path: Path, tracking: TrackingConfig, config: RunConfig
) -> None:
    store = Store(tracking)
    parent = store.open_sweep("test", "s1", "another machine", "note")
    stored(store, trial.derive(a_trial(config), a_capture(), 0), tmp_path / "record", parent)
    [run] = store.frame("test")["run_id"]
    twin_of(tracking, run, status)
    twin_of(tracking, parent, "RUNNING")
    store.close_left(None, MACHINE)
    assert in_the_ui(tracking) == [("sweep", "RUNNING"), ("trial", "FINISHED")]
    assert store.frame("test")["run_id"].tolist() == [run]
    client = MlflowClient(store_uri(tracking))
    experiment = client.get_run(run).info.experiment_id
    deleted = client.search_runs([experiment], run_view_type=ViewType.DELETED_ONLY)
    assert ["another run has all of it" in each.data.tags["slm.deleted"] for each in deleted] == [
        True,
        True,
    ]
    store.close_left("test", MACHINE)
    assert len(in_the_ui(tracking)) == 2


def test_a_sweep_that_was_killed_before_its_plan_was_stored_is_no_first_one(
    tracking: TrackingConfig,
) -> None:
    store = Store(tracking)
    store.open_sweep("test", "s1", MACHINE, "note", plan="0123")
    cut = store.open_sweep("test", "s2", MACHINE, "note", plan="0123")
    store.attach(cut, {mlflow_schema.PLAN_FILE: b'{"frozen": {"fac'})
    assert store.first_plan("test", MACHINE) is None
    whole = store.open_sweep("test", "s3", MACHINE, "note", plan="0123")
    store.attach(whole, {mlflow_schema.PLAN_FILE: b"{}"})
    assert store.first_plan("test", MACHINE) == "{}"


def test_several_processes_may_open_a_fresh_store_together(fresh: TrackingConfig) -> None:
    """Also where one was killed while it made the store."""
    left = Path(fresh.folder) / "mlflow.db.partial"
    left.parent.mkdir()
    left.write_bytes(b"cut short")
    code = (
        "import sys; from slm_energy.config.groups import TrackingConfig;"
        " from slm_energy.store.tracking import Store;"
        " Store(TrackingConfig(name='local', folder=sys.argv[1])).open_sweep('x','s','m','')"
    )
    command = [sys.executable, "-c", code, fresh.folder]
    racers = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    results = [(racer.communicate(timeout=120)[1], racer.returncode) for racer in racers]
    assert [code for _, code in results] == [0, 0], results
    client = MlflowClient(store_uri(fresh))
    experiment = client.get_experiment_by_name("x")
    assert experiment is not None
    assert len(client.search_runs([experiment.experiment_id])) == 2
    assert not left.exists()


def test_a_store_that_cannot_be_used_is_one_clear_line(
    tmp_path: Path, fresh: TrackingConfig
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(TrackingError, match=r"tracking\.folder=PATH") as raised:
        Store(TrackingConfig(name="local", folder=str(blocked / "mlruns")))
    assert "\n" not in str(raised.value)
    folder = Path(fresh.folder)
    folder.mkdir()
    (folder / "mlflow.db").write_bytes(b"this is no database" * 100)
    with pytest.raises(TrackingError, match="file is not a database"):
        Store(fresh)


def test_the_ui_is_served_on_loopback_only(tracking: TrackingConfig) -> None:
    command, environment = ui_command(tracking, 5050)
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert store_uri(tracking) in command
    assert environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"


def test_the_first_plan_of_a_machine_stays_the_first(tracking: TrackingConfig) -> None:
    store = Store(tracking)
    assert store.first_plan("test", MACHINE) is None
    for sweep, machine in (("s1", "elsewhere"), ("s2", MACHINE), ("s3", MACHINE)):
        run = store.open_sweep("test", sweep, machine, "note", plan="0123")
        store.attach(run, {"plan.json": f'"{sweep}"'.encode()})
    assert store.first_plan("test", MACHINE) == '"s2"'


def test_an_invocation_is_found_by_its_id_or_made(tracking: TrackingConfig) -> None:
    store = Store(tracking)
    known = store.open_sweep("test", "s1", MACHINE, "note")
    assert store.adopt_sweep(a_sweep(id="s1")) == known
    made = store.adopt_sweep(a_sweep(id="s2", files={"plan.json": "{}"}, status="FAILED"))
    assert made != known
    assert store.adopt_sweep(a_sweep(id="s2")) == made
    assert store.attached(made, "plan.json") == "{}"
    client = MlflowClient(store_uri(tracking))
    assert [client.get_run(run).info.status for run in (known, made)] == ["RUNNING", "FAILED"]


def test_an_invocation_that_was_half_made_is_completed(
    tracking: TrackingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tracking)
    told = a_sweep(files={"plan.json": "{}"}, status="FINISHED", ended_ms=5000)

    def killed(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(LocalArtifactRepository, "log_artifacts", killed)
        with pytest.raises(KeyboardInterrupt):
            store.adopt_sweep(told)
    run = MlflowClient(store_uri(tracking)).get_run(store.adopt_sweep(told))
    assert store.attached(run.info.run_id, "plan.json") == "{}"
    assert (run.info.status, run.info.start_time, run.info.end_time) == ("FINISHED", 1000, 5000)


def test_what_a_person_changes_in_the_ui_changes_what_is_done(
    tmp_path: Path, tracking: TrackingConfig, config: RunConfig
) -> None:
    store, client = Store(tracking), MlflowClient(store_uri(tracking))
    parent = store.open_sweep("test", "s1", MACHINE, "note")
    for number in range(3):
        each = a_trial(config, id=f"t{number}", round=number + 1)
        record = trial.derive(each, a_capture(), number * 10**9)
        stored(store, record, tmp_path / str(number), parent)
    first, second, third = store.frame("test")["run_id"]

    def outcomes() -> list[str]:
        return [past.outcome for past in store.history("test", MACHINE)]

    assert outcomes() == ["valid"] * 3
    client.delete_run(first)
    client.set_tag(third, "slm.outcome", "invalid")
    assert outcomes() == ["valid", "invalid"]
    client.restore_run(first)
    client.delete_run(second)
    assert outcomes() == ["valid", "invalid"]


def test_a_record_that_two_send_at_once_is_stored_once(
    tmp_path: Path, tracking: TrackingConfig, config: RunConfig
) -> None:
    record = trial.derive(a_trial(config), a_capture(), 0)
    (tmp_path / "record").mkdir()
    artifacts.write(tmp_path / "record", record, {})
    parent = Store(tracking).open_sweep("test", "s1", MACHINE, "note")

    def send(store: Store) -> bool:
        try:
            store.store(record, tmp_path / "record", parent, MACHINE)
        except TrackingError:
            return False
        return True

    stores = [Store(tracking) for _ in range(4)]
    with ThreadPoolExecutor(len(stores)) as pool:
        list(pool.map(send, stores))
    assert send(stores[0])
    assert len(stores[0].frame("test")) == 1
    assert len(stores[0].history("test", MACHINE)) == 1
