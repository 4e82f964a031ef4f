"""A store that was copied or moved is a store: it has its own files, and leaves the original's."""

from __future__ import annotations

import shutil
from pathlib import Path

from mlflow import MlflowClient

from slm_energy.config.groups import TrackingConfig
from slm_energy.store.connection import store_uri
from slm_energy.store.location import relocate
from slm_energy.store.tracking import Store


def local(folder: Path) -> TrackingConfig:
    return TrackingConfig(name="local", folder=str(folder))


def copied(tmp_path: Path, empty_store: Path) -> tuple[str, Path, TrackingConfig]:
    """A run with a file in a store, the original's folder, and a copy of the store."""
    original = tmp_path / "original"
    original.mkdir()
    shutil.copy(empty_store, original)
    store = Store(local(original))
    run = store.open_sweep("a study", "s1", "here", "note")
    store.attach(run, {"a/b.txt": b"original"})
    copy = tmp_path / "copy %20?#"
    shutil.copytree(original, copy)
    return run, original, local(copy)


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_added_to_a_copy_is_in_the_copy(tmp_path: Path, empty_store: Path) -> None:
    run, original, tracking = copied(tmp_path, empty_store)
    before, copy = files(original), Store(tracking)
    uri = copy.attach(run, {"a/b.txt": b"copy"})
    assert uri.startswith(Path(tracking.folder).as_uri())
    assert copy.attached(run, "a/b.txt") == "copy"
    assert files(original) == before


def test_a_copy_needs_no_original(tmp_path: Path, empty_store: Path) -> None:
    run, original, tracking = copied(tmp_path, empty_store)
    shutil.rmtree(original)
    assert Store(tracking).attached(run, "a/b.txt") == "original"
    assert not original.exists()


def test_mlflow_itself_has_the_files_of_a_copy_once_it_is_relocated(
    tmp_path: Path, empty_store: Path
) -> None:
    run, original, tracking = copied(tmp_path, empty_store)
    shutil.rmtree(original)
    relocate(Path(tracking.folder))
    client = MlflowClient(store_uri(tracking))
    assert Path(client.download_artifacts(run, "a/b.txt")).read_bytes() == b"original"
    experiment = client.get_experiment_by_name("a study")
    assert experiment is not None
    assert experiment.artifact_location == f"{Path(tracking.folder).as_uri()}/artifacts/a%20study"
