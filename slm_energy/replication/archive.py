"""A package as one file, and the digests of what is in it.

A zip of a package has no dates, owners or order of its own, so that two of one study are equal.
"""

from __future__ import annotations

import contextlib
import hashlib
import stat
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from slm_energy.errors import ConfigError
from slm_energy.names import not_plain
from slm_energy.replication.differences import Difference
from slm_energy.scratch import scratch

MANIFEST = "manifest-sha256.txt"
_DATE = (1980, 1, 1, 0, 0, 0)
"""The earliest that a zip can hold."""
_MOST_BYTES = 200 * 2**30
_CHUNK = 2**20


def files_below(folder: Path) -> list[str]:
    """Names of all files, in the order of the manifest."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path.relative_to(folder).as_posix() for path in paths)


def write_manifest(folder: Path) -> str:
    """Write the digests of all other files; return the manifest's own, which identifies them."""
    lines = [
        f"{_sha256(folder / name)}  {name}\n" for name in files_below(folder) if name != MANIFEST
    ]
    (folder / MANIFEST).write_text("".join(lines), encoding="utf-8")
    return _sha256(folder / MANIFEST)


def digest(folder: Path) -> str:
    """The digest that identifies a package: that of its manifest."""
    return _sha256(folder / MANIFEST)


def check_manifest(folder: Path) -> list[Difference]:
    """Files that were changed, removed or added since the manifest was written.

    Raises:
        ConfigError: there is no manifest, or it cannot be read.
    """
    try:
        lines = (folder / MANIFEST).read_text(encoding="utf-8").splitlines()
        claimed = {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
    except FileNotFoundError:
        raise ConfigError(f"{folder}: not a package: it has no {MANIFEST}") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{folder}: {MANIFEST} is not one of sha256sum") from error
    there = set(files_below(folder)) - {MANIFEST}
    found = {name: _sha256(folder / name) for name in there}
    return [
        Difference(
            file=name,
            where="",
            claimed=f"sha256 {claimed[name][:12]}" if name in claimed else "no such file",
            found=f"sha256 {found[name][:12]}" if name in found else "missing",
            why="the file has changed since the package was made"
            if name in claimed and name in found
            else f"the file was {'removed' if name in claimed else 'added'}",
        )
        for name in sorted(claimed.keys() | found.keys())
        if claimed.get(name) != found.get(name)
    ]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def pack(folder: Path, to: Path) -> None:
    """Write a folder as a zip; equal folders become equal files."""
    with zipfile.ZipFile(to, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name in files_below(folder):
            entry = zipfile.ZipInfo(f"{to.stem}/{name}", _DATE)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            with (folder / name).open("rb") as source, archive.open(entry, "w") as target:
                while chunk := source.read(_CHUNK):
                    target.write(chunk)


@contextlib.contextmanager
def opened(place: Path) -> Iterator[Path]:
    """The folder of a package; that of a zip is temporary.

    Raises:
        ConfigError: there is no such folder or file, it is no zip, or it has an entry that would
            be written elsewhere, a link or another special file.
    """
    if place.is_dir():
        if (entry := not_plain(place)) is not None:
            raise ConfigError(
                f"{place} holds {entry.relative_to(place)}, a link out of it or no regular file:"
                " remove it"
            )
        yield place
        return
    if not place.is_file():
        raise ConfigError(f"{place}: there is no such package")
    with scratch() as folder:
        try:
            with zipfile.ZipFile(place) as archive:
                _check_entries(place, archive.infolist())
                archive.extractall(folder)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
            raise ConfigError(f"{place}: not a zip, or damaged: {error}") from error
        inside = [path for path in folder.iterdir()]
        yield inside[0] if len(inside) == 1 and inside[0].is_dir() else folder


def _check_entries(place: Path, entries: list[zipfile.ZipInfo]) -> None:
    """Refuse what is not plain files below the folder.

    Raises:
        ConfigError: an entry is something else, or all of them would fill the disk.
    """
    seen = set[str]()
    for entry in entries:
        path = PurePosixPath(entry.filename)
        kind = stat.S_IFMT(entry.external_attr >> 16)
        wrong = None
        if path.is_absolute() or ".." in path.parts or "\\" in entry.filename:
            wrong = "would be written outside the folder"
        elif kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            wrong = "is a link or another special file"
        elif entry.filename in seen:
            wrong = "is in it twice"
        if wrong:
            raise ConfigError(f"{place}: {entry.filename!r} {wrong}: nothing was unpacked")
        seen.add(entry.filename)
    if sum(entry.file_size for entry in entries) > _MOST_BYTES:
        raise ConfigError(f"{place}: unpacked it would be larger than 200 GiB: unpack it yourself")
