"""How fast this machine's processors read memory and multiply: a look of about 0.2 s."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

_ROWS, _COLUMNS = 4096, 4096  # 64 MiB: more than the caches of most processors
_SIDE = 1024
_LOOKS = 3


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Speed:
    """What a machine's processors do, all together.

    Attributes:
        bytes_per_s: of a matrix that is multiplied by a vector, as in decoding one token.
        flop_per_s: in a product of matrices, as in reading a prompt.
    """

    bytes_per_s: float
    flop_per_s: float


def measure() -> Speed:
    """The best of a few looks, in float32, with all threads that numpy uses."""
    import numpy as np

    matrix, vector = np.ones((_ROWS, _COLUMNS), np.float32), np.ones(_COLUMNS, np.float32)
    square = np.ones((_SIDE, _SIDE), np.float32)
    return Speed(
        bytes_per_s=matrix.nbytes / _fastest_s(lambda: matrix @ vector),
        flop_per_s=2 * _SIDE**3 / _fastest_s(lambda: square @ square),
    )


def _fastest_s(work: Callable[[], object]) -> float:
    seconds = list[float]()
    for _ in range(_LOOKS):
        begun = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begun)
    return min(seconds)
