"""The trials of a study, read from a database's tables instead of as MLflow's runs."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy
from mlflow import MlflowClient

from slm_energy.config.groups import RunConfig, TrackingConfig
from slm_energy.running import trial
from slm_energy.store import artifacts, trials
from slm_energy.store.connection import connect, store_uri
from slm_energy.store.runs import search
from slm_energy.store.tracking import Store
from slm_energy.store.trials import StoredTrial, Wanted, of_run, read
from tests.captures import a_capture
from tests.conftest import a_trial

HERE, ELSEWHERE = "here-123456", "elsewhere-1"
TAGS = ("slm.cell", "slm.round", "slm.outcome")


@pytest.fixture
def filled(
    tmp_path: Path, empty_store: Path, config: RunConfig
) -> tuple[MlflowClient, str, dict[str, str]]:
    """A client of a store, the study's id, and the run ids of its trials by name."""
    tracking = TrackingConfig(name="local", folder=str(tmp_path / "mlruns"))
    Path(tracking.folder).mkdir()
    shutil.copy(empty_store, tracking.folder)
    store = Store(tracking)
    entry = a_trial(config)
    measured = trial.derive(entry, a_capture(), 0)
    records = {
        "first": (measured, HERE),
        "other": (
            dataclasses.replace(measured, trial=dataclasses.replace(entry, id="o")),
            ELSEWHERE,
        ),
        "failed": (trial.failed(dataclasses.replace(entry, id="f", round=2), "broke", 0), HERE),
        "deleted": (trial.failed(dataclasses.replace(entry, id="d", round=3), "gone", 0), HERE),
    }
    for position, (name, (record, machine)) in enumerate(records.items()):
        begun = dataclasses.replace(record, started_unix_ns=(position + 1) * 10**9)
        (tmp_path / name).mkdir()
        artifacts.write(tmp_path / name, begun, {})
        parent = store.open_sweep("test", "s1", machine, "note")
        store.store(begun, tmp_path / name, parent, machine)
    client = connect(store_uri(tracking))
    study = client.get_experiment_by_name("test").experiment_id
    found = search(client, [study], "tags.`slm.kind` = 'trial'")
    ids = dict(zip(records, (run.info.run_id for run in found), strict=True))
    client.delete_run(ids.pop("deleted"))
    begun_only = client.create_run(study, 0, tags={"slm.kind": "trial", "slm.machine": HERE})
    client.log_metric(ids["failed"], "time/load_s", float("nan"))
    assert begun_only.info.run_id not in ids.values()
    return client, study, ids


def flat(pages: list[list[StoredTrial]]) -> list[StoredTrial]:
    return [each for page in pages for each in page]


def test_what_is_read_of_a_database_is_what_mlflow_returns_of_its_runs(
    filled: tuple[MlflowClient, str, dict[str, str]],
) -> None:
    client, study, ids = filled
    ours = flat(list(read(client, study, Wanted(TAGS))))
    theirs = [of_run(run) for run in search(client, [study], "tags.`slm.outcome` != ''")]
    assert [each.run_id for each in ours] == [each.run_id for each in theirs] == [*ids.values()]
    for one, other in zip(ours, theirs, strict=True):
        assert one.started_ms == other.started_ms
        assert one.tags == {key: other.tags[key] for key in TAGS}
        assert one.params == other.params
        assert list(one.params) == list(other.params)
        assert one.metrics == pytest.approx(other.metrics, rel=0, abs=0, nan_ok=True)


def test_only_what_is_wanted_is_read_of_one_machine_newest_first(
    filled: tuple[MlflowClient, str, dict[str, str]],
) -> None:
    client, study, ids = filled
    wanted = Wanted(("slm.cell",), ("model.name",), ("energy/total_j",))
    pages = list(read(client, study, wanted, machine=HERE, newest_first=True, first=1))
    assert [[each.run_id for each in page] for page in pages] == [[ids["failed"]], [ids["first"]]]
    [[failed], [measured]] = pages
    assert (failed.tags.keys(), failed.params.keys()) == ({"slm.cell"}, {"model.name"})
    assert failed.metrics == {}
    assert measured.metrics.keys() == {"energy/total_j"}


def test_the_number_of_queries_grows_with_pages_and_not_with_trials(
    filled: tuple[MlflowClient, str, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, study, ids = filled

    def queries(read_all: Callable[[], object]) -> int:
        seen: list[str] = []

        def note(*call: object) -> None:
            seen.append(str(call[2]))

        sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", note)
        try:
            read_all()
        finally:
            sqlalchemy.event.remove(sqlalchemy.Engine, "before_cursor_execute", note)
        return len([text for text in seen if text.startswith("SELECT")])

    def whole() -> None:
        assert len(flat(list(read(client, study, Wanted(TAGS))))) == len(ids)

    assert queries(whole) == 1 + 3
    monkeypatch.setattr(trials, "_PAGE", 1)
    one_by_one = Wanted(TAGS)
    assert queries(lambda: list(read(client, study, one_by_one, first=1))) == 1 + 3 * len(ids)
