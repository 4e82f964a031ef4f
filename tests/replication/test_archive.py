"""A package as a zip: equal studies become equal files, and a hostile zip writes nothing."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path

import pytest

from slm_energy.errors import ConfigError
from slm_energy.replication import archive


def test_equal_folders_become_equal_zips_whatever_their_dates(tmp_path: Path) -> None:
    for name in ("one", "two"):
        folder = tmp_path / name / "package"
        (folder / "records").mkdir(parents=True)
        (folder / "records" / "b.json").write_text("{}")
        (folder / "a.md").write_text("x")
        archive.write_manifest(folder)
        archive.pack(folder, tmp_path / f"{name}" / "package.zip")
    one, two = (tmp_path / name / "package.zip" for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
    with archive.opened(one) as folder:
        assert archive.check_manifest(folder) == []
        assert archive.files_below(folder) == ["a.md", archive.MANIFEST, "records/b.json"]


def a_link() -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo("package/secrets")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    return entry


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ("../outside.txt", "would be written outside"),
        ("package/../../outside.txt", "would be written outside"),
        ("/outside.txt", "would be written outside"),
        ("package\\..\\outside.txt", "would be written outside"),
        (a_link(), "is a link"),
    ],
    ids=["dots", "dots inside", "absolute", "backslashes", "link"],
)
def test_a_zip_with_an_unsafe_entry_is_refused_and_nothing_is_written(
    entry: str | zipfile.ZipInfo, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    path = tmp_path / "package.zip"
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("package/package.json", "{}")
        made.writestr(entry, "/etc/passwd")
    with pytest.raises(ConfigError, match=why), archive.opened(path):
        pass
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["package.zip", "temporary"]


def test_a_damaged_zip_is_refused_in_one_line(tmp_path: Path) -> None:
    whole = tmp_path / "whole.zip"
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("package/package.json", "{}" * 5000)
    content = bytearray(whole.read_bytes())
    content[60:70] = b"0123456789"
    for name, damaged in {"cut": content[: len(content) // 2], "changed": content}.items():
        path = tmp_path / f"{name}.zip"
        path.write_bytes(damaged)
        with pytest.raises(ConfigError, match="not a zip, or damaged"), archive.opened(path):
            pass


def test_a_package_with_a_link_out_of_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "record.json").symlink_to("/etc/passwd")
    with (
        pytest.raises(ConfigError, match="a link out of it"),
        archive.opened(tmp_path / "package"),
    ):
        pass
