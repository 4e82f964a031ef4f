"""Folders that several users share: what is new in one gets the folder's own access.

The umask of a user decides who can use `cache.folder` and `tracking.folder` themselves. What is
made inside them follows their mode: in a folder with mode 2775, group members can use and replace
each other's files, in one with mode 0755 they can read them. Needs only the standard library.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

_ACCESS = stat.S_ISGID | stat.S_ISVTX | 0o777


def add_folder(folder: Path, within: Path) -> None:
    """Create a folder unless it exists, and with it what is missing between it and `within`.

    Args:
        folder: `within`, or below it.
        within: created as the umask says.
    """
    if folder == within:
        folder.mkdir(parents=True, exist_ok=True)
    elif not folder.is_dir():
        add_folder(folder.parent, within)
        folder.mkdir(exist_ok=True)
        share(folder)


def share(path: Path) -> None:
    """Give a file or folder, and what is in it, the access of the folder that it is in.

    What belongs to another user stays as it is.
    """
    if path.is_symlink():
        return
    status, access = path.stat(), path.parent.stat().st_mode & _ACCESS
    if status.st_uid == os.geteuid():
        if stat.S_ISREG(status.st_mode):
            access &= 0o777 if status.st_mode & stat.S_IXUSR else 0o666
        path.chmod(access)
    if path.is_dir():
        for each in path.iterdir():
            share(each)
