"""Programs that tests need and pip cannot install."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path


def ensure(programs: Sequence[Path], packages: Sequence[str]) -> None:
    """Install Debian packages where that is possible and their programs are missing.

    Raises:
        RuntimeError: they cannot be installed; the message says how to.
    """
    if all(program.exists() for program in programs):
        return
    if os.geteuid() == 0 and shutil.which("apt-get"):
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        for words in (["update"], ["install", "-y", "--no-install-recommends", *packages]):
            subprocess.run(["apt-get", "-q", *words], env=environment, check=False)
    if not all(program.exists() for program in programs):
        needed = " and ".join(map(str, programs))
        raise RuntimeError(f"{needed} needed: sudo apt-get install {' '.join(packages)}")
