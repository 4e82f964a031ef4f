"""What is new in a folder of several users gets the folder's access, whatever the umask says."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from slm_energy import shared


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


def mode(path: Path) -> str:
    return f"{stat.S_IMODE(path.stat().st_mode):04o}"


@pytest.mark.parametrize(
    ("access", "folder", "file", "program"),
    [
        (0o2775, "2775", "0664", "0775"),
        (0o1777, "1777", "0666", "0777"),
        (0o755, "0755", "0644", "0755"),
        (0o700, "0700", "0600", "0700"),
    ],
)
def test_folders_and_files_get_the_access_of_the_folder(
    tmp_path: Path, access: int, folder: str, file: str, program: str
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    root.chmod(access)
    entry = root / "kind" / "entry"
    shared.add_folder(entry, within=root)
    (entry / "weights").touch()
    (entry / "inside").mkdir()
    (entry / "inside" / "program").touch(mode=0o700)
    shared.share(entry)
    assert [mode(path) for path in (root / "kind", entry, entry / "inside")] == [folder] * 3
    assert mode(entry / "weights") == file
    assert mode(entry / "inside" / "program") == program


def test_the_umask_decides_who_may_use_the_root(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    shared.add_folder(tmp_path / "root" / "kind", within=tmp_path / "root")
    assert mode(tmp_path / "root") == "0700"
    assert mode(tmp_path / "root" / "kind") == "0700"


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.touch(mode=0o600)
    folder = tmp_path / "folder"
    folder.mkdir()
    folder.chmod(0o777)
    (folder / "link").symlink_to(outside)
    shared.share(folder)
    assert mode(outside) == "0600"
