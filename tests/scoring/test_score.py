"""Programs and tests to verdicts."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from slm_energy import tasks, workload
from slm_energy.config.groups import BUNDLED, WorkloadConfig
from slm_energy.record import TaskScore
from slm_energy.scoring import bubblewrap
from slm_energy.scoring.score import Job, score
from slm_energy.tasks import Case, Task, TaskTests
from tests.scoring.conftest import LIMITS, ScoreOne, task
from tests.test_tasks import EVALPLUS, LIVE_CODE_BENCH, MBPP

CHECKOUT = Path(__file__).parents[2]
TASKS = workload.load(WorkloadConfig(name="bundled", source=BUNDLED))


def solved(one: Task, program: str) -> Job:
    return Job(task=one, program=program)


def test_every_canonical_solution_of_the_bundled_tasks_passes(tmp_path: Path) -> None:
    jobs = [Job(task=t, program=t.prompt + t.canonical_solution) for t in TASKS]
    assert [s for s in score(jobs, known=tmp_path, workers=2) if not s.solved] == []


def test_a_function_that_returns_nothing_passes_no_bundled_task(tmp_path: Path) -> None:
    jobs = [Job(task=t, program=f"{t.prompt}    return None\n") for t in TASKS]
    verdicts = score(jobs, known=tmp_path, workers=2)
    assert {s.verdict for s in verdicts} <= {"failed assertion", "exception"}
    assert all(s.why for s in verdicts)


@pytest.mark.parametrize("isolated", [True, False], ids=["sandbox", "none"])
def test_tests_count_whatever_the_environment_tells_python(
    isolated: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PYTHONOPTIMIZE removes assert statements: every answer would pass."""
    told = {"OPTIMIZE": "2", "INSPECT": "1", "WARNINGS": "error", "STARTUP": "/nowhere.py"}
    for name, value in told.items():
        monkeypatch.setenv(f"PYTHON{name}", value)
    one = task("def check(candidate):\n    assert candidate(1) == 2\n")
    programs = [f"def f(x):\n    return x + {number}\n" for number in (1, 0)]
    jobs = [Job(task=one, program=program) for program in programs]
    found = score(jobs, known=tmp_path, workers=1, isolated=isolated, limits=LIMITS)
    assert [each.verdict for each in found] == ["passed", "failed assertion"]


@pytest.mark.parametrize(
    ("program", "verdict", "why"),
    [
        ("def f(x):\n    return x + 1\n", "passed", ""),
        ("def f(x):\n    return x\n", "failed assertion", "assert candidate(1) == 2"),
        ("def f(x):\n    return x.y\n", "exception", "AttributeError: 'int' object has no"),
        ("def f(x):\n    return (\n", "syntax error", "SyntaxError: '(' was never closed, line 2"),
        ("import numpyy\n", "exception", "ModuleNotFoundError: No module named 'numpyy'"),
        ("def g(x):\n    return 2\n", "failed assertion", "the answer defines no f"),
    ],
)
def test_a_verdict_has_its_reason(
    program: str, verdict: str, why: str, score_one: ScoreOne
) -> None:
    test = "def check(candidate):\n    assert candidate(1) == 2\n"
    result = score_one(task(test), program)
    assert result.verdict == verdict
    assert result.why.startswith(why)


def test_a_call_that_changes_its_argument_changes_the_one_of_the_test(score_one: ScoreOne) -> None:
    test = "def check(candidate):\n    a = [2, 1]\n    candidate(a)\n    assert a == [1, 2]\n"
    assert score_one(task(test), "def f(x):\n    x.sort()\n").solved


def test_a_test_may_use_what_else_the_answer_defines(score_one: ScoreOne) -> None:
    test = (
        "def check(candidate):\n    p = Pair(3)\n    p.right = 4\n"
        "    assert candidate(p) == 7\n    assert list(walk(p)) == [3, 4]\n"
    )
    program = (
        "class Pair:\n    def __init__(self, left):\n        self.left = left\n"
        "def walk(p):\n    yield p.left\n    yield p.right\n"
        "def f(p):\n    return p.left + p.right\n"
    )
    assert score_one(task(test), program).solved


def test_an_expected_exception_can_be_caught(score_one: ScoreOne) -> None:
    test = (
        "def check(candidate):\n    try:\n        candidate(0)\n"
        "    except ZeroDivisionError:\n        return\n    assert False\n"
    )
    assert score_one(task(test), "def f(x):\n    return 1 / x\n").solved


@pytest.mark.parametrize(
    "value",
    [
        "{(1, 2): {3}}", "2 ** 100", "b'x'", "float('inf')", "1 + 2j", "'\\ud800'",
        "range(3)", "frozenset({1})", "__import__('decimal').Decimal('0.1')",
        "__import__('collections').OrderedDict(a=1)", "__import__('collections').deque([1])",
        "__import__('datetime').date(2020, 1, 2)", "-0.0", "10 ** 5000",
    ],
)  # fmt: skip
def test_a_plain_value_arrives_as_it_is(value: str, score_one: ScoreOne) -> None:
    test = f"def check(candidate):\n    assert candidate(0) == {value}\n"
    assert score_one(task(test), f"def f(x):\n    return {value}\n").solved


def test_evalplus_compares_with_the_canonical_solution(score_one: ScoreOne) -> None:
    one = tasks.read(EVALPLUS)
    assert score_one(one, "def add(a, b):\n    return b + a\n").solved
    assert score_one(one, "def add(a, b):\n    return a + b + 1e-9\n").verdict == (
        "failed assertion"
    ), "integers are compared exactly"
    wrong = score_one(one, "def add(a, b):\n    return round(a + b)\n")
    assert (wrong.verdict, wrong.why) == ("failed assertion", "input 2 of 2: another result")


def test_mbpp_plus_gets_the_tuples_that_json_has_lost(score_one: ScoreOne) -> None:
    row = {
        "task_id": "Mbpp/2",
        "prompt": '"""Find the shared elements of two tuples."""\n',
        "entry_point": "similar_elements",
        "canonical_solution": "def similar_elements(a, b):\n    return tuple(set(a) & set(b))\n",
        "base_input": [[[3, 4, 5], [5, 4, 7]]],
        "plus_input": [],
        "atol": 0,
    }
    one = tasks.read(row)
    picky = "def similar_elements(a, b):\n    return {*a} & {*b} if type(a) is tuple else None\n"
    assert score_one(one, picky).solved, "the order is left open, so a set will do"
    broken = tasks.read(row | {"base_input": [[1, 2]]})
    refused = score_one(broken, picky)
    assert refused.verdict == "refused"
    assert refused.why.startswith("its base_input or plus_input is not that of the task")


def test_mbpp_asserts_about_the_function_that_the_answer_defines(score_one: ScoreOne) -> None:
    one = tasks.read(MBPP)
    assert score_one(one, one.canonical_solution).solved
    assert not score_one(one, "def shared(a, b):\n    return a\n").solved


def test_a_program_is_run_on_each_input(score_one: ScoreOne) -> None:
    one = tasks.read(LIVE_CODE_BENCH)
    assert score_one(one, "print(sum(map(int, input().split())))").solved
    assert score_one(one, "print(4)").why == "case 1 of 1: another output"
    assert score_one(one, "print(1 / 0)").why == "case 1 of 1: ZeroDivisionError: division by zero"
    assert score_one(one, "print(").verdict == "syntax error"


def test_a_program_that_prints_without_end_stops_at_the_size_of_a_file(score_one: ScoreOne) -> None:
    tests = TaskTests(kind="cases", cases=(Case(given="", expected="3"),))
    endless = Task(task_id="t", prompt="", tests=tests)
    assert not score_one(endless, "while True:\n    print('x' * 10**6)").solved


def test_a_test_that_passes_a_function_is_refused_by_name(score_one: ScoreOne) -> None:
    test = "def check(candidate):\n    assert candidate(lambda: 1) == 1\n"
    result = score_one(task(test), "def f(x):\n    return x()\n")
    assert (result.verdict, "function" in result.why) == ("refused", True)


def test_equal_answers_are_tested_once_and_known_ones_never(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    test = "def check(candidate):\n    assert candidate(1) == 2\n"
    job = Job(task=task(test), program="def f(x):\n    return 2\n")
    seen: list[tuple[int, int]] = []
    both = score([job, job], known=tmp_path, workers=1, progress=lambda *now: seen.append(now))
    assert seen == [(0, 1), (1, 1)]
    monkeypatch.setattr("slm_energy.scoring.score.Sandbox", None)
    assert score([job], known=tmp_path, workers=1) == both[:1]


def test_a_damaged_verdict_is_found_again(tmp_path: Path) -> None:
    test = "def check(candidate):\n    assert candidate(1) == 2\n"
    job = Job(task=task(test), program="def f(x):\n    return 2\n")
    (tmp_path / f"{job.key}.json").write_text("{")
    assert score([job], known=tmp_path, workers=1, limits=LIMITS) == [
        TaskScore(task_id="t", verdict="passed")
    ]


def test_without_bubblewrap_one_line_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    bubblewrap.version.cache_clear()
    with pytest.raises(bubblewrap.SandboxError, match="apt install bubblewrap"):
        bubblewrap.version()


NEEDS = "import pandas as pd\n"
CHECK = "def check(candidate):\n    assert candidate(1) == 2\n"
RIGHT = "def f(x):\n    return x + 1\n"


@pytest.mark.parametrize(
    ("one", "program"),
    [
        (task(NEEDS + CHECK), RIGHT),
        (task(CHECK.replace("    assert", "    import pandas.api\n    assert")), RIGHT),
        (task(CHECK, f"{NEEDS}def f(x):\n"), NEEDS + RIGHT),
        (
            dataclasses.replace(
                task(CHECK), canonical_solution="    import pandas\n    return 2\n"
            ),
            "def f(x):\n    return 3\n",
        ),
        (
            tasks.read(EVALPLUS | {"canonical_solution": f"    {NEEDS}    return a + b\n"}),
            "def add(a, b):\n    return 0\n",
        ),
    ],
    ids=["test", "check", "prompt", "canonical solution", "EvalPlus"],
)
def test_a_task_that_needs_a_module_that_is_not_there_is_refused_by_name(
    one: Task, program: str, score_one: ScoreOne
) -> None:
    for answer in (program, "", "def f(x:", "def f(x):\n    raise SystemExit\n"):
        result = score_one(one, answer)
        assert result.verdict == "refused", "for all answers alike"
        assert result.why.startswith("needs module pandas, which ")


@pytest.mark.parametrize("isolated", [True, False])
def test_tests_have_numpy_and_answers_have_not(isolated: bool, tmp_path: Path) -> None:
    """Those of HumanEval+ and MBPP+ on the hub use it."""
    test = "import numpy as np\ndef check(candidate):\n    assert np.allclose(candidate(1), 2)\n"
    liar = (
        "class A:\n    __array_interface__ = {'data': (8, False), 'shape': (1,),"
        " 'typestr': '<i8', 'version': 3}\n    def __array__(self, *args, **kwargs):\n"
        "        return 2\ndef f(x):\n    return A()\n"
    )
    programs = [RIGHT, "def f(x):\n    return 3\n", liar, "import numpy\n" + RIGHT]
    jobs = [Job(task=task(test), program=program) for program in programs]
    verdicts = score(jobs, known=tmp_path, workers=1, limits=LIMITS, isolated=isolated)
    assert [s.verdict for s in verdicts] == [
        *("passed", "failed assertion", "exception", "exception")
    ]
    assert verdicts[-1].why == "ModuleNotFoundError: No module named 'numpy'"
    needed = task(CHECK, "import numpy as np\ndef f(x):\n")
    refused = Job(task=needed, program="import numpy as np\n" + RIGHT)
    (result,) = score([refused], known=tmp_path, workers=1, limits=LIMITS, isolated=isolated)
    assert (result.verdict, result.why[:21]) == ("refused", "needs module numpy, w")


def test_mbpp_plus_of_the_hub_is_judged_by_its_own_comparison(score_one: ScoreOne) -> None:
    test = (
        "import numpy as np\ndef assertion(out, exp, atol):\n"
        "    assert out == exp or (atol and np.allclose(out, exp, rtol=1e-07, atol=atol))\n"
        "for inp, exp in zip([[(3, 4), (4, 5)], [(1,), (2,)]], [(4,), ()]):\n"
        "    assertion(shared(*inp), exp, 0)\n"
    )
    one = tasks.read(MBPP | {"test": test})
    assert score_one(one, one.canonical_solution).solved
    first_only = "def shared(a, b):\n    return (4,)\n"
    assert score_one(tasks.read(MBPP), first_only).solved
    assert not score_one(one, first_only).solved


def test_tests_may_try_to_import_a_module(score_one: ScoreOne) -> None:
    test = "try:\n    import pandas\nexcept ImportError:\n    pandas = None\n" + CHECK
    assert score_one(task(test), RIGHT).solved


def test_an_answer_that_needs_such_a_module_fails(score_one: ScoreOne) -> None:
    result = score_one(task(CHECK), NEEDS + RIGHT)
    assert (result.verdict, result.why) == (
        "exception",
        "ModuleNotFoundError: No module named 'pandas'",
    )


@pytest.mark.parametrize(
    ("test", "why"),
    [
        ("def check(candidate):\n    assert candidate(1) == 3\n", "does not pass: assert"),
        ("def check(candidate)\n", "its tests are no Python"),
        ("def test(candidate):\n    pass\n", "its test defines no function check"),
    ],
)
def test_tests_that_the_canonical_solution_does_not_pass_refuse_the_task(
    test: str, why: str, score_one: ScoreOne
) -> None:
    one = dataclasses.replace(task(test), canonical_solution="    return x + 1\n")
    for program in ("def f(x):\n    return 0\n", "def f(x):\n    return 3\n", "def f(x:"):
        result = score_one(one, program)
        assert result.verdict == "refused"
        assert why in result.why


def test_a_canonical_solution_that_fails_refuses_the_task_of_evalplus(score_one: ScoreOne) -> None:
    one = tasks.read(EVALPLUS | {"canonical_solution": "    return a / 0\n"})
    result = score_one(one, "def add(a, b):\n    return a + b\n")
    assert result.verdict == "refused"
    assert result.why.startswith("its canonical solution fails on input 1 of 2: ZeroDivisionError")


def test_what_is_drawn_at_random_is_the_same_each_time(score_one: ScoreOne) -> None:
    test = (
        "import random\ndef check(candidate):\n"
        "    assert candidate(0) == random.random(), candidate(0)\n"
    )
    program = "import random\nVALUE = random.random()\ndef f(x):\n    return VALUE\n"
    assert score_one(task(test), program).solved


def test_lines_of_output_are_compared_as_live_code_bench_does(score_one: ScoreOne) -> None:
    one = Task(
        task_id="t",
        prompt="",
        tests=TaskTests(kind="cases", cases=(Case(given="", expected="1.50 2\nyes\n"),)),
    )
    assert score_one(one, "print('1.5 2.0 ')\nprint('yes')").solved
    assert not score_one(one, "print('1.5 2.0 yes')").solved
    assert not score_one(one, "print('1.5 2.1')\nprint('yes')").solved
    assert score_one(one, "print(sqrt(2.25), 2)\nprint('yes')").solved, "its names are there"


def test_a_method_is_called_with_each_line_of_its_input(score_one: ScoreOne) -> None:
    case = {"input": "[3, 1]\n2", "output": "[2, 6]", "testtype": "functional"}
    row = {
        "question_id": "lc",
        "question_content": "Sort and multiply.",
        "public_test_cases": [case],
        "metadata": {"func_name": "times"},
    }
    one = tasks.read(row)
    right = (
        "class Solution:\n    def times(self, a: List[int], n: int) -> List[int]:\n"
        "        return tuple(n * x for x in sorted(a))\n"
    )
    assert score_one(one, right).solved
    wrong = score_one(one, right.replace("sorted(a)", "a"))
    assert (wrong.verdict, wrong.why) == ("failed assertion", "case 1 of 1: another result")
    assert score_one(one, "def times(a, n): pass").why == "the answer defines no Solution"


SLOW = "import time\ndef f(x):\n    time.sleep(600)\n"
KILLED = """
import sys
from pathlib import Path
from tests.scoring.test_score import LIMITS, jobs_with_a_slow_one, score
score(jobs_with_a_slow_one(), known=Path(sys.argv[1]), workers=1, limits=LIMITS)
"""


def jobs_with_a_slow_one() -> list[Job]:
    programs = [f"def f(x):\n    return {n}\n" for n in range(4)]
    return [Job(task=task(CHECK), program=text) for text in [*programs[:2], SLOW, *programs[2:]]]


def test_scoring_that_was_killed_is_resumed_and_leaves_no_process(tmp_path: Path) -> None:
    known = tmp_path / "known"
    with subprocess.Popen([sys.executable, "-c", KILLED, str(known)], cwd=CHECKOUT) as killed:
        _until(lambda: len(list(known.glob("*.json"))) == 2)
        started = _descendants(killed.pid)
        killed.kill()
    assert started
    _until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in started))
    kept = {path: path.stat().st_mtime_ns for path in known.glob("*.json")}
    jobs = jobs_with_a_slow_one()
    resumed = score(jobs, known=known, workers=2, limits=LIMITS)
    assert [s.verdict for s in resumed] == [
        *("failed assertion", "failed assertion", "timeout", "passed", "failed assertion")
    ]
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_two_scorers_may_share_a_cache(tmp_path: Path) -> None:
    programs = [f"def f(x):\n    return {n}\n" for n in range(20)]
    jobs = [Job(task=task(CHECK), program=text) for text in programs]
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(score, jobs, known=tmp_path, workers=1) for _ in range(2)]
        one, other = (run.result() for run in runs)
    assert one == other
    assert [s.solved for s in one].count(True) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"{j.key}.json" for j in jobs)


def test_a_cache_that_cannot_be_written_costs_time_only(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    [result] = score([Job(task=task(CHECK), program=RIGHT)], known=file / "scores", workers=1)
    assert result.solved


def test_verdicts_of_another_version_are_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Job(task=task(CHECK), program=RIGHT)
    wrong = json.dumps({"task_id": "t", "verdict": "failed assertion", "why": ""})
    with monkeypatch.context() as older:
        older.setattr("slm_energy.scoring.score.VERSION", 1)
        (tmp_path / f"{job.key}.json").write_text(wrong)
    (result,) = score([job], known=tmp_path, workers=1, limits=LIMITS)
    assert result.solved


def _until(holds: Callable[[], bool]) -> None:
    while not holds():
        time.sleep(0.02)


def _descendants(pid: int) -> list[int]:
    try:
        tasks = [*Path(f"/proc/{pid}/task").iterdir()]
        children = [int(c) for t in tasks for c in (t / "children").read_text().split()]
    except OSError:
        return []
    return [*children, *(each for child in children for each in _descendants(child))]
