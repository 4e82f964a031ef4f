"""When two results agree, as EvalPlus judges."""

from __future__ import annotations

import re
from typing import Any

import pytest

from slm_energy.scoring.inside.oracle import Oracle

NAN, INF = float("nan"), float("inf")


def agrees(result: Any, expected: Any, atol: float = 0.0) -> bool:
    return Oracle("f", False, atol).agrees(result, expected, [])


@pytest.mark.parametrize(
    ("result", "expected", "agree"),
    [
        (1, 1, True),
        (1, True, True),
        (1.0000001, 1, False),
        (1 + 1e-9, 1.0, True),
        (1, 1.0, True),
        ([1 + 1e-9], [1.0], True),
        ((1 + 1e-9,), [1.0], False),
        ([1 + 1e-9, 2], [1.0], False),
        ([[1 + 1e-9]], [[1.0]], False),
        (["a", 1 + 1e-9], ["a", 1.0], False),
        ((1, 2), [1, 2], False),
        ({1, 2}, {2, 1}, True),
        (NAN, NAN, False),
        (INF, INF, True),
        (1.0, INF, False),
        (INF, 1.0, False),
        ("1.0", 1.0, False),
        (None, None, True),
    ],
)
def test_without_a_tolerance_only_floats_and_sequences_of_them_may_differ_a_little(
    result: Any, expected: Any, agree: bool
) -> None:
    assert agrees(result, expected) == agree


@pytest.mark.parametrize(
    ("result", "expected", "agree"),
    [
        ([[1.0005]], [[1.0]], True),
        ([[1.0]], [1.0], False),
        ([1.0005, 2], [1, 2.0], True),
        ("a", "b", False),
        ({"a": 1.0}, {"a": 1.0001}, False),
        (1.0001 + 1j, 1 + 1j, True),
    ],
)
def test_with_a_tolerance_all_numbers_of_one_shape_may(
    result: Any, expected: Any, agree: bool
) -> None:
    assert agrees(result, expected, atol=1e-3) == agree


def test_the_tolerance_of_floats_stays_for_the_inputs_that_follow() -> None:
    oracle = Oracle("f", False, 0.0)
    assert not oracle.agrees([[1 + 1e-9]], [[1.0]], [])
    assert oracle.agrees(1.0, 1.0, [])
    assert oracle.agrees([[1 + 1e-9]], [[1.0]], [])


@pytest.mark.parametrize(
    ("name", "result", "expected", "inputs", "agree"),
    [
        ("similar_elements", [2, 1], (1, 2), [], True),
        ("check_str", True, re.match("a", "a"), [], True),
        ("check_str", "a", re.match("a", "a"), [], True),
        ("check_str", None, re.match("a", "a"), [], False),
        ("check_str", False, None, [], True),
        ("check_str", "a", None, [], False),
        ("are_equivalent", 3, 4, [], True),
        ("sum_div", 0, 4, [], True),
        ("sum_div", 1, 4, [], False),
        ("surface_Area", 33, 34, [3, 4], False),
        ("surface_Area", 35, 33, [3, 4], True),
        ("digit_distance_nums", 11, 0, [1, 1001], False),
        ("digit_distance_nums", 1, 9, [1, 1001], True),
    ],
)
def test_tasks_of_mbpp_plus_with_a_rule_of_their_own(
    name: str, result: Any, expected: Any, inputs: list[Any], agree: bool
) -> None:
    assert Oracle(name, True, 0.0).agrees(result, expected, inputs) == agree


@pytest.mark.parametrize(("root", "agree"), [(-0.5, True), (0.5, False), (NAN, False)])
def test_any_root_of_the_polynomial_will_do(root: float, agree: bool) -> None:
    assert Oracle("find_zero", False, 1e-4).agrees(root, 7.0, [[1, 2]]) == agree
