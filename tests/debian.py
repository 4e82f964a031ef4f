"""Programs that tests need and pip cannot install."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

LOCK = Path("/run/lock/slm_energy.apt")
"""Held while packages are installed: of two tests that want some, the second one waits."""


def ensure(programs: Sequence[Path], packages: Sequence[str]) -> None:
    """Install Debian packages where that is possible and their programs are missing.

    Raises:
        RuntimeError: they cannot be installed; the message says how to.
    """
    if all(program.exists() for program in programs):
        return
    if os.geteuid() == 0 and shutil.which("apt-get"):
        install(packages)
    if not all(program.exists() for program in programs):
        needed = " and ".join(map(str, programs))
        raise RuntimeError(f"{needed} needed: sudo apt-get install {' '.join(packages)}")


def install(packages: Sequence[str]) -> None:
    """Install Debian packages as root, and start none of their services; errors are printed."""
    # In run level 1 Debian's packages start no service.
    quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for words in (["update"], ["install", "-y", "--no-install-recommends", *packages]):
            subprocess.run(["apt-get", "-qq", *words], env=quiet, stdout=2, check=False)
