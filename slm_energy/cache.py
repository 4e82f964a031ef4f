"""What is derived from weights once and used by many trials, in a cache addressed by content.

    CACHE/KIND/KEY/        the files; manifest.json is written last
    CACHE/KIND/KEY.lock    one maker at a time
    CACHE/KIND/KEY.partial an entry in the making; its leftovers are removed by the next maker

KIND is what made it (`onnx`, `openvino`, `gguf`, `random` ...); KEY is a hash of everything that
decides the content: weights, library versions, settings. An entry appears by one rename after
everything in it is on disk, so one whose maker was killed is never seen; its manifest tells a
damaged one, which is made again. The manifest's time of change says when it was last used.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from filelock import FileLock, Timeout

from slm_energy.plain import Json, read_json, write_json

MANIFEST = "manifest.json"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """What an entry holds.

    Attributes:
        files: name relative to the entry, to SHA-256.
        identity: what its key was made from.
        facts: what its maker has to say of it.
    """

    files: dict[str, str]
    identity: dict[str, Json]
    facts: dict[str, Json]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One entry as the disk has it.

    Attributes:
        kind: what made it.
        path: its folder.
        size_bytes: of all its files.
        used_unix_s: when it was last used.
        identity: what its key was made from; empty if its manifest cannot be read.
    """

    kind: str
    path: Path
    size_bytes: int
    used_unix_s: float
    identity: dict[str, Json]


def place(cache: Path, kind: str, identity: Mapping[str, Json]) -> Path:
    """The folder where the entry with this identity is, or will be."""
    text = json.dumps(identity, sort_keys=True)
    return cache / kind / hashlib.sha256(text.encode()).hexdigest()[:16]


def intact(folder: Path) -> bool:
    """Tell whether an entry is there with every byte that was written (hashed once per process)."""
    try:
        files = read_json(folder / MANIFEST, Manifest).files
    except (FileNotFoundError, ValueError):
        return False  # absent, or not what this version writes: to be made again
    return all((folder / n).is_file() and file_digest(folder / n) == h for n, h in files.items())


def make(
    folder: Path, identity: Mapping[str, Json], fill: Callable[[Path], Mapping[str, Json]]
) -> None:
    """Make an entry unless it is intact; others who want the same one wait for it.

    Args:
        folder: its `place`.
        identity: what the place was made from, for whoever lists the cache.
        fill: writes the files into the folder it is given; returns facts for the manifest.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if intact(folder):
            return
        partial = folder.with_name(f"{folder.name}.partial")
        for leftover in (folder, partial):
            if leftover.exists():
                shutil.rmtree(leftover)
        try:
            partial.mkdir()
            _seal(partial, identity, fill(partial))
            partial.rename(folder)
            _sync(folder.parent)
        finally:
            if partial.exists():
                shutil.rmtree(partial)


def facts(folder: Path) -> dict[str, Json]:
    """What an entry's maker said of it; the entry counts as used now.

    Raises:
        FileNotFoundError: it was never made.
    """
    os.utime(folder / MANIFEST)
    return read_json(folder / MANIFEST, Manifest).facts


def entries(cache: Path) -> list[Entry]:
    """Every entry, the one used longest ago first."""
    found = [_entry(path.parent) for path in cache.glob(f"*/*/{MANIFEST}")]
    return sorted(found, key=lambda entry: entry.used_unix_s)


def remove(folder: Path) -> bool:
    """Remove an entry; False if somebody is making it right now."""
    try:
        with FileLock(f"{folder}.lock", timeout=0):
            (folder / MANIFEST).unlink(missing_ok=True)  # half an entry must not look whole
            shutil.rmtree(folder, ignore_errors=True)
    except Timeout:
        return False
    return True


def trim(cache: Path, limit_bytes: float, keep: frozenset[Path] = frozenset()) -> list[Entry]:
    """Remove what was used longest ago until the cache is within its limit.

    Args:
        cache: the cache's folder.
        limit_bytes: what all entries together may take.
        keep: entries in use, which stay whatever the limit says.

    Returns:
        What was removed.
    """
    found = entries(cache)
    total = sum(entry.size_bytes for entry in found)
    removed = []
    for entry in found:
        if total <= limit_bytes:
            break
        if entry.path not in keep and remove(entry.path):
            total -= entry.size_bytes
            removed.append(entry)
    return removed


def file_digest(path: Path) -> str:
    """SHA-256 of a file as hex digits; a file is read once per process unless it changes."""
    status = path.stat()
    return _file_digest(path, status.st_size, status.st_mtime_ns)


def _seal(folder: Path, identity: Mapping[str, Json], told: Mapping[str, Json]) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in files:
        _sync(path)
    manifest = Manifest(
        files={str(path.relative_to(folder)): file_digest(path) for path in files},
        identity=dict(identity),
        facts=dict(told),
    )
    write_json(folder / MANIFEST, manifest)
    _sync(folder)


def _entry(folder: Path) -> Entry:
    try:
        identity = read_json(folder / MANIFEST, Manifest).identity
    except ValueError:
        identity = {}
    return Entry(
        kind=folder.parent.name,
        path=folder,
        size_bytes=sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        used_unix_s=(folder / MANIFEST).stat().st_mtime,
        identity=identity,
    )


@functools.lru_cache(maxsize=4096)
def _file_digest(path: Path, size: int, mtime_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
