"""Two users of this machine, as which code runs: only root can become others."""

from __future__ import annotations

import os
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ANN, BOB, LAB = 54321, 54322, 54300
"""Ids of users, each with a group of the same number, and of a group that both are in."""

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users")


def open_folder() -> Iterator[Path]:
    """A folder that every user can reach: pytest's own are closed to others."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


def owned(folder: Path, user: int, group: int, mode: int) -> Path:
    """Make a folder of that owner and mode."""
    folder.mkdir()
    os.chown(folder, user, group)
    folder.chmod(mode)
    return folder


def become(user: int, umask: int) -> None:
    """Become that user, for good."""
    os.setgroups([LAB])
    os.setgid(user)
    os.setuid(user)
    os.umask(umask)


def as_user(user: int, act: Callable[[], object], umask: int = 0o077) -> None:
    """Do something as that user, in a process of its own; what it has not imported may be closed.

    Raises:
        AssertionError: it raised.
    """
    child = os.fork()
    if child == 0:
        code = 1
        try:
            become(user, umask)
            act()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
