"""Tasks of a workload: the prompt, and the tests that a working answer passes.

A data set is one JSON object a row. Its form is recognised by its keys, which `FIELDS` lists:

    task_id, prompt, entry_point, base_input, plus_input      HumanEval+ and MBPP+, EvalPlus
    task_id, prompt, entry_point, test                        HumanEval, and our own
    task_id, text or prompt, code, test_list                  MBPP
    question_id, question_content, public_test_cases          LiveCodeBench: programs, or a method
    task_id, prompt                                           no tests: nothing is scored

A prompt is text, or a list of messages, `{"role": "user", "content": "..."}`.
"""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

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


_Role = Literal["system", "user", "assistant"]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """One message of a chat."""

    role: _Role
    content: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """One problem.

    Attributes:
        task_id: unique in its workload.
        prompt: the model's input; empty where the data set has messages.
        messages: of a chat, the last one of the user; empty where the data set has text.
        entry_point: name of the function that is asked for; empty if unknown.
        canonical_solution: a correct continuation of the prompt; empty if unknown.
        tests: what a working answer passes; None if there are none.
    """

    task_id: str
    prompt: str
    messages: tuple[Message, ...] = ()
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
    inputs = (*_calls(row, "base_input"), *_calls(row, "plus_input"))
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
    key = "text" if row.get("text") else "prompt"
    if not row.get(key):
        raise KeyError("text or prompt")
    asked, messages = _asked(row, key)
    # MBPP+ as the hub has it: `test` has the further inputs, `test_list` only MBPP's.
    tests = [_text(row, "test")] if row.get("test") else assertions
    setup = [*_texts(row, "test_imports"), _text(row, "test_setup_code")]
    program = "\n".join([*setup, *tests])
    return Task(
        task_id=_id(row, "task_id"),
        prompt="" if messages else "\n".join(['"""', asked, *assertions[:1], '"""', ""]),
        messages=messages,
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
    cases = _objects(_json(row, key), key)
    for number, case in enumerate(cases):
        for name in ("input", "output"):
            if not isinstance(case.get(name), str):
                raise _wrong(f"{key}[{number}].{name}", case.get(name), "text")
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
    prompt, messages = _asked(row, "prompt")
    return Task(
        task_id=_id(row, "task_id"),
        prompt=prompt,
        messages=messages,
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

FIELDS = (
    "task_id", "prompt", "entry_point", "canonical_solution", "test", "base_input", "plus_input",
    "atol", "text", "code", "test_list", "test_imports", "test_setup_code", "question_id",
    "question_content", "public_test_cases", "private_test_cases", "starter_code", "metadata",
)  # fmt: skip
"""Everything that is read of a row."""

_OTHER_NAMES = {
    "task_id": ("id", "name", "problem_id", "question_id", "uid", "index", "idx"),
    "prompt": (
        "text", "question", "instruction", "problem", "problem_statement", "question_content",
        "description", "messages", "query", "input",
    ),
}  # fmt: skip


def likely_columns(row: Mapping[str, Any]) -> dict[str, str | None]:
    """The fields that every row needs and this one lacks, and the column that may hold each.

    None where no column has a usual name.
    """
    lower = {str(name).lower(): str(name) for name in row}
    return {
        field: next((lower[name] for name in names if name in lower), None)
        for field, names in _OTHER_NAMES.items()
        if row.get(field) is None
    }


def _text(row: Mapping[str, Any], key: str) -> str:
    """A text; empty if the key is missing or null."""
    value = row.get(key)
    return "" if value is None else _checked_text(value, key)


def _checked_text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise _wrong(where, value, "text")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{where} has a lone surrogate, which no tokenizer can read") from error
    return value


def _wrong(where: str, value: Any, expected: str) -> ValueError:
    return ValueError(f"{where} is {type(value).__name__}, expected {expected}")


def _id(row: Mapping[str, Any], key: str) -> str:
    """A text, or a whole number: MBPP's ids are numbers."""
    value = row.get(key)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return _text(row, key)


def _texts(row: Mapping[str, Any], key: str) -> list[str]:
    """A list of texts; empty if the key is missing or null."""
    items = enumerate(_list(row, key))
    return [_checked_text(item, f"{key}[{number}]") for number, item in items]


def _calls(row: Mapping[str, Any], key: str) -> list[list[Json]]:
    """A list of calls, each the list of its arguments."""
    calls = _list(row, key)
    for number, arguments in enumerate(calls):
        if not isinstance(arguments, list):
            raise _wrong(f"{key}[{number}]", arguments, "a list of arguments")
    return calls


def _objects(value: Any, where: str) -> list[Mapping[str, Any]]:
    if not isinstance(value, list):
        raise _wrong(where, value, "a list of objects")
    for number, item in enumerate(value):
        if not isinstance(item, Mapping):
            raise _wrong(f"{where}[{number}]", item, "an object")
    return value


def _asked(row: Mapping[str, Any], key: str) -> tuple[str, tuple[Message, ...]]:
    """What a row asks: a text, or the messages of a chat."""
    return ("", _messages(row, key)) if isinstance(row[key], list) else (_text(row, key), ())


def _messages(row: Mapping[str, Any], key: str) -> tuple[Message, ...]:
    """The messages of a chat, up to the one that is to be answered."""
    messages: list[Message] = []
    for number, item in enumerate(_objects(row[key], key)):
        where = f"{key}[{number}]"
        if set(item) != {"role", "content"}:
            raise ValueError(f"{where} has {', '.join(item) or 'no keys'}, expected role, content")
        if item["role"] not in get_args(_Role):
            raise ValueError(f"{where}.role is {item['role']!r}, expected system, user, assistant")
        if item["role"] == "system" and number:
            raise ValueError(f"{where}.role is 'system', which only the first message may be of")
        content = _checked_text(item["content"], f"{where}.content")
        messages.append(Message(role=item["role"], content=content))
    if messages and messages[-1].role != "user":
        raise ValueError(f"{key}[{len(messages) - 1}].role is 'assistant', but user comes last")
    return tuple(messages)


def _number(row: Mapping[str, Any], key: str) -> float:
    value = row.get(key)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise _wrong(key, value, "a number")
    return float(value or 0)


def _list(row: Mapping[str, Any], key: str) -> list[Any]:
    """A list; empty if the key is missing or null."""
    value = row.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise _wrong(key, value, "a list")
    return value


def _object(row: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = _json(row, key) if row.get(key) else {}
    if not isinstance(value, Mapping):
        raise _wrong(key, value, "an object")
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
