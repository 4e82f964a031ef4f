"""A seeded grammar of small Python functions, each with a docstring, an example and a body.

The bundled model learns from them to turn a sentence into one line of Python. Three families:

- over a sequence: *operation* x *transformation* x *condition* x *source*, such as the sum (of) the
  squares (of) the even (of) a list of numbers;
- steps on a text, in turn: strip, lower, replace, ...;
- arithmetic on three numbers, whose names say nothing about what is computed.

Names of functions and parameters and the wording vary freely. What a function computes, and
nothing else, is its *combination*. A hash divides all combinations into those to train on and
those to validate with; the combinations of the bundled tasks are in neither part.
"""

from __future__ import annotations

import ast
import copy
import hashlib
import json
import random
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from synthetic_grammar import (
    CONDITIONS,
    FIRST,
    LAST_STEPS,
    NUMBERS,
    OPERATIONS,
    SHAPES,
    STEPS,
    STRINGS,
    TEXTS,
    THEN,
    TRANSFORMATIONS,
    VOCABULARY,
    singular,
)

VALIDATION_SHARE = 0.06

HELD_OUT = frozenset(
    {
        ("sum", "itself", "above"),
        ("sum", "square", "odd"),
        ("max", "itself", "below"),
        ("count", "itself", "longer"),
        ("list", "upper", "starts"),
        ("list", "itself", "at most"),
        ("list", "itself", "contains"),
        ("any", "itself", "negative"),
        ("longest", "itself", "ends"),
        ("mapping", "length", "not among"),
        ("strip", "lower", "replace"),
        ("product", "minus"),
    }
)
"""Combinations of the bundled tasks. No generated function has one of them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Function:
    """One generated function.

    Attributes:
        combination: what it computes, apart from names and wording.
        name: its name.
        sentence: the text of its docstring without the example, on one line.
        prompt: source up to the end of the docstring.
        body: the rest; ``prompt + body`` is the whole function.
    """

    combination: tuple[str, ...]
    name: str
    sentence: str
    prompt: str
    body: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Parameter:
    """A parameter: its name, its annotation, and its value in the example."""

    name: str
    annotation: str
    value: Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Draft:
    """A function without its example.

    Attributes:
        combination: as in ``Function``.
        names: names that would suit it.
        sentence: what its docstring says.
        parameters: draws the parameters; called again if an example shows little.
        returns: annotation of the result.
        expression: what it returns.
    """

    combination: tuple[str, ...]
    names: tuple[str, ...]
    sentence: str
    parameters: Callable[[], list[Parameter]]
    returns: str
    expression: str


# --------------------------------------------------------------------- family: a sequence


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """Where elements come from.

    Attributes:
        item: kind of the elements.
        tested: kind of what a condition tests; another than ``item`` for a dict's items.
        annotation: of the parameter.
        nouns: names of the parameter.
        phrases: what the elements are called; ``{p}`` is the parameter.
        loop: names in the ``for``; None for the singular of the parameter.
        iterable: expression of ``{p}``.
    """

    item: str
    tested: str
    annotation: str
    nouns: list[str]
    phrases: tuple[str, ...] = ("{p}",)
    loop: str | None = None
    iterable: str = "{p}"


SOURCES = (
    *2 * (Source(item="number", tested="number", annotation="list[int]", nouns=NUMBERS),),
    *2 * (Source(item="string", tested="string", annotation="list[str]", nouns=STRINGS),),
    Source(
        item="string",
        tested="string",
        annotation="str",
        nouns=TEXTS,
        phrases=("words of {p}", "words in {p}"),
        loop="word",
        iterable="{p}.split()",
    ),
    Source(
        item="string",
        tested="string",
        annotation="str",
        nouns=TEXTS,
        phrases=("lines of {p}", "lines in {p}"),
        loop="line",
        iterable="{p}.splitlines()",
    ),
    Source(
        item="string",
        tested="string",
        annotation="str",
        nouns=TEXTS,
        phrases=("characters of {p}", "characters in {p}"),
        loop="char",
    ),
    Source(
        item="number",
        tested="number",
        annotation="dict[str, int]",
        nouns=NUMBERS,
        phrases=("values of {p}", "values in {p}"),
        loop="value",
        iterable="{p}.values()",
    ),
    Source(
        item="string",
        tested="number",
        annotation="dict[str, int]",
        nouns=NUMBERS,
        phrases=("keys of {p}", "keys in {p}"),
        loop="key, value",
        iterable="{p}.items()",
    ),
)


def draw_sequence(rng: random.Random) -> Draft | None:
    """Draw an operation on a sequence; None if the parts do not go together."""
    source = rng.choice(SOURCES)
    operation_key = rng.choice(list(OPERATIONS))
    operation = OPERATIONS[operation_key]
    by_value = source.item != source.tested
    transformation_key = rng.choice(["itself", *TRANSFORMATIONS])
    condition_key = rng.choice(
        ["always", *(key for key, c in CONDITIONS.items() if c.kind == source.tested)]
    )
    transformation = TRANSFORMATIONS.get(transformation_key)
    condition = CONDITIONS.get(condition_key)
    if operation.takes == "condition":
        transformation_key, transformation = "itself", None
        if by_value and operation_key != "first":
            return None
    if transformation is not None and transformation.takes != source.item:
        return None
    kind = transformation.gives if transformation else source.item
    if operation.takes not in ("any", "condition", kind):
        return None
    if condition is None and (transformation is None or by_value or operation.takes == "condition"):
        return None
    if operation_key == "mapping" and transformation is None:
        return None

    noun = rng.choice(source.nouns)
    kinds = (condition.parameters if condition else ()) + (
        ("separator",) if operation_key == "joined" else ()
    )
    loop = source.loop or singular(noun)
    item, _, tested = loop.partition(", ")
    names = draw_names(rng, kinds, taken={noun, item, tested})
    a, b = [*names, "", ""][:2]

    phrase = rng.choice(source.phrases).format(p=noun)
    bare, verb = phrase, ""
    if condition:
        verb = rng.choice(condition.verbs).format(a=a, b=b)
        if by_value:
            bare = f"{phrase} whose value {verb.replace('are ', 'is ', 1)}"
        else:
            bare = rng.choice(
                [
                    f"{phrase} that {verb}",
                    *(f"{phrase} {words.format(a=a, b=b)}" for words in condition.after),
                    *(f"{words} {phrase}" for words in condition.before),
                ]
            )
    things = f"the {bare}"
    if transformation:
        things = rng.choice(transformation.words).format(t=things)
    sentence = rng.choice(operation.words).format(
        t=things,
        b=bare,
        n=phrase,
        v=verb,
        u=f"the {bare}",
        d=transformation.noun if transformation else "",
        s=names[-1] if names else "",
    )

    iterable = source.iterable.format(p=noun)
    test = condition.code.format(x=tested or item, a=a, b=b) if condition else ""
    generator = (transformation.code.format(x=item) if transformation else item) + (
        f" for {loop} in {iterable}" + (f" if {test}" if test else "")
    )
    expression = operation.code.format(
        g=generator, p=f"({generator})", x=item, i=iterable, c=test, s=names[-1] if names else ""
    )
    element = "int" if kind == "number" else "str"
    returns = operation.returns.format(e=element, k="str" if source.item == "string" else "int")

    def parameters() -> list[Parameter]:
        value, elements = draw_elements(rng, source)
        drawn = draw_values(rng, kinds, elements)
        return [
            Parameter(name=noun, annotation=source.annotation, value=value),
            *(
                Parameter(name=name, annotation=annotation_of(v), value=v)
                for name, v in zip(names, drawn, strict=True)
            ),
        ]

    return Draft(
        combination=(operation_key, transformation_key, condition_key),
        names=function_names(rng, operation.verbs, transformation_key, condition_key, phrase),
        sentence=sentence,
        parameters=parameters,
        returns=returns,
        expression=expression,
    )


def function_names(
    rng: random.Random, verbs: tuple[str, ...], transformation: str, condition: str, phrase: str
) -> tuple[str, ...]:
    """Names that say more or less of what a function does."""
    verb = rng.choice(verbs)
    noun = phrase.split()[0]
    parts = [part.replace(" ", "_") for part in (transformation, condition)]
    said = [part for part in parts if part not in ("itself", "always")]
    return (
        "_".join([verb, *said, noun]),
        "_".join([verb, *said]),
        "_".join([verb, said[-1], noun]),
        f"{verb}_{noun}_{said[0]}",
        f"{verb}_{noun}",
        f"{rng.choice(VOCABULARY[:60])}_{noun}".lower(),
    )


def draw_names(rng: random.Random, kinds: tuple[str, ...], taken: set[str]) -> list[str]:
    """A name for each parameter, different from each other and from those taken."""
    names: list[str] = []
    for kind in kinds:
        pool = SHAPES[kind].split()
        if rng.random() < 0.2:
            pool = [*SHAPES["number"].split(), *TEXTS, *(singular(noun) for noun in STRINGS)]
        free = [name for name in pool if name not in taken and name not in names]
        names.append(rng.choice(free))
    return names


def draw_elements(rng: random.Random, source: Source) -> tuple[Any, list[Any]]:
    """A value of the first parameter, and what a condition would test in it."""
    words = rng.sample(VOCABULARY, rng.randint(3, 5))
    if source.annotation == "list[str]":
        return words, words
    if source.iterable.endswith("split()"):
        return " ".join(words), words
    if source.iterable.endswith("splitlines()"):
        lines = [" ".join(words[:2]), *words[2:]]
        return "\n".join(lines), lines
    if source.annotation == "str":
        text = "".join(words[:2])
        return text, list(text)
    numbers = [rng.randint(-9, 9) if rng.random() < 0.4 else rng.randint(1, 40) for _ in words]
    if source.annotation == "list[int]":
        return numbers, numbers
    return dict(zip(words, numbers, strict=True)), numbers


def draw_values(rng: random.Random, kinds: tuple[str, ...], elements: list[Any]) -> list[Any]:
    """A value for each kind of parameter, near the elements so that examples show something."""
    element = rng.choice(elements)
    values: dict[str, Any] = {
        "separator": rng.choice([", ", "-", " ", "/", "; ", "+"]),
        "divisor": rng.randint(2, 5),
        "limit": element,
        "value": element,
        "string": element,
        "among": rng.sample(elements, 2),
        "not among": rng.sample(elements, 2),
    }
    if isinstance(element, int):
        values |= {"limit": element + rng.randint(-1, 1), "low": min(elements) + 1, "high": element}
    else:
        middle = rng.randrange(len(element))
        values |= {
            "size": max(1, len(element) + rng.randint(-1, 1)),
            "prefix": element[: rng.randint(1, 2)],
            "suffix": element[-rng.randint(1, 2) :],
            "part": element[middle : middle + rng.randint(1, 2)],
        }
    return [values[kind] for kind in kinds]


# ------------------------------------------------------------------- family: steps on a text


def draw_steps(rng: random.Random) -> Draft | None:
    """Draw two or three steps on a text; None if they do not go together."""
    keys = rng.sample(list(STEPS), rng.choice((2, 3, 3)))
    kinds = [kind for key in keys for kind in STEPS[key][2]]
    if len(kinds) > 3 or any(key in LAST_STEPS for key in keys[:-1]):
        return None
    noun = rng.choice(TEXTS)
    names = draw_names(rng, tuple(kinds), taken={noun})
    expression, said, rest = noun, [], list(names)
    for key in keys:
        code, words, needs = STEPS[key]
        own = dict(zip("ab", rest, strict=False))
        rest = rest[len(needs) :]
        expression = code.format(x=expression, **own)
        said.append(rng.choice(words).format(**own))
    phrase = ", ".join(said[:-1]) + " and " + said[-1]

    def parameters() -> list[Parameter]:
        text = " ".join(rng.sample(VOCABULARY, 2))
        text = rng.choice([text, f" {text} ", text.title()])
        drawn: list[Any] = [text]
        for kind in kinds:
            middle = rng.randrange(len(text) - 1)
            drawn.append(
                {
                    "size": rng.randint(2, 4),
                    "prefix": text[:2],
                    "suffix": text[-2:],
                    "old": text[middle],
                    "new": rng.choice("-_+.x"),
                    "part": rng.choice([text[middle], "-", "#"]),
                }[kind]
            )
        return [
            Parameter(name=name, annotation=annotation_of(value), value=value)
            for name, value in zip([noun, *names], drawn, strict=True)
        ]

    verb = rng.choice(("clean", "format", "normalize", "convert", "make", "tidy", "prepare"))
    return Draft(
        combination=tuple(keys),
        names=(f"{verb}_{noun}", "_".join(keys), f"{keys[0]}_{noun}", f"{keys[-1]}_{noun}"),
        sentence=rng.choice(("Return {p} {s}.", "Give {p} back {s}.")).format(p=noun, s=phrase),
        parameters=parameters,
        returns="str",
        expression=expression,
    )


# -------------------------------------------------------------------- family: arithmetic


def draw_arithmetic(rng: random.Random) -> Draft:
    """Draw a computation with three whole numbers."""
    first, then = rng.choice(list(FIRST)), rng.choice(list(THEN))
    a, b, c = names = draw_names(rng, ("number",) * 3, taken=set())
    inner = FIRST[first][0].format(a=a, b=b)
    things = rng.choice(FIRST[first][1]).format(a=a, b=b)
    if then in ("times", "divided", "modulo") and not inner.endswith(")"):
        inner = f"({inner})"
    things = rng.choice(THEN[then][1]).format(t=things, c=c)
    verbs = ("Tell ",) if things.startswith("whether") else ("Return ", "Compute ", "Give ")
    order = [0, 1, 2]
    if rng.random() < 0.3:
        rng.shuffle(order)

    def parameters() -> list[Parameter]:
        values = rng.randint(2, 12), rng.randint(1, 6), rng.randint(2, 9)
        return [Parameter(name=names[i], annotation="int", value=values[i]) for i in order]

    return Draft(
        combination=(first, then),
        names=(f"{first}_{then}".replace(" ", "_"), f"{a}_{b}", f"{b}_{c}", f"compute_{a}"),
        sentence=rng.choice(verbs) + things + ".",
        parameters=parameters,
        returns="bool" if then in ("over", "under") else "int",
        expression=THEN[then][0].format(x=inner, c=c),
    )


# -------------------------------------------------------------------- from drafts to functions


def annotation_of(value: Any) -> str:
    """Annotation of a parameter with such a value."""
    return "list[str]" if isinstance(value, list) else type(value).__name__


def is_validation(combination: tuple[str, ...]) -> bool:
    """Whether a combination is kept for validation, by a hash of it."""
    first_bytes = hashlib.sha256(repr(combination).encode()).digest()[:8]
    return int.from_bytes(first_bytes, "big") < VALIDATION_SHARE * 2**64


def functions(
    part: Literal["training", "validation"], count: int, seed: int, avoid: frozenset[str]
) -> Iterator[Function]:
    """Generate functions, no two with the same source.

    Args:
        part: which combinations.
        count: number of functions.
        seed: of all draws; the same seed gives the same functions.
        avoid: names that no function gets.

    Yields:
        Functions whose example holds, since its result was computed by running them.
    """
    rng = random.Random(f"{part} {seed}")
    families = (draw_sequence, draw_sequence, draw_sequence, draw_steps, draw_arithmetic)
    seen: set[str] = set()
    while len(seen) < count:
        draft = rng.choice(families)(rng)
        if draft is None or draft.combination in HELD_OUT:
            continue
        if is_validation(draft.combination) != (part == "validation"):
            continue
        name = rng.choice(draft.names)
        function = write(name, draft) if name not in avoid and name.isidentifier() else None
        if function and function.prompt + function.body not in seen:
            seen.add(function.prompt + function.body)
            yield function


def write(name: str, draft: Draft) -> Function | None:
    """Write a function out, with an example that shows something if a few draws yield one.

    Returns:
        None if it fails with its parameters.
    """
    for _ in range(4):
        parameters = draft.parameters()
        arguments = [copy.deepcopy(parameter.value) for parameter in parameters]
        signature = ", ".join(f"{p.name}: {p.annotation}" for p in parameters)
        body = f"    return {draft.expression}\n"
        head = f"def {name}({signature}) -> {draft.returns}:\n"
        scope: dict[str, Any] = {}
        exec(head + body, scope)
        try:
            result = scope[name](*arguments)
        except ZeroDivisionError:
            return None
        if result:
            break
    call = f"{name}({', '.join(json.dumps(p.value) for p in parameters)})"
    example = f">>> {call}".replace("\\n", "\\\\n")
    shown = "" if result is None else f"\n{result!r}".replace("\\n", "\\\\n")
    docstring = (
        textwrap.fill(f'"""{draft.sentence}', width=88) + f"\n\n{example}{shown}\n" + '"""\n'
    )
    return Function(
        combination=draft.combination,
        name=name,
        sentence=draft.sentence,
        prompt=head + textwrap.indent(docstring, "    "),
        body=body,
    )


# -------------------------------------------------------------------- what held out means


def body_shape(function: ast.FunctionDef) -> str:
    """The body of a function without its docstring and with its own names replaced in order.

    Two functions that differ only in their names and wording have the same shape. Builtins,
    methods and constants stay.
    """
    function = copy.deepcopy(function)
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    names = [node for part in body for node in ast.walk(part) if isinstance(node, ast.Name)]
    own = {argument.arg for argument in ast.walk(function.args) if isinstance(argument, ast.arg)}
    own |= {name.id for name in names if isinstance(name.ctx, ast.Store)}
    numbers: dict[str, str] = {}
    for name in names:
        if name.id in own:
            name.id = numbers.setdefault(name.id, f"_{len(numbers)}")
    return "\n".join(ast.dump(statement) for statement in body)
