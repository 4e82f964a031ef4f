"""Names that become paths: of studies, trials, sweeps and machines, also those that files bring."""

from __future__ import annotations

import os
import re
from pathlib import Path

_NAME = re.compile(r"[\w .,+-]{1,200}")


def is_name(text: str) -> bool:
    """Whether a text may be part of a path: letters, digits, space and . , _ + - but not `..`."""
    return _NAME.fullmatch(text) is not None and text not in (".", "..")


def check_names(**names: str) -> None:
    """Refuse what would leave its folder as part of a path, or end a query of MLflow's.

    Raises:
        ValueError: one of them is no name; it says which.
    """
    for what, text in names.items():
        if not is_name(text):
            raise ValueError(f"{what} {text[:100]!r} is not a name")


def not_plain(folder: Path) -> Path | None:
    """The first entry below a folder that is no folder, regular file, or link to such a file in it.

    A copied folder could lead a reader with a link to any other file of its user.
    """
    inside = folder.resolve()
    for base, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(base, name)
            target = path.resolve() if path.is_symlink() else path
            regular = target.is_file() and target.resolve().is_relative_to(inside)
            if not (regular or (path.is_dir() and not path.is_symlink())):
                return path
    return None
