"""Temporary folders: removed by their owner, or by whoever starts next."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from slm_energy.scratch import collect, scratch

OWNER = """
import time
from slm_energy.scratch import scratch
with scratch() as folder:
    (folder / "file").touch()
    print(folder, flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def own_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def owner() -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Another process with a folder."""
    with subprocess.Popen(
        [sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield process, Path(process.stdout.readline().strip())
        process.kill()


def test_a_folder_is_removed_at_the_end(own_tmp: Path) -> None:
    with scratch() as folder:
        (folder / "file").touch()
        assert folder.parent == own_tmp
    assert list(own_tmp.iterdir()) == []


def test_what_a_killed_process_left_is_collected_and_what_a_living_one_has_is_not(
    own_tmp: Path, owner: tuple[subprocess.Popen[str], Path]
) -> None:
    process, theirs = owner
    with scratch() as ours:
        collect()
        assert sorted(own_tmp.iterdir()) == sorted([ours, theirs])
        process.kill()
        process.wait()
        collect()
        assert list(own_tmp.iterdir()) == [ours]


def test_links_files_and_folders_of_others_stay(own_tmp: Path) -> None:
    outside = own_tmp / "outside"
    outside.mkdir()
    (outside / "file").touch()
    (own_tmp / "slm-energy.link").symlink_to(outside)
    (own_tmp / "slm-energy.file").touch()
    others = own_tmp / "slm-energy.other"
    others.mkdir()
    if os.geteuid() == 0:
        os.chown(others, 65534, 65534)
    else:
        others.chmod(0)
    collect()
    assert (outside / "file").exists()
    assert len(list(own_tmp.glob("slm-energy.*"))) == 3
