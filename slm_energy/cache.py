"""What is derived from weights once and used by many trials, in a cache addressed by content.

    CACHE/KIND/KEY/        the files; manifest.json is written last
    CACHE/KIND/KEY.lock    one maker at a time
    CACHE/KIND/KEY.partial an entry in the making; its leftovers are removed by the next maker

KIND is what made it (`onnx`, `openvino`, `gguf`, `random` ...); KEY is a hash of everything that
decides the content: weights, library versions, settings. An entry appears by one rename after
everything in it is on disk, so one whose maker was killed is never seen; its manifest tells a
damaged one, which is made again. The manifest's time of change says when it was last used, and what
was used within the hour is never taken to make room: a trial that runs somewhere may be reading it.
Lock files are empty and stay, because somebody may be waiting for one.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from slm_energy.errors import EngineError
from slm_energy.serialization import Json, read_json, sync, write_json

MANIFEST = "manifest.json"
_PARTIAL, _LOCK = ".partial", ".lock"
_IN_USE_S = 3600.0


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
class CacheEntry:
    """One entry as the disk has it.

    Attributes:
        kind: what made it.
        path: its folder, or its `place` if it was never finished.
        size_bytes: of all its files.
        used_unix_s: when it was last used.
        state: `damaged` if a file is missing or its manifest cannot be read (what the files hold
            is looked at only when they are used); `unfinished` if its maker has not come to an end,
            alive or not.
        identity: what its key was made from; empty if it is not whole.
    """

    kind: str
    path: Path
    size_bytes: int
    used_unix_s: float
    state: Literal["whole", "damaged", "unfinished"]
    identity: dict[str, Json]


def root(folder: str | None) -> Path:
    """The cache's own folder: `cache.folder` if it is set, else one of this user's."""
    import platformdirs  # which a worker in another environment lacks

    return Path(folder or platformdirs.user_cache_dir("slm_energy")).expanduser().absolute()


def place(cache: Path, kind: str, identity: Mapping[str, Json]) -> Path:
    """The folder where the entry with this identity is, or will be."""
    text = json.dumps(identity, sort_keys=True)
    return cache / kind / hashlib.sha256(text.encode()).hexdigest()[:16]


def intact(folder: Path) -> bool:
    """Tell whether an entry is there with every byte that was written; if so it counts as used now.

    A file is hashed once per process.
    """
    manifest = _manifest(folder)
    if manifest is None:
        return False
    files = manifest.files.items()
    if not all((folder / name).is_file() and file_digest(folder / name) == h for name, h in files):
        return False
    os.utime(folder / MANIFEST)
    return True


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
    with _lock(folder):
        if intact(folder):
            return
        partial = _partial(folder)
        for leftover in (folder, partial):
            if leftover.exists():
                shutil.rmtree(leftover)
        try:
            partial.mkdir()
            _seal(partial, identity, fill(partial))
            partial.rename(folder)
            sync(folder.parent)
        finally:
            if partial.exists():
                shutil.rmtree(partial)


def facts(folder: Path) -> dict[str, Json]:
    """What an entry's maker said of it; the entry counts as used now.

    Raises:
        EngineError: it was never made.
    """
    try:
        os.utime(folder / MANIFEST)
    except FileNotFoundError:
        raise EngineError(f"nothing is in {folder}: run the prepare step first") from None
    return read_json(folder / MANIFEST, Manifest).facts


def entries(cache: Path) -> list[CacheEntry]:
    """Every entry, whole or not, the one used longest ago first."""
    paths = [path for path in cache.glob("*/*/") if path.suffix in ("", _PARTIAL)]
    found = [entry for path in paths if (entry := _entry(path)) is not None]
    return sorted(found, key=lambda entry: entry.used_unix_s)


def remove(folder: Path) -> bool:
    """Remove an entry and what an unfinished one left.

    Returns:
        False if somebody is making it right now.

    Raises:
        OSError: its files cannot be removed.
    """
    partial = _partial(folder)
    try:
        with _lock(folder, timeout_s=0):
            if partial.exists():
                shutil.rmtree(partial)
            if folder.exists():
                folder.rename(partial)  # at once: half an entry must not look whole
                shutil.rmtree(partial)
    except Timeout:
        return False
    return True


def trim(cache: Path, limit_bytes: float, spare_since_unix_s: float) -> list[CacheEntry]:
    """Remove what was used longest ago until the cache is within its limit.

    Args:
        cache: the cache's folder.
        limit_bytes: what all entries together may take.
        spare_since_unix_s: what was used since then stays, whatever the limit says; so does what
            was used within the last hour.

    Returns:
        What was removed.

    Raises:
        OSError: an entry's files cannot be removed.
    """
    spare_since_unix_s = min(spare_since_unix_s, time.time() - _IN_USE_S)
    found = entries(cache)
    total = sum(entry.size_bytes for entry in found)
    removed = []
    for entry in found:
        if total <= limit_bytes or entry.used_unix_s >= spare_since_unix_s:
            break
        if remove(entry.path):
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
        sync(path)
    manifest = Manifest(
        files={str(path.relative_to(folder)): file_digest(path) for path in files},
        identity=dict(identity),
        facts=dict(told),
    )
    write_json(folder / MANIFEST, manifest)
    sync(folder)


def _partial(folder: Path) -> Path:
    return folder.with_name(folder.name + _PARTIAL)


def _lock(folder: Path, timeout_s: float = -1) -> FileLock:
    return FileLock(f"{folder}{_LOCK}", timeout=timeout_s)


def _entry(path: Path) -> CacheEntry | None:
    """What the disk has of an entry; None if somebody removed it meanwhile."""
    state: Literal["whole", "damaged", "unfinished"] = "whole"
    identity: dict[str, Json] = {}
    try:
        if path.suffix == _PARTIAL:
            state = "unfinished"
        else:
            manifest = _manifest(path)
            whole = manifest is not None and all((path / name).is_file() for name in manifest.files)
            state = "whole" if whole else "damaged"
            identity = manifest.identity if manifest else {}
        marked = path / MANIFEST
        return CacheEntry(
            kind=path.parent.name,
            path=path.with_suffix(""),
            size_bytes=sum(file.stat().st_size for file in path.rglob("*") if file.is_file()),
            used_unix_s=(marked if marked.exists() else path).stat().st_mtime,
            state=state,
            identity=identity,
        )
    except FileNotFoundError:
        return None


def _manifest(folder: Path) -> Manifest | None:
    """An entry's manifest; None if it is not what this version writes."""
    try:
        return read_json(folder / MANIFEST, Manifest)
    except (FileNotFoundError, ValueError):
        return None


@functools.lru_cache(maxsize=4096)
def _file_digest(path: Path, size: int, mtime_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
