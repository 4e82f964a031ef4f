"""Names that become paths: of studies, trials, sweeps and machines, also those that files bring."""

from __future__ import annotations

import os
import re
import stat
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
    """The first entry below a folder that is neither a regular file nor a folder, such as a link.

    A copied folder could lead a reader with it to any other file of its user.
    """
    for base, folders, files in os.walk(folder):
        for name in (*folders, *files):
            mode = Path(base, name).lstat().st_mode
            if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
                return Path(base, name)
    return None
