from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

from slm_energy.planning.order import shuffled, williams, williams_rounds


def names(count: int) -> list[str]:
    return [f"c{n:02}" for n in range(count)]


@pytest.mark.parametrize("order", [shuffled, williams])
def test_every_round_holds_every_cell_once_whatever_the_order_of_the_arguments(order) -> None:
    for number in range(1, 30):
        block = order(names(7), 3, number)
        assert sorted(block) == names(7)
        assert order(names(7)[::-1], 3, number) == block


@pytest.mark.parametrize("order", [shuffled, williams])
def test_another_seed_gives_another_order(order) -> None:
    blocks = {tuple(order(names(9), seed, 1)) for seed in range(20)}
    assert len(blocks) > 15


@pytest.mark.parametrize("count", range(1, 26))
@pytest.mark.parametrize("design", [0, 3])
def test_a_williams_design_is_balanced_for_place_and_for_carry_over(
    count: int, design: int
) -> None:
    rounds = williams_rounds(count)
    first = design * rounds + 1
    blocks = [williams(names(count), 1, number) for number in range(first, first + rounds)]
    places = Counter((cell, place) for block in blocks for place, cell in enumerate(block))
    assert set(places.values()) == {rounds // count}
    assert len(places) == count * count
    follows = Counter(pair for block in blocks for pair in pairwise(block))
    assert len(follows) == count * (count - 1)
    assert len(set(follows.values())) <= 1
