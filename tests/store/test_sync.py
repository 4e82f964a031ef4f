"""Nodes without a network, and records that wait: `tracking=offline` and `slm-energy sync`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient

from slm_energy.config.groups import RunConfig, TrackingConfig
from slm_energy.machine import locked
from slm_energy.record import Record
from slm_energy.running import trial
from slm_energy.serialization import read_json, to_plain, write_json
from slm_energy.store import artifacts
from slm_energy.store.connection import store_uri
from slm_energy.store.offline import Offline, Sweep
from slm_energy.store.tracking import Store
from slm_energy.testing import CONF
from tests.captures import a_capture
from tests.conftest import QUICK, Command, a_trial, ready_store

HERE = TrackingConfig(name="local", folder="mlruns")


def trials(study: str) -> pd.DataFrame:
    return Store(HERE).frame(study)


def leave(record: Record, machine: Path) -> Path:
    """Write a record where a sweep on that machine leaves it."""
    folder = machine / record.trial.id
    folder.mkdir(parents=True)
    artifacts.write(folder, record, {})
    return folder


def a_record(config: RunConfig, name: str, study: str, sweep: str = "s1") -> Record:
    entry = a_trial(config, id=name, study=study, sweep=sweep)
    return trial.derive(entry, a_capture(), 1_700_000_000_000_000_000)


def test_a_node_without_a_network_runs_resumes_and_is_synchronised(
    tmp_path: Path, slm_energy: Command, empty_store: Path
) -> None:
    code = (
        "import sys\nfrom slm_energy.__main__ import main\n"
        "try: main()\nfinally: assert 'mlflow' not in sys.modules"
    )
    words = ["--config-dir", str(CONF), "engine=scripted", *QUICK, "tracking=offline"]
    command = [sys.executable, "-c", code, *words]
    first = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "slm-energy sync" in first.stdout
    assert not list(Path("mlruns").glob("mlflow*"))

    assert "1 trials: 1 done" in slm_energy("plan", "tracking=offline").stdout
    assert slm_energy("tracking=offline", "study.rounds=2").returncode == 0

    ready_store(tmp_path / "mlruns", empty_store)
    sent = slm_energy("sync", quick=False)
    assert sent.returncode == 0, sent.stdout + sent.stderr
    assert "study default: 2 records sent" in sent.stdout
    assert trials("default")["outcome"].tolist() == ["valid"] * 2
    client = MlflowClient(store_uri(HERE))
    for parent in {Store(HERE).last_sweep("default")}:
        assert parent is not None
        assert client.get_run(parent).info.status == "FINISHED"
        assert '"seed": 0' in Store(HERE).attached(parent, "plan.json")

    assert "nothing is pending" in slm_energy("sync", quick=False).stdout
    again = slm_energy("tracking=offline", "study.rounds=2")
    assert "nothing to do" in again.stdout
    assert "nothing to do" in slm_energy("study.rounds=2").stdout


def test_every_record_below_a_folder_is_sent_but_for_damaged_ones_and_those_of_a_running_sweep(
    tmp_path: Path, slm_energy: Command, empty_store: Path, config: RunConfig
) -> None:
    ready_store(tmp_path / "mlruns", empty_store)
    copy = tmp_path / "usb stick"
    leave(a_record(config, "t1", "one"), copy / "node-1")
    leave(a_record(config, "t2", "one", sweep="s2"), copy / "node-1")
    leave(a_record(config, "t3", "two"), copy / "deeper" / "node-2")
    damaged = leave(a_record(config, "t4", "two"), copy / "deeper" / "node-2")
    (damaged / "capture" / "readings.parquet").write_bytes(b"PAR1")
    (copy / "node-1" / "running" / "exchange").mkdir(parents=True)
    busy = leave(a_record(config, "t5", "two"), copy / "node-3")
    with locked(copy / "node-3" / "lock", lambda path: None):
        done = slm_energy("sync", str(copy), quick=False)
    assert done.returncode == 1, done.stderr
    assert "study one: 2 records sent\nstudy two: 1 records sent\n" in done.stdout
    assert f"left alone '{damaged}': holds a record that cannot be read" in done.stdout
    assert f"left alone '{busy.parent}': a sweep is running there" in done.stdout
    assert (copy / "node-1" / "running").is_dir()
    assert sorted(trials("one")["machine"]) == ["node-1", "node-1"]
    assert trials("two")["machine"].tolist() == ["node-2"]
    client = MlflowClient(store_uri(HERE))
    experiment = client.get_experiment_by_name("one")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    parents = {run.info.run_id: run.data.tags["slm.sweep"] for run in runs
               if run.data.tags["slm.kind"] == "sweep"}  # fmt: skip
    children = [run.data.tags for run in runs if run.data.tags["slm.kind"] == "trial"]
    assert all(parents[tags["mlflow.parentRunId"]] == tags["slm.sweep"] for tags in children)

    shutil.rmtree(damaged)
    assert slm_energy("sync", str(copy), quick=False).returncode == 0
    assert len(trials("two")) == 2


def test_interrupted_between_storing_and_removing_sync_stores_nothing_twice(
    tmp_path: Path,
    slm_energy: Command,
    empty_store: Path,
    config: RunConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ready_store(tmp_path / "mlruns", empty_store)
    folder = leave(a_record(config, "t1", "one"), Path("mlruns/pending/node"))

    def killed(folder: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(artifacts, "remove", killed)
        assert slm_energy("sync", quick=False).returncode == 130
    assert folder.is_dir()
    assert slm_energy("sync", quick=False).returncode == 0
    assert not folder.exists()
    assert len(trials("one")) == 1


def test_of_two_valid_trials_of_a_cell_and_round_the_first_one_stored_stays_valid(
    tmp_path: Path, slm_energy: Command, empty_store: Path, config: RunConfig
) -> None:
    """As after a partition of the network, or from a user whose TMPDIR is private."""
    ready_store(tmp_path / "mlruns", empty_store)
    for name, machine in (("t1", "node"), ("t2", "node"), ("t3", "other")):
        leave(a_record(config, name, "one"), Path(name) / machine)
        assert slm_energy("sync", name, quick=False).returncode == 0
    rows = trials("one").set_index("machine")
    assert rows.loc["other", "outcome"] == "valid"
    assert sorted(rows.loc["node", "outcome"]) == ["invalid", "valid"]
    late = rows[rows["outcome"] == "invalid"].iloc[0]
    assert late["reason"].startswith("repeated: bundled / scripted / cpu / r01 (trial t1), stored")
    outcome = json.loads(Store(HERE).attached(late["run_id"], "record.json"))["outcome"]
    assert (outcome["name"], outcome["reasons"]) == ("invalid", [late["reason"]])


def test_records_that_the_store_has_are_no_records_that_wait(
    tmp_path: Path, slm_energy: Command, empty_store: Path, config: RunConfig
) -> None:
    assert slm_energy().returncode == 0
    [place] = Path("mlruns/artifacts/default").glob("*/artifacts/record.json")
    assert "nothing is pending" in slm_energy("sync", quick=False).stdout
    refused = slm_energy("sync", str(place.parent), quick=False)
    assert refused.returncode == 1
    assert "is not where a sweep leaves a record" in refused.stdout
    assert place.is_file()


def test_one_study_that_the_store_refuses_keeps_no_other_back(
    tmp_path: Path, slm_energy: Command, empty_store: Path, config: RunConfig
) -> None:
    ready_store(tmp_path / "mlruns", empty_store)
    kept = leave(a_record(config, "t1", "deleted"), Path("mlruns/pending/node"))
    leave(a_record(config, "t2", "other"), Path("mlruns/pending/node"))
    client = MlflowClient(store_uri(HERE))
    client.delete_experiment(client.create_experiment("deleted"))
    done = slm_energy("sync", quick=False)
    assert done.returncode == 3
    assert "study deleted: 0 records sent; the rest waits: study.name=deleted was" in done.stdout
    assert "study other: 1 records sent" in done.stdout
    assert kept.is_dir()


@pytest.mark.parametrize(
    ("key", "name"),
    [("study", "/tmp/elsewhere"), ("study", ".."), ("study", "a'b"), ("sweep", "../../elsewhere")],
)
def test_a_copied_record_makes_nothing_outside_the_store(
    key: str, name: str, slm_energy: Command, empty_store: Path, config: RunConfig
) -> None:
    ready_store(Path("mlruns"), empty_store)
    good = leave(a_record(config, "t1", "one"), Path("copy/node-1"))
    bad = shutil.copytree(good, good.with_name("t2"))
    record = json.loads((bad / "record.json").read_text())
    record["trial"] |= {"id": "t2", key: name}
    (bad / "record.json").write_text(json.dumps(record))
    before = set(Path().rglob("*"))
    done = slm_energy("sync", "copy", quick=False)
    assert done.returncode == 1
    assert f"left alone {bad.absolute()}" in done.stdout
    assert f"{key} {name!r} is not a name" in done.stdout
    assert trials("one")["outcome"].tolist() == ["valid"]
    new = {path.parts[:3] for path in set(Path().rglob("*")) - before}
    assert {parts for parts in new if parts[0] != "mlruns"} <= {("copy", "node-1", "lock")}
    assert [path.name for path in Path("mlruns/artifacts").iterdir()] == ["one"]
    assert not Path("/tmp/elsewhere").exists()


def test_no_link_of_a_copied_folder_is_followed(
    tmp_path: Path, slm_energy: Command, empty_store: Path, config: RunConfig
) -> None:
    ready_store(tmp_path / "mlruns", empty_store)
    secret = tmp_path / "secret"
    secret.write_text("of this user alone")
    copy = tmp_path / "copy"
    good = leave(a_record(config, "t1", "one"), copy / "node-1")
    (good / "outputs" / "alias.json").symlink_to("generations.json")  # it stays in its record
    file = leave(a_record(config, "t2", "one"), copy / "node-1")
    (file / "outputs" / "notes.txt").symlink_to(secret)
    folder = leave(a_record(config, "t3", "one"), copy / "node-1")
    (folder / "outputs" / "more").symlink_to(tmp_path)
    pipe = leave(a_record(config, "t4", "one"), copy / "node-1")
    os.mkfifo(pipe / "outputs" / "pipe")
    (copy / "node-1" / "linked").symlink_to(tmp_path)
    locked_out = leave(a_record(config, "t5", "one"), copy / "node-2").parent
    (locked_out / "lock").symlink_to(tmp_path / "made elsewhere")
    for name, target in (("s1.sweep.json", secret), ("one.sent.jsonl", tmp_path / "made too")):
        machine = leave(a_record(config, "t6", f"of {name}"), copy / f"with {name}").parent
        (machine / name.replace("one", f"of {name}")).symlink_to(target)

    done = slm_energy("sync", str(copy), quick=False)
    assert done.returncode == 1
    for record, name in ((file, "outputs/notes.txt"), (folder, "outputs/more"), (pipe, "pipe")):
        assert f"left alone {record}: holds" in done.stdout
        assert name in done.stdout
    assert f"left alone {locked_out}: the lock" in done.stdout
    assert done.stdout.count("is a link, which is not followed") == 2
    assert trials("one")["outcome"].tolist() == ["valid"]
    stored = [path.read_bytes() for path in (tmp_path / "mlruns").rglob("*") if path.is_file()]
    assert not any(b"of this user alone" in content for content in stored)
    assert not list(tmp_path.glob("made*"))
    assert secret.read_text() == "of this user alone"


def test_the_files_of_a_copied_sweep_stay_in_their_run(
    tmp_path: Path, slm_energy: Command, empty_store: Path, config: RunConfig
) -> None:
    ready_store(tmp_path / "mlruns", empty_store)
    machine = leave(a_record(config, "t1", "one"), tmp_path / "copy" / "node-1").parent
    sweep = Sweep(id="s1", study="one", machine="node-1", started_ms=1)
    write_json(machine / "s1.sweep.json", {**to_plain(sweep), "files": {"../../out.txt": "x"}})
    done = slm_energy("sync", "copy", quick=False)
    assert done.returncode == 3
    assert "file '../../out.txt' is not a name" in done.stdout
    assert not list(tmp_path.rglob("out.txt"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "there is no such folder"),
        ([".", "tracking=offline"], "tracking=offline has no store"),
        (["one", "two"], r"slm-energy sync [FOLDER]"),
        (["tracking.folder=5"], "tracking.folder=5 is not valid: expected str, got 5"),
    ],
)
def test_what_sync_cannot_do_is_one_line(
    slm_energy: Command, words: list[str], message: str
) -> None:
    refused = slm_energy("sync", *words, quick=False)
    assert refused.returncode == 2
    assert message in refused.stderr


def test_the_scope_of_a_sweep_without_a_store_reaches_its_parent_run(
    tmp_path: Path, empty_store: Path
) -> None:
    away = Offline(TrackingConfig(name="offline", folder=str(tmp_path / "away"), offline=True))
    file = away.open_sweep("test", "s1", "m1", "note", "0123", "whole machine at the wall")
    away.close_sweep(file, "FINISHED")
    ready_store(tmp_path / "mlruns", empty_store)
    here = TrackingConfig(name="local", folder=str(tmp_path / "mlruns"))
    parent = Store(here).adopt_sweep(read_json(Path(file), Sweep))
    tags = MlflowClient(store_uri(here)).get_run(parent).data.tags
    assert (tags["slm.measured"], tags["slm.plan"]) == ("whole machine at the wall", "0123")
