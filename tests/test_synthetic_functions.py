"""The generated functions that the bundled model learns from, and that no bundled task is one."""

from __future__ import annotations

import ast
import doctest
import importlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from slm_energy import workload
from slm_energy.config.groups import BUNDLED, ModelConfig, WorkloadConfig
from slm_energy.models import source
from slm_energy.tasks import Task

TOOLS = Path(__file__).parent.parent / "tools"
TASKS = workload.load(WorkloadConfig(name=BUNDLED, source=BUNDLED))
TRAINING = json.loads(
    (source.fetch(ModelConfig(name=BUNDLED, source=BUNDLED), Path()) / "training.json").read_text()
)


@pytest.fixture(scope="module")
def grammar() -> ModuleType:
    """The generator."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(TOOLS)
        return importlib.import_module("synthetic_functions")


@pytest.fixture(scope="module")
def trained_on(grammar: ModuleType) -> list[Any]:
    """Every function that the bundled model has learned from, and those of its validation."""
    avoid = frozenset(task.entry_point for task in TASKS)
    seed = TRAINING["seed"]
    return [
        *grammar.functions("training", TRAINING["generated_functions"], seed, avoid),
        *grammar.functions("validation", TRAINING["validation_functions"], seed, avoid),
    ]


def sentence_of(function: ast.FunctionDef) -> str:
    """What a docstring says before its example, on one line."""
    return " ".join((ast.get_docstring(function) or "").partition(">>>")[0].split())


def numbered(function: Any) -> Callable[[re.Match[str]], str]:
    """Replaces the names that a generated function's signature and loop bind, in order."""
    signature = re.findall(r"(\w+):", function.prompt.split("\n", 1)[0])
    loop = re.findall(r" for (\w+)(?:, (\w+))? in ", function.body)
    own = {*signature, *(name for names in loop for name in names)}
    numbers: dict[str, str] = {}
    return lambda match: (
        numbers.setdefault(match[0], f"_{len(numbers)}") if match[0] in own else match[0]
    )


def function_of(task: Task) -> ast.FunctionDef:
    """The function that solves a task."""
    body = ast.parse(task.prompt + task.canonical_solution).body
    return next(node for node in body if isinstance(node, ast.FunctionDef))


def test_no_bundled_task_shares_name_sentence_or_body_with_what_was_trained_on(
    grammar: ModuleType, trained_on: list[Any]
) -> None:
    tasks = [function_of(task) for task in TASKS]
    assert not {task.name for task in tasks} & {f.name for f in trained_on}
    assert not {sentence_of(task) for task in tasks} & {f.sentence for f in trained_on}
    # Bodies with the same text once their names are numbered have one shape: one is parsed.
    texts = {
        re.sub(r"\w+", numbered(f), f.body): f.prompt.split("\n", 1)[0] + "\n" + f.body
        for f in trained_on
    }
    shapes = set()
    for text in texts.values():
        (function,) = ast.parse(text).body
        assert isinstance(function, ast.FunctionDef)
        shapes.add(grammar.body_shape(function))
    assert len(shapes) > 3000
    assert not {grammar.body_shape(task) for task in tasks} & shapes


def test_a_shape_knows_builtins_and_constants_but_no_names(grammar: ModuleType) -> None:
    def shape(text: str) -> str:
        (function,) = ast.parse(text).body
        assert isinstance(function, ast.FunctionDef)
        return str(grammar.body_shape(function))

    assert shape("def f(a): return sum(x for x in a if x > 1)") == shape(
        'def g(b):\n    """Say."""\n    return sum(y for y in b if y > 1)'
    )
    assert shape("def f(a): return sum(a)") != shape("def f(a): return max(a)")
    assert shape("def f(a, b): return a - b") == shape("def f(b, a): return b - a")
    assert shape("def f(a): return a + 1") != shape("def f(a): return a + 2")
    assert shape("def f(a): return a - a") != shape("def f(a, b): return a - b")


def test_functions_repeat_with_their_seed_and_their_examples_hold(grammar: ModuleType) -> None:
    def some(part: str, seed: int) -> list[Any]:
        return list(grammar.functions(part, 300, seed, frozenset({"sum_prices"})))

    drawn = some("training", 1)
    assert drawn == some("training", 1) != some("training", 2)
    combinations = {f.combination for f in drawn}
    assert not combinations & {f.combination for f in some("validation", 1)}
    assert not combinations & grammar.HELD_OUT
    for function in drawn:
        scope: dict[str, Any] = {}
        exec(function.prompt + function.body, scope)
        (example,) = doctest.DocTestFinder().find(scope[function.name], globs=scope, module=False)
        assert doctest.DocTestRunner().run(example).failed == 0
        assert example.examples
