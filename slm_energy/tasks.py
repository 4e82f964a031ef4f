"""Tasks of a workload: the prompt, and the tests that a working answer passes.

A data set is one JSON object a row. Its form is recognised by its keys:

    task_id, prompt, entry_point, base_input, plus_input      HumanEval+ and MBPP+, EvalPlus
    task_id, prompt, entry_point, test                        HumanEval, and our own
    task_id, text or prompt, code, test_list                  MBPP
    question_id, question_content, public_test_cases          LiveCodeBench: programs, or a method
    task_id, prompt                                           no tests: nothing is scored
"""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal

from slm_energy.serialization import Json, parse_json


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
        cases: cases: the runs of a program.
        method: cases: if not empty, a method of the answer's class Solution is called instead; each
            of `inputs` is its arguments and the expected result.
        refused: why the task cannot be scored here; empty if it can.
    """

    kind: Literal["assertions", "inputs", "cases"]
    program: str = ""
    check: bool = False
    inputs: tuple[Json, ...] = ()
    mbpp: int = 0
    atol: float = 0.0
    cases: tuple[Case, ...] = ()
    method: str = ""
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
    if not test.strip():
        return _with_tests(row, None)
    refused = "" if _text(row, "entry_point") else "entry_point is empty"
    return _with_tests(row, TaskTests(kind="assertions", program=test, check=True, refused=refused))


def _evalplus(row: Mapping[str, Any]) -> Task:
    inputs = (*_list(row, "base_input"), *_list(row, "plus_input"))
    tests = TaskTests(
        kind="inputs",
        inputs=inputs,
        mbpp=_mbpp_number(_id(row, "task_id")),
        atol=_number(row, "atol"),
        refused="" if _text(row, "canonical_solution") else "canonical_solution is empty",
    )
    return _with_tests(row, tests if inputs else None)


def _mbpp_number(name: str) -> int:
    number = name.removeprefix("Mbpp/")
    return int(number) if number != name and number.isdecimal() else 0


def _mbpp(row: Mapping[str, Any]) -> Task:
    assertions = _texts(row, "test_list")
    code = _text(row, "code")
    asked = _text(row, "text") or _text(row, "prompt")
    if not asked:
        raise KeyError("text or prompt")
    # MBPP+ as the hub has it: `test` has the further inputs, `test_list` only MBPP's.
    tests = [_text(row, "test")] if row.get("test") else assertions
    setup = [*_texts(row, "test_imports"), _text(row, "test_setup_code")]
    program = "\n".join([*setup, *tests])
    return Task(
        task_id=_id(row, "task_id"),
        prompt="\n".join(['"""', asked, *assertions[:1], '"""', ""]),
        entry_point=_called(code, assertions),
        canonical_solution=code,
        tests=TaskTests(kind="assertions", program=program) if tests else None,
    )


def _live_code_bench(row: Mapping[str, Any]) -> Task:
    cases, refused = _cases(row, "public_test_cases"), ""
    hidden = row.get("private_test_cases")
    if isinstance(hidden, str) and hidden and not hidden.lstrip().startswith("["):
        refused = "private_test_cases is a pickle, which may run code: store them as JSON"
    elif hidden:
        cases += _cases(row, "private_test_cases")
    starter = _text(row, "starter_code")
    code = f"\n\nComplete this code:\n```python\n{starter}\n```\n" if starter else ""
    return Task(
        task_id=_id(row, "question_id"),
        prompt=_text(row, "question_content") + code,
        tests=_case_tests(row, cases, refused) if cases or refused else None,
    )


def _case_tests(row: Mapping[str, Any], cases: list[dict[str, str]], refused: str) -> TaskTests:
    kinds = sorted({case["testtype"] for case in cases})
    if kinds == ["functional"]:
        method = _text(_object(row, "metadata"), "func_name")
        refused = refused or ("" if method else "its metadata has no func_name to call")
        calls = tuple(_call(case) for case in cases)
        return TaskTests(kind="cases", method=method, inputs=calls, refused=refused)
    if kinds not in ([], ["stdin"]):
        refused = f"its testtype is {' and '.join(kinds)}, expected stdin or functional"
    runs = tuple(Case(given=case["input"], expected=case["output"]) for case in cases)
    return TaskTests(kind="cases", cases=runs, refused=refused)


def _cases(row: Mapping[str, Any], key: str) -> list[dict[str, str]]:
    """LiveCodeBench's columns of cases, which are lists of objects, or their JSON."""
    cases = _json(row, key)
    if not isinstance(cases, list) or not all(isinstance(case, Mapping) for case in cases):
        raise ValueError(f"{key} is {type(cases).__name__}, expected a list of objects")
    for case in cases:
        for name in ("input", "output"):
            if not isinstance(case.get(name), str):
                kind = type(case.get(name)).__name__
                raise ValueError(f"{key} has a case whose {name} is {kind}, expected text")
    keys = ("input", "output", "testtype")
    return [
        {"testtype": "stdin"} | {k: _text(case, k) for k in keys if k in case} for case in cases
    ]


def _call(case: Mapping[str, str]) -> list[Json]:
    """Arguments and expected result of a functional case: a line of JSON for each argument."""
    try:
        args = [parse_json(line) for line in case["input"].split("\n")]
        return [args, parse_json(case["output"])]
    except ValueError as error:
        raise ValueError(f"a functional case is not JSON: {error}") from error


def _with_tests(row: Mapping[str, Any], tests: TaskTests | None) -> Task:
    return Task(
        task_id=_id(row, "task_id"),
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
    """A text; empty if the key is missing or null."""
    value = row.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"{key} is {type(value).__name__}, expected text")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{key} has a lone surrogate, which no tokenizer can read") from error
    return value


def _id(row: Mapping[str, Any], key: str) -> str:
    """A text, or a whole number: MBPP's ids are numbers."""
    value = row.get(key)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return _text(row, key)


def _texts(row: Mapping[str, Any], key: str) -> list[str]:
    """A list of texts; empty if the key is missing or null."""
    value = _list(row, key)
    for item in value:
        if not isinstance(item, str):
            raise ValueError(f"{key} has an item of type {type(item).__name__}, expected text")
    return value


def _number(row: Mapping[str, Any], key: str) -> float:
    value = row.get(key)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise ValueError(f"{key} is {type(value).__name__}, expected a number")
    return float(value or 0)


def _list(row: Mapping[str, Any], key: str) -> list[Any]:
    """A list; empty if the key is missing or null."""
    value = row.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise ValueError(f"{key} is {type(value).__name__}, expected a list")
    return value


def _object(row: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = _json(row, key) if row.get(key) else {}
    if not isinstance(value, Mapping):
        raise ValueError(f"{key} is {type(value).__name__}, expected an object")
    return value


def _json(row: Mapping[str, Any], key: str) -> Any:
    """A value, or that of its JSON."""
    try:
        return parse_json(row[key]) if isinstance(row[key], str) else row[key]
    except ValueError as error:
        raise ValueError(f"{key} is not JSON: {error}") from error


def _called(code: str, assertions: list[str]) -> str:
    """The function of a solution that its tests call; empty if none is found."""
    try:
        defined = [n.name for n in ast.parse(code).body if isinstance(n, ast.FunctionDef)]
        used = {n.id for n in ast.walk(ast.parse("\n".join(assertions))) if isinstance(n, ast.Name)}
    except SyntaxError:
        return ""
    return next((name for name in defined if name in used), "")
