"""The words and parts of which ``synthetic_functions.py`` makes functions: tables, no logic."""

from __future__ import annotations

from dataclasses import dataclass

# ------------------------------------------------------------------------------- words

_NUMBERS = (
    "numbers prices scores ages weights heights values amounts counts costs marks sizes points "
    "levels rates totals years days temperatures readings grades bills fees widths speeds votes "
    "ratings orders salaries distances"
)
_STRINGS = (
    "words names titles tags files labels cities colors keys items fruits users countries places "
    "codes books songs animals teams streets plants parts tools rooms shops paths hosts emails "
    "letters strings"
)
_TEXTS = (
    "text sentence message line title phrase comment note string name label word code key "
    "password address body content query reply subject header caption remark"
)
_VOCABULARY = (
    "apple pear plum cherry lemon orange banana grape melon fig red green blue yellow black white "
    "cat dog horse mouse bird fish tiger lion bear wolf paris rome oslo lima cairo berlin madrid "
    "ann bob carl dora emil fay gus hanna ivan jane tea coffee milk water bread salt sugar rice "
    "table chair lamp door window roof river lake hill forest a an the to of in on it go my up "
    "Anna Ben Max Eva LONDON USA a1 b22 42 7 x9 data.txt notes.md main.py log.txt"
)
NUMBERS, STRINGS, TEXTS, VOCABULARY = (
    pool.split() for pool in (_NUMBERS, _STRINGS, _TEXTS, _VOCABULARY)
)
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


# ------------------------------------------------------------------ steps on a text, arithmetic

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
