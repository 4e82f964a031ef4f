from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from slm_energy.record import TaskScore
from slm_energy.scoring.sandbox import Limits
from slm_energy.scoring.score import Job, score
from slm_energy.tasks import Task, TaskTests


@pytest.fixture(scope="session", autouse=True)
def _sandbox(bubblewrap: None) -> None:
    """Every test here runs answers."""


LIMITS = Limits(cpu_s=1, wall_s=3.0, memory_mb=512)

ScoreOne = Callable[[Task, str], TaskScore]


def task(test: str, prompt: str = "def f(x):\n") -> Task:
    tests = TaskTests(kind="assertions", program=test, check=True)
    return Task(task_id="t", prompt=prompt, entry_point="f", tests=tests)


@pytest.fixture
def score_one(tmp_path: Path) -> ScoreOne:
    """Verdict on a whole program."""

    def run(one: Task, program: str) -> TaskScore:
        (only,) = score([Job(task=one, program=program)], known=tmp_path, workers=1, limits=LIMITS)
        return only

    return run
