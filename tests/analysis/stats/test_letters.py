"""Compact letters: who shares one, and that there are always enough."""

import itertools

import numpy as np
import pytest
import scikit_posthocs

from slm_energy.analysis.stats.comparison import Block, Rule
from slm_energy.analysis.stats.conventional import chain
from slm_energy.analysis.stats.letters import letters
from slm_energy.analysis.stats.paired import compare


def neighbours(cells, reach):
    """Cells that differ unless they are at most `reach` apart."""
    place = np.arange(cells)
    return np.abs(place[:, None] - place) > reach


def test_cells_share_a_letter_exactly_where_they_do_not_differ():
    generator = np.random.default_rng(0)
    for _ in range(40):
        cells = int(generator.integers(2, 12))
        upper = np.triu(generator.random((cells, cells)) < 0.5, 1)
        differ = upper | upper.T
        shown = letters(differ)
        for a, b in itertools.combinations(range(cells), 2):
            shared = set(shown[a]) & set(shown[b]) - {" "}
            assert bool(shared) == (not differ[a, b])


def test_they_are_those_of_scikit_posthocs():
    differ = neighbours(9, 2)
    display = scikit_posthocs.compact_letter_display(np.where(differ, 0.01, 0.5), alpha=0.05)
    assert letters(differ) == list(display)
    assert letters(np.zeros((3, 3), dtype=bool)) == ["a", "a", "a"]


@pytest.mark.parametrize(("cells", "last"), [(26, "z"), (52, "Z"), (53, "aa"), (78, "az")])
def test_after_the_last_letter_come_two(cells, last):
    assert letters(neighbours(cells, 0))[-1].strip() == last


def test_letters_of_several_characters_can_be_told_apart():
    shown = letters(neighbours(84, 1))  # 83 groups of two
    assert shown[0] == "a"
    assert shown[51:54] == ["Y Z", "Z aa", "aa ab"]
    assert shown[-1] == "be"
    for first, second in itertools.pairwise(shown):
        assert len(set(first.split()) & set(second.split())) == 1


def test_a_family_of_84_cells_that_all_differ_has_its_tests():
    """52 single letters are not enough for it."""
    generator = np.random.default_rng(1)
    levels = np.linspace(0, 8.3, 84)
    values = np.exp(levels + generator.normal(0, 1e-4, (60, 84)))
    block = Block(cells=tuple(f"c{i:02}" for i in range(84)), values=values)
    pairs = compare(block.of(block.cells[:2]), Rule(draws=999)).pairs
    found, left_out = chain(block, pairs, 0.05, "")
    assert left_out == []
    groups = {name for cell in found.cells for name in cell.letters.split()}
    assert len(groups) > 52
    assert all(cell.letters for cell in found.cells)
