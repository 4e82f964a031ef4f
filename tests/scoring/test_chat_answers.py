"""Working code passes in whatever way a chat wraps it; what is no Python fails with the reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from slm_energy import workload
from slm_energy.config.groups import BUNDLED, WorkloadConfig
from slm_energy.scoring import answer
from slm_energy.scoring.score import Job, score
from slm_energy.tasks import Task
from tests.scoring.conftest import ScoreOne, task

TASKS = workload.load(WorkloadConfig(name="bundled", source=BUNDLED))
CHAT = WorkloadConfig(name="w", source="s", prompt="chat")
FIM = WorkloadConfig(name="w", source="s", fim=True)


def whole(one: Task) -> str:
    return f"Here you are:\n\n```python\n{one.prompt}{one.canonical_solution}```\nIt works.\n"


def function_only(one: Task) -> str:
    start = one.prompt.rindex(f"def {one.entry_point}(")
    return f"```python\n{one.prompt[start:]}{one.canonical_solution}\n```"


def body_only(one: Task) -> str:
    return f"The body is:\n```\n{one.canonical_solution}\n```\n"


def thought(one: Task) -> str:
    return f"<think>\nEasy:\n```python\npass\n```\n</think>\n\n{whole(one)}".replace("\n", "\r\n")


def with_example_and_cut(one: Task) -> str:
    example = "Run it:\n```bash\npython a.py\n```\n"
    return f"{example}```python\n{one.prompt}{one.canonical_solution}\n# It is called like"


STYLES = (whole, function_only, body_only, thought, with_example_and_cut)


def unsolved(tasks: tuple[Task, ...], folder: Path) -> list[str]:
    """What fails of the canonical solutions, as a chat in each style and as a middle."""
    jobs = [
        Job(task=one, program=answer.program(one, style(one), CHAT))
        for one in tasks
        for style in STYLES
    ]
    for one in tasks:
        middle = one.canonical_solution.rstrip().removesuffix(one.suffix.rstrip())
        jobs.append(Job(task=one, program=answer.program(one, middle, FIM)))
    scores = score(jobs, known=folder, workers=2)
    return [f"{s.task_id}: {s.why}" for s in scores if not s.solved]


def test_every_canonical_solution_passes_in_each_style_and_as_a_middle(tmp_path: Path) -> None:
    assert unsolved(TASKS, tmp_path) == []


@pytest.mark.parametrize(
    "text",
    [
        "```javascript\nfunction f(x) {\n  return x + 1;\n}\n```\n",
        "```rust\nfn f(x: i64) -> i64 { x + 1 }\n```\n",
        "I cannot write this function, because it isn't described.",
        "```python\ndef f(x):\n    return (x +\n",
        "```python\ndef f(x):\n\tif x:\n        return x\n```",
    ],
)
def test_what_is_no_python_is_a_syntax_error_with_its_reason(
    text: str, score_one: ScoreOne
) -> None:
    one = task("def check(candidate):\n    assert candidate(1) == 2\n")
    result = score_one(one, answer.program(one, text, CHAT))
    assert result.verdict == "syntax error"
    assert "line" in result.why
