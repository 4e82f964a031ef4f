"""Compact letter display: cells that share a letter do not differ (Piepho 2004).

Every largest set of cells no two of which differ has a letter: a to z, A to Z, then aa, ab, and so
on without an end. The sets are the maximal cliques of the graph that joins cells that do not
differ; they are enumerated with the algorithm of Bron and Kerbosch (1973) with pivots.
"""

from __future__ import annotations

import itertools
import string
from collections.abc import Iterator, Sequence

from slm_energy.analysis.stats.effect_size import Flags


def letters(differ: Flags) -> list[str]:
    """The letters of each cell.

    They are given out in the order of the cells, the larger set first. Up to Z each has a column of
    its own, as `scikit_posthocs.compact_letter_display` writes them; with more than that, the
    letters of a cell are separated by spaces.

    Args:
        differ: k x k, symmetric: which pairs differ.

    Returns:
        One text per cell.
    """
    joined = [frozenset(i for i, apart in enumerate(row) if not apart) for row in differ]
    groups = sorted(_cliques(joined), key=lambda group: (min(group), -len(group), sorted(group)))
    names = list(itertools.islice(_names(), len(groups)))
    members = [[cell in group for group in groups] for cell in range(len(joined))]
    if len(groups) <= len(string.ascii_letters):
        columns = [zip(names, own, strict=True) for own in members]
        return ["".join(name if has else " " for name, has in row) for row in columns]
    return [" ".join(itertools.compress(names, own)) for own in members]


def _names() -> Iterator[str]:
    yield from string.ascii_letters
    for length in itertools.count(2):
        for name in itertools.product(string.ascii_lowercase, repeat=length):
            yield "".join(name)


def _cliques(joined: Sequence[frozenset[int]]) -> list[frozenset[int]]:
    """The maximal cliques of a graph.

    Args:
        joined: of each node, the nodes it is joined with; itself among them or not.
    """
    neighbours = [others - {node} for node, others in enumerate(joined)]
    found: list[frozenset[int]] = []
    nothing: frozenset[int] = frozenset()
    open_ends = [(nothing, frozenset(range(len(joined))), nothing)]
    while open_ends:
        clique, candidates, excluded = open_ends.pop()
        if not candidates:
            found += [] if excluded else [clique]
            continue
        pivot = max(candidates | excluded, key=lambda node: len(neighbours[node] & candidates))
        for node in candidates - neighbours[pivot]:
            near = neighbours[node]
            open_ends.append((clique | {node}, candidates & near, excluded & near))
            candidates, excluded = candidates - {node}, excluded | {node}
    return found
