"""A seeded grammar of small Python functions, each with a docstring, an example and a body.

The bundled model learns from them to turn a sentence into one line of Python. Three families:

- over a sequence: *operation* x *transformation* x *condition* x *source*, such as the sum (of) the
  squares (of) the even (of) a list of numbers;
- steps on a text, in turn: strip, lower, replace, ...;
- arithmetic on three numbers, whose names say nothing about what is computed.

Names of functions and parameters and the wording vary freely. What a function computes, and
nothing else, is its *combination*. Combinations are divided for good, by a hash, into those to train on and
those to validate with, and the combinations of the bundled tasks are in neither part.
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


# ------------------------------------------------------------------------------- words

NUMBERS = (
    "numbers prices scores ages weights heights values amounts counts costs marks sizes points "
    "levels rates totals years days temperatures readings grades bills fees widths speeds votes "
    "ratings orders salaries distances"
).split()
STRINGS = (
    "words names titles tags files labels cities colors keys items fruits users countries places "
    "codes books songs animals teams streets plants parts tools rooms shops paths hosts emails "
    "letters strings"
).split()
TEXTS = (
    "text sentence message line title phrase comment note string name label word code key "
    "password address body content query reply subject header caption remark"
).split()
VOCABULARY = (
    "apple pear plum cherry lemon orange banana grape melon fig red green blue yellow black white "
    "cat dog horse mouse bird fish tiger lion bear wolf paris rome oslo lima cairo berlin madrid "
    "ann bob carl dora emil fay gus hanna ivan jane tea coffee milk water bread salt sugar rice "
    "table chair lamp door window roof river lake hill forest a an the to of in on it go my up "
    "Anna Ben Max Eva LONDON USA a1 b22 42 7 x9 data.txt notes.md main.py log.txt"
).split()
SHAPES = {
    "limit": "limit bound threshold cutoff level border mark target minimum maximum",
    "low": "low lower first start smallest least begin",
    "high": "high upper last end largest most stop",
    "divisor": "divisor factor step base n unit",
    "value": "value number target other wanted given",
    "size": "size length width n count limit characters",
    "prefix": "prefix start beginning head opening letter initial",
    "suffix": "suffix ending end tail extension letter last",
    "part": "part piece fragment letter pattern needle char",
    "string": "word other value wanted given name item",
    "among": "allowed known others chosen wanted selected stops",
    "not among": "excluded known others banned ignored removed stops skipped",
    "separator": "separator sep glue delimiter between mark",
    "old": "old before find source first",
    "new": "new after replacement instead second",
    "number": "a b c x y n width height length price rate rows seats days hours count total "
    "weight speed distance boxes pages cost fee tax offset bonus items size left right base "
    "margin share shift wage part units cups level gain loss tip step extra rest",
}
"""Names that suit a kind of parameter. Some draws take any noun instead, so that a model has to
read which name belongs where."""


def singular(plural: str) -> str:
    """The name of one element of a list, such as ``city`` for ``cities``."""
    return plural[:-3] + "y" if plural.endswith("ies") else plural[:-1]


# ------------------------------------------------------------- conditions and transformations


@dataclass(frozen=True, kw_only=True, slots=True)
class Condition:
    """What selects elements.

    Attributes:
        kind: kind of the elements, number or string.
        code: test of ``{x}``.
        before: wordings that stand before the noun.
        after: wordings that follow the noun.
        verbs: wordings that follow the noun and "that".
        parameters: kinds of the parameters, named ``{a}`` and ``{b}`` in code and wordings.
    """

    kind: str
    code: str
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    verbs: tuple[str, ...]
    parameters: tuple[str, ...] = ()


CONDITIONS = {
    "above": Condition(
        kind="number",
        code="{x} > {a}",
        after=("above {a}", "greater than {a}", "over {a}"),
        verbs=("are above {a}", "are greater than {a}", "are larger than {a}"),
        parameters=("limit",),
    ),
    "below": Condition(
        kind="number",
        code="{x} < {a}",
        after=("below {a}", "less than {a}", "under {a}"),
        verbs=("are below {a}", "are less than {a}", "are smaller than {a}"),
        parameters=("limit",),
    ),
    "at least": Condition(
        kind="number",
        code="{x} >= {a}",
        after=("of at least {a}",),
        verbs=("are at least {a}",),
        parameters=("limit",),
    ),
    "at most": Condition(
        kind="number",
        code="{x} <= {a}",
        after=("of at most {a}",),
        verbs=("are at most {a}",),
        parameters=("limit",),
    ),
    "between": Condition(
        kind="number",
        code="{a} <= {x} <= {b}",
        after=("from {a} to {b}", "between {a} and {b}"),
        verbs=("are between {a} and {b}",),
        parameters=("low", "high"),
    ),
    "even": Condition(kind="number", code="{x} % 2 == 0", before=("even",), verbs=("are even",)),
    "odd": Condition(kind="number", code="{x} % 2 == 1", before=("odd",), verbs=("are odd",)),
    "positive": Condition(
        kind="number", code="{x} > 0", before=("positive",), verbs=("are positive",)
    ),
    "negative": Condition(
        kind="number", code="{x} < 0", before=("negative",), verbs=("are negative",)
    ),
    "multiple": Condition(
        kind="number",
        code="{x} % {a} == 0",
        after=("divisible by {a}",),
        verbs=("are divisible by {a}", "are multiples of {a}"),
        parameters=("divisor",),
    ),
    "equal": Condition(
        kind="number",
        code="{x} == {a}",
        after=("equal to {a}",),
        verbs=("are equal to {a}",),
        parameters=("value",),
    ),
    "different": Condition(
        kind="number",
        code="{x} != {a}",
        after=("other than {a}", "different from {a}"),
        verbs=("are different from {a}", "are not equal to {a}"),
        parameters=("value",),
    ),
    "starts": Condition(
        kind="string",
        code="{x}.startswith({a})",
        after=("starting with {a}",),
        verbs=("start with {a}", "begin with {a}"),
        parameters=("prefix",),
    ),
    "ends": Condition(
        kind="string",
        code="{x}.endswith({a})",
        after=("ending with {a}",),
        verbs=("end with {a}",),
        parameters=("suffix",),
    ),
    "contains": Condition(
        kind="string",
        code="{a} in {x}",
        after=("containing {a}",),
        verbs=("contain {a}",),
        parameters=("part",),
    ),
    "lacks": Condition(
        kind="string",
        code="{a} not in {x}",
        after=("without {a}",),
        verbs=("do not contain {a}",),
        parameters=("part",),
    ),
    "longer": Condition(
        kind="string",
        code="len({x}) > {a}",
        after=("longer than {a}", "with more than {a} characters"),
        verbs=("are longer than {a}", "have more than {a} characters"),
        parameters=("size",),
    ),
    "shorter": Condition(
        kind="string",
        code="len({x}) < {a}",
        after=("shorter than {a}", "with fewer than {a} characters"),
        verbs=("are shorter than {a}", "have fewer than {a} characters"),
        parameters=("size",),
    ),
    "exactly": Condition(
        kind="string",
        code="len({x}) == {a}",
        after=("of length {a}", "with exactly {a} characters"),
        verbs=("have exactly {a} characters",),
        parameters=("size",),
    ),
    "in upper case": Condition(
        kind="string", code="{x}.isupper()", after=("in upper case",), verbs=("are in upper case",)
    ),
    "in lower case": Condition(
        kind="string", code="{x}.islower()", after=("in lower case",), verbs=("are in lower case",)
    ),
    "digits": Condition(
        kind="string", code="{x}.isdigit()", after=("made of digits",), verbs=("are digits only",)
    ),
    "alphabetic": Condition(
        kind="string",
        code="{x}.isalpha()",
        after=("made of letters",),
        verbs=("are letters only",),
    ),
    "among": Condition(
        kind="string",
        code="{x} in {a}",
        after=("found in {a}",),
        verbs=("are in {a}", "appear in {a}"),
        parameters=("among",),
    ),
    "not among": Condition(
        kind="string",
        code="{x} not in {a}",
        after=("not found in {a}",),
        verbs=("are not in {a}", "do not appear in {a}"),
        parameters=("not among",),
    ),
    "same": Condition(
        kind="string",
        code="{x} == {a}",
        after=("equal to {a}",),
        verbs=("are equal to {a}",),
        parameters=("string",),
    ),
    "unlike": Condition(
        kind="string",
        code="{x} != {a}",
        after=("other than {a}", "different from {a}"),
        verbs=("are different from {a}", "are not equal to {a}"),
        parameters=("string",),
    ),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Transformation:
    """What is made of an element.

    Attributes:
        takes: kind of the element.
        gives: kind of the result.
        code: expression of ``{x}``.
        noun: what the result is called.
        words: wordings around ``{t}``, what is transformed.
    """

    takes: str
    gives: str
    code: str
    noun: str
    words: tuple[str, ...]


TRANSFORMATIONS = {
    "square": Transformation(
        takes="number",
        gives="number",
        code="{x} ** 2",
        noun="square",
        words=("the squares of {t}",),
    ),
    "double": Transformation(
        takes="number",
        gives="number",
        code="2 * {x}",
        noun="double",
        words=("twice {t}", "the doubles of {t}"),
    ),
    "absolute": Transformation(
        takes="number",
        gives="number",
        code="abs({x})",
        noun="absolute value",
        words=("the absolute values of {t}",),
    ),
    "opposite": Transformation(
        takes="number",
        gives="number",
        code="-{x}",
        noun="negative",
        words=("the negatives of {t}",),
    ),
    "half": Transformation(
        takes="number",
        gives="number",
        code="{x} // 2",
        noun="half, rounded down",
        words=("the halves of {t}, rounded down",),
    ),
    "written": Transformation(
        takes="number",
        gives="string",
        code="str({x})",
        noun="string form",
        words=("{t} as strings",),
    ),
    "length": Transformation(
        takes="string",
        gives="number",
        code="len({x})",
        noun="length",
        words=("the lengths of {t}",),
    ),
    "upper": Transformation(
        takes="string",
        gives="string",
        code="{x}.upper()",
        noun="upper-case form",
        words=("{t}, written in upper case", "{t}, in capital letters"),
    ),
    "lower": Transformation(
        takes="string",
        gives="string",
        code="{x}.lower()",
        noun="lower-case form",
        words=("{t}, written in lower case", "{t}, in small letters"),
    ),
    "title": Transformation(
        takes="string",
        gives="string",
        code="{x}.title()",
        noun="title-case form",
        words=("{t}, written in title case",),
    ),
    "strip": Transformation(
        takes="string",
        gives="string",
        code="{x}.strip()",
        noun="form without outer spaces",
        words=("{t}, without outer spaces",),
    ),
    "backwards": Transformation(
        takes="string",
        gives="string",
        code="{x}[::-1]",
        noun="reverse",
        words=("{t}, each reversed", "{t}, spelled backwards"),
    ),
    "initial": Transformation(
        takes="string",
        gives="string",
        code="{x}[:1]",
        noun="first character",
        words=("the first characters of {t}", "the initials of {t}"),
    ),
    "final": Transformation(
        takes="string",
        gives="string",
        code="{x}[-1:]",
        noun="last character",
        words=("the last characters of {t}",),
    ),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Operation:
    """What is returned of a sequence.

    Attributes:
        takes: kind of the elements after the transformation; any for both.
        code: expression of ``{g}``, a generator expression without its brackets, or of ``{p}``,
            the same with brackets.
        returns: annotation; ``{e}`` is the annotation of an element.
        verbs: what names of functions begin with.
        words: sentences about ``{t}``.
    """

    takes: str
    code: str
    returns: str
    verbs: tuple[str, ...]
    words: tuple[str, ...]


OPERATIONS = {
    "sum": Operation(
        takes="number",
        code="sum({g})",
        returns="int",
        verbs=("sum", "total", "add_up"),
        words=("Return the sum of {t}.", "Add up {t}.", "Return the total of {t}."),
    ),
    "max": Operation(
        takes="number",
        code="max({p}, default=0)",
        returns="int",
        verbs=("max", "largest", "highest"),
        words=(
            "Return the largest of {t}, or 0 if there are none.",
            "Return the highest of {t}. If there are none, return 0.",
        ),
    ),
    "min": Operation(
        takes="number",
        code="min({p}, default=0)",
        returns="int",
        verbs=("min", "smallest", "lowest"),
        words=(
            "Return the smallest of {t}, or 0 if there are none.",
            "Return the lowest of {t}. If there are none, return 0.",
        ),
    ),
    "longest": Operation(
        takes="string",
        code='max({p}, key=len, default="")',
        returns="str",
        verbs=("longest",),
        words=(
            "Return the longest of {t}, or '' if there are none.",
            "Return the longest of {t}. If there are none, return ''.",
        ),
    ),
    "shortest": Operation(
        takes="string",
        code='min({p}, key=len, default="")',
        returns="str",
        verbs=("shortest",),
        words=(
            "Return the shortest of {t}, or '' if there are none.",
            "Return the shortest of {t}. If there are none, return ''.",
        ),
    ),
    "list": Operation(
        takes="any",
        code="[{g}]",
        returns="list[{e}]",
        verbs=("list", "get", "keep", "select", "find"),
        words=("Return {t}.", "Return a list of {t}.", "Return {t} in their order.", "List {t}."),
    ),
    "sorted": Operation(
        takes="any",
        code="sorted({g})",
        returns="list[{e}]",
        verbs=("sorted", "ordered", "sort"),
        words=("Return {t}, sorted.", "Return a sorted list of {t}.", "Sort {t}."),
    ),
    "descending": Operation(
        takes="any",
        code="sorted({p}, reverse=True)",
        returns="list[{e}]",
        verbs=("descending", "falling", "sort_down"),
        words=(
            "Return {t}, sorted in descending order.",
            "Return {t} from the largest to the smallest.",
        ),
    ),
    "distinct": Operation(
        takes="any",
        code="len(set({g}))",
        returns="int",
        verbs=("distinct", "different", "variety"),
        words=("Return how many different values {t} have.", "Count {t}, equal ones only once."),
    ),
    "joined": Operation(
        takes="string",
        code="{s}.join({g})",
        returns="str",
        verbs=("join", "combine", "glue"),
        words=("Join {t} with {s}.", "Join {t}, with {s} between them."),
    ),
    "mapping": Operation(
        takes="any",
        code="{{{x}: {g}}}",
        returns="dict[{k}, {e}]",
        verbs=("map", "table_of", "index"),
        words=("Map each of {u} to its {d}.", "Return a dict from each of {u} to its {d}."),
    ),
    "count": Operation(
        takes="condition",
        code="sum(1 for {x} in {i} if {c})",
        returns="int",
        verbs=("count", "how_many", "number_of"),
        words=("Count {t}.", "Return the number of {b}.", "Return how many {b} there are."),
    ),
    "first": Operation(
        takes="condition",
        code="next({p}, None)",
        returns="{e} | None",
        verbs=("first", "find_first", "earliest"),
        words=(
            "Return the first of {t}, or None if there are none.",
            "Return the first of {t}. If there are none, return None.",
        ),
    ),
    "any": Operation(
        takes="condition",
        code="any({c} for {x} in {i})",
        returns="bool",
        verbs=("any", "has", "some"),
        words=("Tell whether any of the {n} {v}.", "Return True if some of the {n} {v}."),
    ),
    "all": Operation(
        takes="condition",
        code="all({c} for {x} in {i})",
        returns="bool",
        verbs=("all", "only", "every"),
        words=("Tell whether all of the {n} {v}.", "Return True if all of the {n} {v}."),
    ),
}


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
    """A value for each parameter of a kind, near the elements so that an example shows something."""
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

STEPS: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "strip": ("{x}.strip()", ("without outer spaces",), ()),
    "lower": ("{x}.lower()", ("in lower case",), ()),
    "upper": ("{x}.upper()", ("in upper case",), ()),
    "title": ("{x}.title()", ("in title case",), ()),
    "replace": ("{x}.replace({a}, {b})", ("with {a} replaced by {b}",), ("old", "new")),
    "remove": ('{x}.replace({a}, "")', ("with {a} removed",), ("part",)),
    "prefix": ("{x}.removeprefix({a})", ("without the prefix {a}",), ("prefix",)),
    "suffix": ("{x}.removesuffix({a})", ("without the suffix {a}",), ("suffix",)),
    "cut": ("{x}[:{a}]", ("cut to {a} characters",), ("size",)),
    "skip": ("{x}[{a}:]", ("without its first {a} characters",), ("size",)),
    "reverse": ("{x}[::-1]", ("reversed", "spelled backwards"), ()),
    "repeat": ("{x} * {a}", ("repeated {a} times",), ("size",)),
    "before": ("{a} + {x}", ("with {a} in front",), ("part",)),
    "after": ("{x} + {a}", ("with {a} at the end",), ("part",)),
}
"""Code, wordings and parameters of each step."""

LAST_STEPS = ("repeat", "before", "after")
"""Steps that are not a method or an index, and so end a chain."""


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

FIRST: dict[str, tuple[str, tuple[str, ...]]] = {
    "sum": ("{a} + {b}", ("the sum of {a} and {b}", "{a} plus {b}")),
    "product": ("{a} * {b}", ("the product of {a} and {b}", "{a} times {b}")),
    "difference": ("{a} - {b}", ("the difference of {a} and {b}", "{a} minus {b}")),
    "quotient": ("{a} // {b}", ("the whole quotient of {a} and {b}",)),
    "remainder": ("{a} % {b}", ("the remainder of {a} divided by {b}",)),
    "larger": ("max({a}, {b})", ("the larger of {a} and {b}",)),
    "smaller": ("min({a}, {b})", ("the smaller of {a} and {b}",)),
    "distance": ("abs({a} - {b})", ("the distance between {a} and {b}",)),
    "power": ("{a} ** {b}", ("{a} to the power of {b}",)),
}
THEN: dict[str, tuple[str, tuple[str, ...]]] = {
    "plus": ("{x} + {c}", ("{t}, plus {c}", "{t}, increased by {c}")),
    "minus": ("{x} - {c}", ("{t}, minus {c}", "{t}, reduced by {c}")),
    "times": ("{x} * {c}", ("{t}, multiplied by {c}", "{t}, all times {c}")),
    "divided": ("{x} // {c}", ("{t}, divided by {c} and rounded down",)),
    "modulo": ("{x} % {c}", ("the remainder of {t}, divided by {c}",)),
    "at least": ("max({x}, {c})", ("{t}, but at least {c}",)),
    "at most": ("min({x}, {c})", ("{t}, but at most {c}",)),
    "over": ("{x} > {c}", ("whether {t} is above {c}",)),
    "under": ("{x} < {c}", ("whether {t} is below {c}",)),
}


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
        part: whose combinations.
        count: how many.
        seed: of all draws; the same gives the same functions.
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
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    bound = {a.arg for a in ast.walk(function.args) if isinstance(a, ast.arg)}
    nodes = [copy.deepcopy(node) for statement in body for node in [statement]]
    for statement in nodes:
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                bound.add(node.id)
    numbers: dict[str, str] = {}
    for statement in nodes:
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and node.id in bound:
                node.id = numbers.setdefault(node.id, f"_{len(numbers)}")
    return "\n".join(ast.dump(statement) for statement in nodes)
