"""When a result agrees with that of the canonical solution, as EvalPlus judges. Pure.

Source: `unsafe_execute` and `_special_oracle.py` of EvalPlus 0.3.1 (Liu et al. 2023,
https://github.com/evalplus/evalplus).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

_RTOL = 1e-7
_ATOL_OF_FLOATS = 1e-6

_SAME_SET = {
    "similar_elements", "find_char_long", "common_in_nested_lists", "extract_singly", "larg_nnum",
    "intersection_array", "find_dissimilar", "Diff",
}  # fmt: skip
_SAME_PRESENCE = {"check_str", "text_match_three", "text_starta_endb"}
"""Tasks of MBPP+ whose statements leave open the order of the result, or which match object."""


class Oracle:
    """Compares results of one task, input by input, in the order of the inputs."""

    def __init__(self, name: str, mbpp: bool, atol: float) -> None:
        """Take the task's function, whether it is one of MBPP+, and its tolerance of numbers."""
        self._name = name
        self._mbpp = mbpp
        self._atol = atol

    def agrees(self, result: Any, expected: Any, inputs: Sequence[Any]) -> bool:
        """Whether a result is right.

        Args:
            result: of the answer.
            expected: of the canonical solution.
            inputs: arguments of the call.

        Raises:
            Exception: they cannot be compared, so they do not agree.
        """
        if self._name == "find_zero" and not self._mbpp:  # HumanEval/32: any root will do
            terms = (c * math.pow(result, power) for power, c in enumerate(inputs[0]))
            return abs(math.fsum(terms)) <= self._atol
        exact = bool(result == expected)
        if self._mbpp:
            exact, expected = self._special(exact, result, expected, inputs)
        if self._atol == 0 and _are_floats(expected):
            self._atol = _ATOL_OF_FLOATS  # for the inputs that follow too, as in EvalPlus
        if exact or self._atol == 0:
            return exact
        return type(result) is type(expected) and _close(result, expected, self._atol)

    def _special(
        self, exact: bool, result: Any, expected: Any, inputs: Sequence[Any]
    ) -> tuple[bool, Any]:
        """Whether they agree exactly, and what is expected, by the special rules of MBPP+."""
        name = self._name
        if name == "are_equivalent":  # Mbpp/164
            return True, expected
        if name == "sum_div":  # Mbpp/295
            return exact or bool(result == 0), expected
        if name == "surface_Area":  # Mbpp/581
            return exact or bool(abs(result - _surface_area(*inputs)) <= self._atol), expected
        if name == "digit_distance_nums":  # Mbpp/558
            return exact or bool(result == _digit_distance(*inputs)), expected
        if name in _SAME_SET:
            return set(result) == set(expected), expected
        if name in _SAME_PRESENCE:
            there = expected is not None
            return (result if isinstance(result, bool) else result is not None) == there, there
        return exact, expected


def _are_floats(value: Any) -> bool:
    several = isinstance(value, list | tuple) and bool(value)
    return isinstance(value, float) or (several and all(isinstance(x, float) for x in value))


def _close(result: Any, expected: Any, atol: float) -> bool:
    """As `numpy.allclose`: numbers within the tolerance, sequences of them of one shape."""
    if isinstance(expected, list | tuple):
        alike = isinstance(result, list | tuple) and len(result) == len(expected)
        return alike and all(_close(a, b, atol) for a, b in zip(result, expected, strict=True))
    if not all(isinstance(value, int | float | complex) for value in (result, expected)):
        return False
    finite = math.isfinite(abs(expected))
    return bool(
        result == expected or (finite and abs(result - expected) <= atol + _RTOL * abs(expected))
    )


def _surface_area(base_edge: float, height: float) -> float:
    """Of a square pyramid, whose height may be read as that of its side or that of its apex."""
    slant_height = math.sqrt((base_edge / 2) ** 2 + height**2)
    return round(base_edge**2 + 2 * base_edge * slant_height)


def _digit_distance(one: int, other: int) -> int:
    """The sum of the differences of digits; the shorter number begins with zeros."""
    length = max(len(str(one)), len(str(other)))
    pairs = zip(str(one).zfill(length), str(other).zfill(length), strict=True)
    return sum(abs(int(a) - int(b)) for a, b in pairs)
