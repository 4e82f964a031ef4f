"""The order of the cells within a round. Pure functions; the same seed gives the same order."""

from __future__ import annotations

import random
from collections.abc import Sequence


def shuffled(cells: Sequence[str], seed: int, number: int) -> list[str]:
    """The cells of round `number` (from 1) in an order drawn separately for each round."""
    block = sorted(cells)
    random.Random(f"{seed}:{number}").shuffle(block)
    return block


def williams(cells: Sequence[str], seed: int, number: int) -> list[str]:
    """The cells of round `number` (from 1) in an order balanced for carry-over.

    A Williams design: over `williams_rounds` rounds every cell is equally often at every position,
    and follows every other cell equally often, so that carry-over from the previous trial (heat,
    page cache) affects all cells alike. The assignment of cells to positions and the order of the
    rounds within each design are drawn with the seed.

    Source: E. J. Williams, Experimental designs balanced for the estimation of residual effects of
    treatments, Australian Journal of Scientific Research A 2 (1949), 149-168.
    """
    count, rounds = len(cells), williams_rounds(len(cells))
    design, row = divmod(number - 1, rounds)
    generator = random.Random(f"{seed}:williams:{design}")
    assigned, rows = sorted(cells), list(range(rounds))
    generator.shuffle(assigned)
    generator.shuffle(rows)
    mirrored, shift = divmod(rows[row], count)
    positions = [(position + shift) % count for position in _zigzag(count)]
    return [assigned[position] for position in (positions[::-1] if mirrored else positions)]


def williams_rounds(count: int) -> int:
    """Rounds of a complete design for `count` cells: an odd count needs each sequence mirrored."""
    return count if count % 2 == 0 or count == 1 else 2 * count


def _zigzag(count: int) -> list[int]:
    """0, 1, -1, 2, -2, ...: successive differences are all different (modulo an even count)."""
    return [(n + 1) // 2 * (1 if n % 2 else -1) % count for n in range(count)]
