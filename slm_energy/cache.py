"""Content-addressed cache of files that are derived from weights once and used by many trials.

    CACHE/KIND/KEY/        the files; manifest.json is written last
    CACHE/KIND/KEY.lock    held by the process that builds the entry
    CACHE/KIND/KEY.partial an entry being built; the next build removes leftovers

KIND is the producer (`onnx`, `openvino`, `gguf`, `random` ...); KEY is a hash of everything that
determines the content: weights, library versions, settings. An entry appears by one rename after
all its files are on disk, so a killed build is never visible; the manifest reveals a damaged entry,
which is rebuilt. The manifest's modification time is the time of last use. Entries used within the
last hour are never removed to make room, because a running trial may be reading them. Lock files
are empty and stay, because a process may be waiting for one.

Several users may share a cache: what is new in it gets the access of its folder (`shared.py`).
Entries of others are used as they are, also in a cache that cannot be written; their time of last
use is updated only where the user may write them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import functools
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Literal

from slm_energy import shared
from slm_energy.errors import EngineError
from slm_energy.machine import locked
from slm_energy.places import naming
from slm_energy.serialization import Json, read_json, sync, write_json

MANIFEST = "manifest.json"
_PARTIAL, _LOCK = ".partial", ".lock"
_IN_USE_S = 3600.0
_NO_SPACE_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """Content and origin of an entry.

    Attributes:
        files: name relative to the entry, to SHA-256.
        identity: the values hashed into its key.
        facts: data from its producer.
        model: name of the model it was made from; empty in files of older versions.
    """

    files: dict[str, str]
    identity: dict[str, Json]
    facts: dict[str, Json]
    model: str = ""


State = Literal["whole", "damaged", "unfinished", "closed"]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class CacheEntry:
    """One entry on disk.

    Attributes:
        kind: its producer.
        path: its folder, or its `place` if it was never finished.
        size_bytes: of all its files; None if it is `closed`.
        used_unix_s: when it was last used.
        state: `damaged` if a file is missing or its manifest is not one (the content of files is
            checked only when they are used); `unfinished` if its build has not finished, running or
            not; `closed` if another user made it and this one may not read it.
        identity: the values hashed into its key; empty without a manifest.
        model: name of the model it was made from; empty if that is not known.
    """

    kind: str
    path: Path
    size_bytes: int | None
    used_unix_s: float
    state: State
    identity: dict[str, Json]
    model: str = ""


def root(folder: str | None) -> Path:
    """The folder of the cache: `cache.folder` if it is set, else in the user's cache folder."""
    import platformdirs  # missing in a worker's environment

    return Path(folder or platformdirs.user_cache_dir("slm_energy")).expanduser().absolute()


def place(cache: Path, kind: str, identity: Mapping[str, Json]) -> Path:
    """The folder where the entry with this identity is, or will be."""
    text = json.dumps(identity, sort_keys=True)
    return cache / kind / hashlib.sha256(text.encode()).hexdigest()[:16]


def intact(folder: Path) -> bool:
    """Whether an entry exists with all files unchanged; if so, update its time of last use.

    A file is hashed once per process.

    Raises:
        OSError: it cannot be read.
    """
    manifest = _manifest(folder)
    if manifest is None:
        return False
    files = manifest.files.items()
    if not all((folder / name).is_file() and file_digest(folder / name) == h for name, h in files):
        return False
    _note_use(folder)
    return True


def make(
    folder: Path,
    identity: Mapping[str, Json],
    fill: Callable[[Path], Mapping[str, Json]],
    model: str = "",
) -> None:
    """Build an entry unless it is intact; other processes that need it wait.

    Args:
        folder: its `place`.
        identity: the values hashed into its key, for listings of the cache.
        fill: writes the files into the folder it is passed; returns facts for the manifest.
        model: name of the model it is made from, for listings too.

    Raises:
        OSError: the cache cannot be written.
    """
    if intact(folder):  # perhaps in a cache that cannot be written
        return
    shared.add_folder(folder.parent, within=folder.parent.parent)
    with locked(_lock(folder)):
        if intact(folder):
            return
        partial = _partial(folder)
        for leftover in (folder, partial):
            if leftover.exists():
                shutil.rmtree(leftover)
        try:
            partial.mkdir()
            shared.share(partial)
            with naming(partial), _full_disk_named(partial):
                _seal(partial, identity, fill(partial), model)
            partial.rename(folder)
            sync(folder.parent)
        finally:
            if partial.exists():
                shutil.rmtree(partial)


def facts(folder: Path) -> dict[str, Json]:
    """The facts from an entry's producer; updates its time of last use.

    Raises:
        EngineError: it was never built.
    """
    try:
        _note_use(folder)
    except FileNotFoundError:
        raise EngineError(f"no cache entry in {folder}: run the prepare step first") from None
    return read_json(folder / MANIFEST, Manifest).facts


def entries(cache: Path) -> list[CacheEntry]:
    """Every entry in any state, least recently used first; a `closed` kind is one entry.

    Raises:
        OSError: the cache's folder cannot be read.
    """
    kinds = [path for path in cache.iterdir() if path.is_dir()] if cache.exists() else []
    paths = [(kind, p) for kind in kinds for p in (kind.glob("*/") if _is_open(kind) else [kind])]
    paths = [(kind, path) for kind, path in paths if path.suffix in ("", _PARTIAL)]
    existing = [entry for kind, path in paths if (entry := _entry(kind.name, path)) is not None]
    return sorted(existing, key=lambda entry: entry.used_unix_s)


def remove(folder: Path) -> bool:
    """Remove an entry and the leftovers of an unfinished one.

    Returns:
        False if a process is building it.

    Raises:
        OSError: its files cannot be removed.
    """
    if not folder.parent.exists():
        return True
    partial = _partial(folder)
    try:
        with locked(_lock(folder), _give_up):
            if partial.exists():
                shutil.rmtree(partial)
            if folder.exists():
                folder.rename(partial)  # at once: half an entry must not look whole
                shutil.rmtree(partial)
    except _InUse:
        return False
    return True


class _InUse(Exception):
    """Another process holds the lock of an entry."""


def _give_up(path: Path) -> None:
    raise _InUse


def trim(cache: Path, limit_bytes: float, spare_since_unix_s: float) -> list[CacheEntry]:
    """Remove the least recently used entries until the cache is within its limit.

    Those that this user may not remove stay.

    Args:
        cache: the cache's folder.
        limit_bytes: limit for the total size of all entries.
        spare_since_unix_s: entries used since then are kept regardless of the limit; so are those
            used within the last hour.

    Returns:
        The removed entries.

    Raises:
        OSError: an entry's files cannot be removed, for another reason.
    """
    spare_since_unix_s = min(spare_since_unix_s, time.time() - _IN_USE_S)
    candidates = [(entry, entry.size_bytes) for entry in entries(cache)]
    total = sum(size for _, size in candidates if size is not None)
    removed = []
    for entry, size in candidates:
        if total <= limit_bytes or entry.used_unix_s >= spare_since_unix_s:
            break
        with contextlib.suppress(PermissionError):
            if size is not None and remove(entry.path):
                total -= size
                removed.append(entry)
    return removed


def file_digest(path: Path, kind: Literal["sha256", "git"] = "sha256") -> str:
    """Hash of a file as hex digits; a file is read once per process unless it changes.

    The time of its last change of status is set by the kernel, so that a new content with the old
    size and date is noticed too.

    Args:
        path: the file.
        kind: `git` is SHA-1 of the content as an object of Git.
    """
    status = path.stat()
    times_ns = status.st_mtime_ns, status.st_ctime_ns
    return _file_digest(path, kind, status.st_size, status.st_ino, times_ns)


def require_space(folder: Path, size_bytes: int) -> None:
    """Refuse to write this much where there is no room, for libraries that do not say so.

    Raises:
        OSError: the disk has less space.
    """
    if shutil.disk_usage(folder).free < size_bytes:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))


@contextlib.contextmanager
def _full_disk_named(folder: Path) -> Iterator[None]:
    """Name a full disk as that: libraries raise what cannot be written as any type of error."""
    try:
        yield
    except Exception:
        require_space(folder, _NO_SPACE_BYTES)
        raise


def _seal(
    folder: Path, identity: Mapping[str, Json], facts: Mapping[str, Json], model: str
) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in files:
        sync(path)
    manifest = Manifest(
        files={str(path.relative_to(folder)): file_digest(path) for path in files},
        identity=dict(identity),
        facts=dict(facts),
        model=model,
    )
    write_json(folder / MANIFEST, manifest)
    shared.share(folder)
    sync(folder)


def _note_use(folder: Path) -> None:
    """Update an entry's time of last use, where this user may."""
    try:
        os.utime(folder / MANIFEST)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise


def _partial(folder: Path) -> Path:
    return folder.with_name(folder.name + _PARTIAL)


def _lock(folder: Path) -> Path:
    return folder.with_name(folder.name + _LOCK)


def _entry(kind: str, path: Path) -> CacheEntry | None:
    """The entry on disk; None if another process removed it meanwhile."""
    state: State = "whole"
    manifest: Manifest | None = None
    size: int | None = None
    try:
        used_unix_s = path.stat().st_mtime
        if not _is_open(path):
            state = "closed"
        elif path.suffix == _PARTIAL:
            state = "unfinished"
        else:
            manifest = _manifest(path)
            whole = manifest is not None and all((path / name).is_file() for name in manifest.files)
            state = "whole" if whole else "damaged"
        if state != "closed":
            if (path / MANIFEST).exists():
                used_unix_s = (path / MANIFEST).stat().st_mtime
            size = sum(file.lstat().st_size for file in path.rglob("*") if file.is_file())
    except FileNotFoundError:
        return None
    except PermissionError:
        state = "closed"
    return CacheEntry(
        kind=kind,
        path=path.with_suffix(""),
        size_bytes=size,
        used_unix_s=used_unix_s,
        state=state,
        identity={} if manifest is None else manifest.identity,
        model="" if manifest is None else manifest.model,
    )


def _is_open(folder: Path) -> bool:
    return os.access(folder, os.R_OK | os.X_OK)


def _manifest(folder: Path) -> Manifest | None:
    """An entry's manifest; None if it is missing or not in this version's format."""
    try:
        return read_json(folder / MANIFEST, Manifest)
    except (FileNotFoundError, ValueError):
        return None


@functools.lru_cache(maxsize=4096)
def _file_digest(path: Path, kind: str, size: int, inode: int, times_ns: tuple[int, int]) -> str:
    with path.open("rb") as file:
        if kind == "sha256":
            return hashlib.file_digest(file, kind).hexdigest()
        git = hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
        return hashlib.file_digest(file, lambda: git).hexdigest()
