"""Slurm's commands for a cluster that runs nothing: a test says how its jobs are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

COMMANDS = ("scontrol", "sbatch", "squeue", "scancel", "srun", "sacct")
SCRIPT = r"""#!/bin/sh
cd "$(dirname "$0")" || exit 1
[ -e down ] && exit 1
[ -e hung ] && exec sleep 60
case "$(basename "$0")" in
scontrol) echo "ClusterName             = alpha" ;;
sbatch)
  [ -e full ] && cat full >&2 && exit 1
  id=$(($(wc -l < jobs) + 1))
  fate=$(cat fate 2> /dev/null || echo "PENDING|Priority|")
  echo "$id|$fate|$(sed -n 's/^#SBATCH --job-name=//p' "$1")" >> jobs
  cp "$1" submission
  env > environment
  echo "Submitted batch job $id" ;;
squeue) cat jobs ;;
sacct) cat accounts ;;
scancel) for id; do sed -i "s/^$id|[^|]*|[^|]*/$id|CANCELLED|None/" jobs; done ;;
esac
"""


class FakeSlurm:
    """The commands on PATH, and the jobs that they tell of, numbered from 1."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder.mkdir()
        self._folder = folder
        self._jobs = folder / "jobs"
        self._jobs.touch()
        for name in COMMANDS:
            (folder / name).write_text(SCRIPT)
            (folder / name).chmod(0o755)
        monkeypatch.setenv("PATH", str(folder) + os.pathsep + os.environ["PATH"])

    @property
    def submission(self) -> str:
        """The latest script."""
        return (self._folder / "submission").read_text()

    @property
    def environment(self) -> str:
        """The variables that the latest job got."""
        return (self._folder / "environment").read_text()

    @property
    def states(self) -> list[str]:
        """Of all jobs."""
        return [line.split("|")[1] for line in self._jobs.read_text().splitlines()]

    def now(self, number: int, state: str, why: str = "None", node: str = "") -> None:
        """Put a job in a state."""
        lines = self._jobs.read_text().splitlines()
        name = lines[number - 1].split("|")[-1]
        lines[number - 1] = f"{number}|{state}|{why}|{node}|{name}"
        self._jobs.write_text("\n".join(lines) + "\n")

    def fated(self, state: str | None, why: str = "None", node: str = "") -> None:
        """Put each job that is submitted from now on in a state at once; None lets it wait."""
        (self._folder / "fate").unlink(missing_ok=True)
        if state is not None:
            (self._folder / "fate").write_text(f"{state}|{why}|{node}")

    def full(self, error: str | None) -> None:
        """Accept no job, with this error; None accepts them again."""
        (self._folder / "full").unlink(missing_ok=True)
        if error is not None:
            (self._folder / "full").write_text(f"{error}\n")

    def forget(self, account: str | None = None) -> None:
        """Ended jobs are forgotten after some minutes, but not by the accounting, if there is any.

        Args:
            account: `STATE|NODE`; None for a cluster without accounting.
        """
        self._jobs.write_text("")
        if account is not None:
            (self._folder / "accounts").write_text(f"{account}\n")

    def down(self) -> None:
        """Let no command succeed."""
        (self._folder / "down").touch()

    def hang(self) -> None:
        """Let no command end."""
        (self._folder / "hung").touch()

    def up(self) -> None:
        """Let them succeed again."""
        (self._folder / "down").unlink()
