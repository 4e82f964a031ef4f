"""Correct answers of unusual but legal style: all pass."""

from __future__ import annotations

import pytest

from slm_energy.record import TaskScore
from slm_energy.scoring.score import Job, score
from tests.scoring.conftest import LIMITS, task

DOUBLES = "def check(candidate):\n    assert candidate(3) == 6\n"

STYLES = {
    "prints": "import sys\ndef f(x):\n    print(x)\n    sys.stderr.write('x')\n    return 2 * x\n",
    "reads standard input": (
        "def f(x):\n    try:\n        return input()\n    except EOFError:\n        return 2 * x\n"
    ),
    "global state": "N = 3\ndef f(x):\n    global N\n    N += x\n    return N\n",
    "deep recursion": (
        "def g(n):\n    return 6 if n == 0 else g(n - 1)\ndef f(x):\n    return g(950)\n"
    ),
    "deeper recursion": (
        "import sys\nsys.setrecursionlimit(10**6)\n"
        "def g(n):\n    return 6 if n == 0 else g(n - 1)\ndef f(x):\n    return g(20000)\n"
    ),
    "lambda": "f = lambda x: 2 * x\n",
    "partial": "import functools, operator\nf = functools.partial(operator.mul, 2)\n",
    "object that can be called": (
        "class F:\n    def __call__(self, x):\n        return 2 * x\nf = F()\n"
    ),
    "method": "class F:\n    @staticmethod\n    def f(x):\n        return 2 * x\nf = F.f\n",
    "main guard": (
        "def f(x):\n    return 2 * x\n"
        "if __name__ == '__main__':\n    import sys\n    sys.exit(f(3))\n"
    ),
    "cache": "from functools import lru_cache\n@lru_cache(None)\ndef f(x):\n    return 2 * x\n",
    "dataclass with late annotations": (
        "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        "@dataclass(order=True, slots=True)\nclass P:\n    a: int\n    b: list[int]\n"
        "def f(x):\n    return P(2 * x, []).a\n"
    ),
    "type hints": (
        "import typing\nclass A:\n    v: 'int'\n"
        "def f(x):\n    return 6 if typing.get_type_hints(A) == {'v': int} else 0\n"
    ),
    "own class pickled": (
        "import pickle\nclass A:\n    v = 6\n"
        "def f(x):\n    return pickle.loads(pickle.dumps(A())).v\n"
    ),
    "enum": "import enum\nclass E(enum.IntEnum):\n    SIX = 6\ndef f(x):\n    return E.SIX\n",
    "asyncio": (
        "import asyncio\nasync def g(x):\n    await asyncio.sleep(0)\n    return 2 * x\n"
        "def f(x):\n    return asyncio.run(g(x))\n"
    ),
    "threads": (
        "from concurrent.futures import ThreadPoolExecutor\ndef f(x):\n"
        "    with ThreadPoolExecutor(20) as pool:\n        return sum(pool.map(int, [x, x]))\n"
    ),
    "temporary file": (
        "import tempfile\ndef f(x):\n    with tempfile.TemporaryFile('w+') as file:\n"
        "        file.write(str(2 * x))\n        file.seek(0)\n        return int(file.read())\n"
    ),
    "captured output": (
        "import contextlib, io\ndef f(x):\n    text = io.StringIO()\n"
        "    with contextlib.redirect_stdout(text):\n        print(2 * x)\n"
        "    return int(text.getvalue())\n"
    ),
    "warning": "import warnings\ndef f(x):\n    warnings.warn('x')\n    return 2 * x\n",
    "exit handler": "import atexit\natexit.register(print, 'end')\ndef f(x):\n    return 2 * x\n",
    "a float for an integer": "def f(x):\n    return 2.0 * x\n",
    "a fraction": "from fractions import Fraction\ndef f(x):\n    return Fraction(12, 2)\n",
}

RESULTS = {
    "generator": ("def f(x):\n    yield from range(x)\n", "list(candidate(3)) == [0, 1, 2]"),
    "next of a generator": ("def f(x):\n    yield x\n", "next(candidate(3)) == 3"),
    "end of a generator": ("def f(x):\n    yield x\n", "[*zip(candidate(3), [1, 2])] == [(3, 1)]"),
    "map": ("def f(x):\n    return map(str, [x])\n", "list(candidate(3)) == ['3']"),
    "keys": ("def f(x):\n    return {x: 1}.keys()\n", "set(candidate(3)) == {3}"),
    "named tuple": (
        "from typing import NamedTuple\nclass P(NamedTuple):\n    a: int\n    b: int\n"
        "def f(x):\n    return P(x, 2)\n",
        "candidate(3) == (3, 2)",
    ),
    "counter": (
        "from collections import Counter\ndef f(x):\n    return Counter('aab')\n",
        "candidate(3) == {'a': 2, 'b': 1}",
    ),
    "default dictionary": (
        "from collections import defaultdict\ndef f(x):\n    return defaultdict(list, {x: [1]})\n",
        "candidate(3) == {3: [1]}",
    ),
    "deque of fractions": (
        "from collections import deque\nfrom fractions import Fraction\n"
        "def f(x):\n    return deque([Fraction(1, x)])\n",
        "candidate(2)[0] == 0.5",
    ),
    "date and time": (
        "import datetime\ndef f(x):\n    return datetime.datetime(2020, 1, 2, x)\n",
        "str(candidate(3)) == '2020-01-02 03:00:00'",
    ),
    "the same object twice": (
        "ONE = object()\ndef f(x):\n    return ONE\n",
        "candidate(1) == candidate(2) and candidate(1) in {candidate(1)}",
    ),
    "bool for an integer": ("def f(x):\n    return True\n", "candidate(3) == 1"),
    "not a number": ("def f(x):\n    return float('nan')\n", "str(candidate(3)) == 'nan'"),
    "infinity": ("def f(x):\n    return -float('inf')\n", "candidate(3) == float('-inf')"),
    "a large text": ("def f(x):\n    return 'x' * x\n", "len(candidate(5 * 10**6)) == 5 * 10**6"),
}

RAISES = (
    "def check(candidate):\n    try:\n        candidate(1)\n    except {} as error:\n        {}\n"
)
ERRORS = {
    "an error of its own": (
        "class Bad(ValueError):\n    pass\ndef f(x):\n    raise Bad('no')\n",
        RAISES.format("ValueError", "assert str(error) == 'no'"),
    ),
    "an exception of its own": (
        "class Bad(Exception):\n    pass\ndef f(x):\n    raise Bad('no')\n",
        RAISES.format("Exception", "assert 'no' in str(error)"),
    ),
    "a missing key": ("def f(x):\n    return {}[x]\n", RAISES.format("KeyError", "return")),
}


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TaskScore]:
    """Of all answers, many in one sandbox."""
    jobs = {name: Job(task=task(DOUBLES), program=program) for name, program in STYLES.items()}
    for name, (program, wanted) in RESULTS.items():
        test = f"def check(candidate):\n    assert {wanted}\n"
        jobs[name] = Job(task=task(test), program=program)
    for name, (program, test) in ERRORS.items():
        jobs[name] = Job(task=task(test), program=program)
    known = tmp_path_factory.mktemp("known")
    results = score([*jobs.values()], known=known, workers=2, limits=LIMITS)
    return dict(zip(jobs, results, strict=True))


@pytest.mark.parametrize("name", [*STYLES, *RESULTS, *ERRORS])
def test_a_correct_answer_passes_whatever_its_style(
    name: str, scores: dict[str, TaskScore]
) -> None:
    assert scores[name] == TaskScore(task_id="t", verdict="passed")
