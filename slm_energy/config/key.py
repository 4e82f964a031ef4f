"""A key as it is declared: meaning and range beside type and default.

    rounds: Annotated[int, Key("times that each cell is run", low=1)] = 1

Help, checks, the comments in conf/ and docs/reference/keys.md are all made from such declarations.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from typing import Any, Literal

_KINDS = {
    bool: "true or false",
    int: "integer",
    float: "number",
    str: "text",
    tuple: "list",
    dict: "mapping",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Key:
    """What a type does not say.

    Attributes:
        meaning: the first sentence says what the key does; the rest is for the key reference.
        low: smallest value allowed.
        high: largest value allowed.
    """

    meaning: str
    _: dataclasses.KW_ONLY
    low: float | None = None
    high: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class KeyInfo:
    """Everything that is declared about one key.

    Attributes:
        name: dotted, such as `measurement.limits.steal_pct`.
        meaning: one or more sentences; the first stands alone.
        kind: what a value is called: `integer`, `list`, ...
        default: `dataclasses.MISSING` where there is none.
        choices: the only values allowed; empty where the type decides.
        low: smallest value allowed, if there is one.
        high: largest value allowed, if there is one.
        nullable: whether null is allowed.
    """

    name: str
    meaning: str
    kind: str
    default: Any
    choices: tuple[str, ...]
    low: float | None
    high: float | None
    nullable: bool

    @property
    def required(self) -> bool:
        """Whether there is no default."""
        return self.default is dataclasses.MISSING

    @property
    def default_text(self) -> str:
        """The default in YAML; `required` without one, empty where only keys within have one."""
        return "required" if self.required else _yaml(self.default)

    @property
    def summary(self) -> str:
        """The first sentence of the meaning, without its period."""
        return self.meaning.partition(". ")[0].removesuffix(".")

    @property
    def range(self) -> str:
        """The limits in words: `at least 1, at most 4,096, or null`; empty where there are none."""
        limits = [f"at least {self.low:,}"] if self.low is not None else []
        limits += [f"at most {self.high:,}"] if self.high is not None else []
        return ", ".join([*limits, "or null"] if limits and self.nullable else limits)

    @property
    def values(self) -> str:
        """What may be set, in words: choices, or the kind and its range."""
        if self.choices:
            *others, last = self.choices
            return f"{', '.join(others)} or {last}"
        if self.range:
            return f"{self.kind}, {self.range}"
        return f"{self.kind} or null" if self.nullable else self.kind

    def allows(self, value: float) -> bool:
        """Whether a number is within the range."""
        above = self.low is None or value >= self.low
        return above and (self.high is None or value <= self.high)


@functools.cache
def keys_of(kind: type, prefix: str = "") -> tuple[KeyInfo, ...]:
    """The keys of a dataclass in order, each followed by those of the dataclass that it holds.

    Args:
        kind: every field is annotated with a `Key`.
        prefix: what goes before each name: `measurement.`.
    """
    annotations = typing.get_type_hints(kind, include_extras=True)
    keys: list[KeyInfo] = []
    for field in dataclasses.fields(kind):
        annotation, key = typing.get_args(annotations[field.name])
        union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
        members = typing.get_args(annotation) if union else (annotation,)
        [value_type, *_] = [each for each in members if each is not type(None)]
        origin = typing.get_origin(value_type)
        factory = field.default_factory
        info = KeyInfo(
            name=prefix + field.name,
            meaning=key.meaning,
            kind=_KINDS.get(origin or value_type, "mapping"),
            default=field.default if factory is dataclasses.MISSING else factory(),
            choices=typing.get_args(value_type) if origin is Literal else (),
            low=key.low,
            high=key.high,
            nullable=type(None) in members,
        )
        keys.append(info)
        if dataclasses.is_dataclass(value_type):
            keys += keys_of(typing.cast(type, value_type), f"{info.name}.")
    return tuple(keys)


def _yaml(value: Any) -> str:
    """A default as YAML would have it on one line."""
    match value:
        case None | bool():
            return {None: "null", True: "true", False: "false"}[value]
        case tuple():
            return f"[{', '.join(map(_yaml, value))}]"
        case _ if dataclasses.is_dataclass(value):
            return ""
        case _:
            return '""' if value == "" else str(value)
