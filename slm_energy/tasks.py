"""Tasks of a workload: the prompt, and the tests that a working answer passes.

A data set is one JSON object a row. Its form is recognised by its keys:

    task_id, prompt, entry_point, base_input, plus_input      HumanEval+ and MBPP+, EvalPlus
    task_id, prompt, entry_point, test                        HumanEval, and our own
    task_id, text or prompt, code, test_list                  MBPP
    question_id, question_content, public_test_cases          LiveCodeBench, tests by standard input
    task_id, prompt                                           no tests: nothing is scored
"""

from __future__ import annotations

import ast
import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any, Literal

from slm_energy.serialization import Json


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One run of a program: what it reads, and what it should print."""

    given: str
    expected: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TaskTests:
    """How an answer is tested.

    Attributes:
        kind: `assertions` executes `program`; `inputs` compares results with those of the canonical
            solution; `cases` runs the answer as a program.
        program: assertions: a test program whose free names are the answer's.
        check: assertions: it defines `check(candidate)`, which is then called.
        inputs: inputs: the arguments of each call, as JSON has them.
        mbpp: inputs: number of the MBPP+ task whose arguments have types that JSON has not; else 0.
        atol: inputs: absolute tolerance of numbers.
        cases: cases: the runs.
        refused: why the task cannot be scored here; empty if it can.
    """

    kind: Literal["assertions", "inputs", "cases"]
    program: str = ""
    check: bool = False
    inputs: tuple[Json, ...] = ()
    mbpp: int = 0
    atol: float = 0.0
    cases: tuple[Case, ...] = ()
    refused: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """One problem.

    Attributes:
        task_id: unique in its workload.
        prompt: the model's input.
        entry_point: name of the function that is asked for; empty if unknown.
        canonical_solution: a correct continuation of the prompt; empty if unknown.
        tests: what a working answer passes; None if there are none.
    """

    task_id: str
    prompt: str
    entry_point: str = ""
    canonical_solution: str = ""
    tests: TaskTests | None = None

    @property
    def continues(self) -> bool:
        """Whether the prompt begins the function, so that an answer continues its body."""
        return f"def {self.entry_point}(" in self.prompt

    @property
    def suffix(self) -> str:
        """What follows the middle that a model fills in: the solution's last line, or none.

        The middle is the rest of the canonical solution, or all of it if it has one line. The line
        break between the two belongs to the suffix.
        """
        middle, _, last = self.canonical_solution.rstrip().rpartition("\n")
        return f"\n{last}\n" if middle.strip() else "\n"


def read(row: Mapping[str, Any]) -> Task:
    """The task of a row.

    Raises:
        KeyError: a key is missing that every form needs.
        ValueError: a value is not of its type; the text names key and type.
    """
    for keys, form in _FORMS:
        if keys <= row.keys():
            return form(row)
    raise KeyError("task_id and prompt")


def _human_eval(row: Mapping[str, Any]) -> Task:
    test = _text(row, "test")
    tests = TaskTests(kind="assertions", program=test, check=True) if test else None
    return _with_tests(row, tests)


def _evalplus(row: Mapping[str, Any]) -> Task:
    inputs = (*_list(row, "base_input"), *_list(row, "plus_input"))
    name = _text(row, "task_id")
    number = int(name.removeprefix("Mbpp/")) if name.startswith("Mbpp/") else 0
    atol = float(row.get("atol") or 0)
    tests = TaskTests(kind="inputs", inputs=inputs, mbpp=number, atol=atol)
    return _with_tests(row, tests)


def _mbpp(row: Mapping[str, Any]) -> Task:
    assertions = [str(line) for line in _list(row, "test_list")]
    code = _text(row, "code")
    asked = _text(row, "text") or _text(row, "prompt")
    setup = _text(row, "test_setup_code")
    imports = "\n".join(map(str, row.get("test_imports") or ()))
    program = "\n".join([imports, setup, *assertions])
    return Task(
        task_id=str(row["task_id"]),
        prompt=f'"""\n{asked}\n{assertions[0]}\n"""\n',
        entry_point=_called(code, assertions),
        canonical_solution=code,
        tests=TaskTests(kind="assertions", program=program),
    )


def _live_code_bench(row: Mapping[str, Any]) -> Task:
    cases = _json_list(row, "public_test_cases")
    hidden = _text(row, "private_test_cases")
    refused = ""
    if hidden and not hidden.lstrip().startswith("["):
        refused = "private_test_cases is a pickle, which may run code: store them as JSON"
    elif hidden:
        cases += _json_list(row, "private_test_cases")
    if any(case.get("testtype", "stdin") != "stdin" for case in cases):
        refused = "its tests call a function (testtype functional), not a program"
    runs = tuple(Case(given=str(c["input"]), expected=str(c["output"])) for c in cases)
    return Task(
        task_id=str(row["question_id"]),
        prompt=_text(row, "question_content"),
        tests=TaskTests(kind="cases", cases=runs, refused=refused),
    )


def _with_tests(row: Mapping[str, Any], tests: TaskTests | None) -> Task:
    return Task(
        task_id=str(row["task_id"]),
        prompt=_text(row, "prompt"),
        entry_point=_text(row, "entry_point"),
        canonical_solution=_text(row, "canonical_solution"),
        tests=tests,
    )


_FORMS: tuple[tuple[set[str], Callable[[Mapping[str, Any]], Task]], ...] = (
    ({"task_id", "prompt", "entry_point", "base_input", "plus_input"}, _evalplus),
    ({"task_id", "prompt", "entry_point", "test"}, _human_eval),
    ({"task_id", "code", "test_list"}, _mbpp),
    ({"question_id", "question_content", "public_test_cases"}, _live_code_bench),
    ({"task_id", "prompt"}, lambda row: _with_tests(row, None)),
)


def _text(row: Mapping[str, Any], key: str) -> str:
    value = row.get(key)
    if value is None:
        return ""
    if not isinstance(value, str | int):
        raise ValueError(f"{key} is {type(value).__name__}, expected text")
    return str(value)


def _list(row: Mapping[str, Any], key: str) -> list[Any]:
    value = row.get(key)
    if not isinstance(value, list):
        raise ValueError(f"{key} is {type(value).__name__}, expected a list")
    return value


def _json_list(row: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    value = json.loads(row[key]) if isinstance(row[key], str) else row[key]
    if not isinstance(value, list):
        raise ValueError(f"{key} is {type(value).__name__}, expected a list")
    return value


def _called(code: str, assertions: list[str]) -> str:
    """The function of a solution that its tests call; empty if none is found."""
    try:
        defined = [n.name for n in ast.parse(code).body if isinstance(n, ast.FunctionDef)]
        used = {n.id for n in ast.walk(ast.parse("\n".join(assertions))) if isinstance(n, ast.Name)}
    except SyntaxError:
        return ""
    return next((name for name in defined if name in used), "")
