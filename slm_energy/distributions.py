"""Which packages are installed in this environment: their versions, and what was installed as them.

A version is a name: a patched build, a wheel of another index or one built here with other flags
may have the same. Installers list the files of a package with their hashes in its RECORD
(packaging.python.org, "Recording installed projects").
"""

from __future__ import annotations

import csv
import functools
import hashlib
import os
import sys
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, distribution

BUILDS = "builds"
"""The name among `versions` under which a digest of the installed files is."""


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Installed versions of packages, `absent` for a missing one.

    Returns:
        Package to version; and `BUILDS` to a digest of what was installed, wherever it is and by
        whatever installer. Without it if no package has a list of its files.
    """
    return dict(_versions(tuple(packages), _folders()))


def _folders() -> tuple[tuple[str, int], ...]:
    """Where packages may be, and when one was last installed or removed there."""
    folders = [folder for folder in sys.path if os.path.isdir(folder)]
    return tuple((folder, os.stat(folder).st_mtime_ns) for folder in folders)


@functools.lru_cache(maxsize=64)
def _versions(packages: tuple[str, ...], folders: tuple[tuple[str, int], ...]) -> Mapping[str, str]:
    """See `versions`; the lists of a large stack take as long to read as all else of a cell."""
    installed, builds = dict[str, str](), dict[str, str]()
    for package in packages:
        try:
            found = distribution(package)
        except PackageNotFoundError:
            installed[package] = "absent"
            continue
        installed[package] = found.version
        if (record := found.read_text("RECORD")) is not None:
            builds[package] = _content(record)
    if builds:
        text = "".join(f"{package} {build}\n" for package, build in sorted(builds.items()))
        installed[BUILDS] = hashlib.sha256(text.encode()).hexdigest()[:12]
    return installed


def _content(record: str) -> str:
    """Hash of a package's own files by their hashes.

    What differs between installations of one wheel is left out: the installer's notes, and scripts,
    which name the interpreter. Compiled files have no hash.
    """
    rows = [row for row in csv.reader(record.splitlines()) if len(row) == 3 and row[1]]
    own = sorted(
        f"{path} {digest}\n"
        for path, digest, _ in rows
        if not path.startswith(("../", "/")) and ".dist-info/" not in path
    )
    return hashlib.sha256("".join(own).encode()).hexdigest()
