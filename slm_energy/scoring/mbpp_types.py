"""Inputs of MBPP+ whose JSON form lost their types. Pure.

JSON has no tuples, sets or complex numbers; which tasks have them is a fact of EvalPlus's
`mbpp_deserialize_inputs` (Liu et al. 2023, https://github.com/evalplus/evalplus).
"""

from __future__ import annotations

from typing import Any

_TUPLES = {
    2, 116, 132, 143, 222, 261, 273, 394, 399, 421, 424, 429, 470, 560, 579, 596, 616, 630, 726,
    740, 744, 809,
}  # fmt: skip
_LISTS_OF_TUPLES = {
    63, 64, 70, 94, 120, 237, 272, 299, 400, 409, 417, 438, 473, 614, 780,
}  # fmt: skip
_FIRST_IS_TUPLES = {75, 413, 444, 753}
_SECOND_IS_TUPLE = {106, 750}
_FIRST_IS_TUPLE = {250, 307, 405, 446, 617, 720, 763, 808}
_TUPLES_OF_TUPLES = {259, 401, 445}
_ALL_TUPLES = {580, 615, 791}


def typed(number: int, args: list[Any]) -> list[Any]:
    """Arguments of an MBPP+ task with the types that the task has.

    Args:
        number: of the task; 0 for another data set, whose arguments stay as they are.
        args: of one call.

    Raises:
        TypeError, LookupError, AttributeError: they are not those of that task.
    """
    if number in _TUPLES:
        return [tuple(item) for item in args]
    if number in _LISTS_OF_TUPLES:
        return [[tuple(item) for item in arg] for arg in args]
    if number in _FIRST_IS_TUPLES:
        return [[tuple(item) for item in args[0]], *args[1:]]
    if number in _SECOND_IS_TUPLE:
        return [args[0], tuple(args[1]), *args[2:]]
    if number in _FIRST_IS_TUPLE:
        return [tuple(args[0]), *args[1:]]
    if number in _TUPLES_OF_TUPLES:
        return [tuple(tuple(item) for item in arg) for arg in args]
    if number in _ALL_TUPLES:
        return [_all_tuples(arg) for arg in args]
    if number == 278:
        first = (tuple(item) if isinstance(item, list) else item for item in args[0])
        return [tuple(first)]
    if number == 722:
        return [{key: tuple(value) for key, value in args[0].items()}, *args[1:]]
    if number == 115:
        return [[set(item) if isinstance(item, list) and item else {} for item in args[0]]]
    if number == 124:
        return [float(args[0]), complex(args[1])]
    if number == 252:
        return [complex(args[0])]
    return args


def _all_tuples(value: Any) -> Any:
    return tuple(map(_all_tuples, value)) if isinstance(value, list) else value
