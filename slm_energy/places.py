"""Errors of the file system, in one line: the path that failed, and the key to change.

    naming         adds the path to an error of a write, which does not have it
    file_errors    makes that line of an error with a path

Needs only the standard library.
"""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from slm_energy.errors import SlmEnergyError

Places = Iterable[tuple[str, str | Path]]
"""Keys, each with a folder or file that it names."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FORBIDDEN = (errno.EACCES, errno.EPERM)
_OF_WRITES = (*_FULL, errno.EIO)
"""Errors of write(2) and fsync(2), which know no path."""


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Add `path` to an error of a write, which has none."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno in _OF_WRITES:
            error.filename = str(path)
        raise


@contextlib.contextmanager
def file_errors(places: Places, then: str = "") -> Iterator[None]:
    """Turn errors of files into one line; others, such as those of connections, pass.

    Args:
        places: see `file_error`.
        then: what to do once the file can be used.

    Raises:
        SlmEnergyError: a file cannot be used.
    """
    try:
        yield
    except OSError as error:
        if error.filename is None:
            raise
        raise SlmEnergyError(f"{file_error(error, places)}{then}") from error


def file_error(error: OSError, places: Places) -> SlmEnergyError:
    """The error of a file that cannot be used.

    Args:
        error: has the path.
        places: candidates for the key to change. The innermost one that contains the path is
            named; TMPDIR is always among them.
    """
    path = os.path.abspath(os.fsdecode(error.filename))
    key = _key(path, [*places, ("TMPDIR", tempfile.gettempdir())])
    setting = "" if key is None else f"set {key}=PATH"
    advice: tuple[str, ...]
    if error.errno in _FULL:
        advice = ("free space", setting)
    elif error.errno in _FORBIDDEN:
        advice = ("give this user access", setting)
    elif error.errno == errno.ENOENT:
        advice = ("put it back", setting)
    else:
        advice = (setting or "check it",)
    verb = "write" if error.errno in (*_FULL, errno.EROFS) else "use"
    remedy = ", or ".join(filter(None, advice))
    reason = os.strerror(error.errno) if error.errno else error.strerror
    return SlmEnergyError(f"cannot {verb} {path}: {reason}; {remedy}")


def _key(path: str, places: Places) -> str | None:
    """The key of the innermost place that contains the path, or else lies below it."""
    absolute = [(key, os.path.abspath(place)) for key, place in places]
    around = [(len(place), key) for key, place in absolute if _contains(place, path)]
    if around:
        return max(around)[1]
    # Such as the parent of a folder that could not be created.
    return next((key for key, place in absolute if _contains(path, place)), None)


def _contains(folder: str, path: str) -> bool:
    return os.path.commonpath((folder, path)) == folder
