"""Which code of this package runs: its folder, its digest, and the variable that hands it on.

A child process imports `slm_energy` by name. With a second checkout or an installed wheel that name
may mean other code than that of its parent, so each child gets this package's folder first on its
path, reports the digest of what it runs, and its parent compares the two.
"""

from __future__ import annotations

import functools
import hashlib
import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
FOLDER = "package"
"""Name of the folder that holds only a link to this package."""


@functools.cache
def digest() -> str:
    """Digest of the content of this package's files: an edit in a checkout counts as a change.

    It is computed once per process. A process that lives long calls it first when it starts, so
    that a later edit is not taken for the code that it has imported.
    """
    content = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        content.update(str(path.relative_to(PACKAGE)).encode() + b"\0" + path.read_bytes())
    return content.hexdigest()[:12]


def report() -> dict[str, str]:
    """What a child tells its parent: the digest of its code, and its folder."""
    return {"code": digest(), "package": str(PACKAGE)}


def difference(code: str | None, package: str | None) -> str | None:
    """One line if a child does not run this process's code; None if it does.

    Args:
        code: the digest that it reported; None if it reported none.
        package: the folder that it reported.
    """
    if code == digest():
        return None
    if package == str(PACKAGE):
        return f"{package} has changed since this command started: run it again"
    return (
        f"it runs other code ({code or 'unknown'} in {package or 'an unknown folder'}) than this"
        f" command ({digest()} in {PACKAGE}): uninstall the other one, or let its interpreter keep"
        " PYTHONPATH"
    )


def on_path(folder: Path, inherited: str | None = None) -> dict[str, str]:
    """The environment variable that puts this package, and nothing beside it, first on the path.

    Args:
        folder: an existing one that outlives the process; gets a link to the package, because what
            is beside the package may hide modules of the standard library or of the environment.
        inherited: the value of PYTHONPATH to keep after it.
    """
    alone = folder / FOLDER
    alone.mkdir(exist_ok=True)
    link = alone / PACKAGE.name
    if not link.exists():
        link.symlink_to(PACKAGE)
    return {"PYTHONPATH": os.pathsep.join(filter(None, (str(alone), inherited)))}
