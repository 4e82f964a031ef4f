"""Two users of this machine, as which code and commands run: only root can become others."""

from __future__ import annotations

import os
import subprocess
import sys
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


COMMANDS = """
import json, os, sys
sys.path.insert(0, {repository!r})
from tests.conftest import _here
from tests.users import become
become({user}, 0o077)
done = [_here(words) for words in json.loads(sys.stdin.read())]
print(json.dumps([(each.returncode, each.stdout + each.stderr) for each in done]))
"""


def command(user: int, folder: Path) -> tuple[list[str], dict[str, str], str]:
    """Arguments, variables and program of a Python that runs commands as that user in a folder.

    Its interpreter may be in root's home folder, which is closed to others: it gets a file system
    view in which that folder has nothing but the interpreter.
    """
    prefix = Path(sys.base_prefix)
    home = f"mkdir -p $HIDDEN{prefix} && mount --bind {prefix} $HIDDEN{prefix}"
    script = f"""
        set -e
        if ! setpriv --reuid {user} --regid {user} --clear-groups test -x {prefix}/bin; then
            HIDDEN=$(mktemp -d)
            mount -t tmpfs -o mode=755 tmpfs $HIDDEN
            {home}
            mount --rbind $HIDDEN/{prefix.parts[1]} /{prefix.parts[1]}
        fi
        cd {folder} && exec "$0" -c "$1"
    """
    variables = os.environ | {"HOME": str(folder), "TMPDIR": str(folder)}
    words = ["unshare", "--mount", "sh", "-c", script, sys.executable]
    program = COMMANDS.format(repository=str(Path(__file__).parents[1]), user=user)
    return words, variables, program


def ran(user: int, folder: Path, commands: str) -> subprocess.CompletedProcess[str]:
    """Run commands, JSON lists of words, as that user; JSON of exit codes and outputs."""
    words, variables, program = command(user, folder)
    return subprocess.run(
        [*words, program],
        env=variables,
        input=commands,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
