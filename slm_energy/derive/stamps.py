"""Whether the stamps of a server's tokens show when they came. Pure.

A server decodes all tokens of its batch in one step, so those of one answer are a step apart. A
reader that is late finds several at once; so does one whose server sends several at once. The
stamps then are those of reading or sending, and say nothing of a step.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterable

from slm_energy.record import Capture, Generation

_SHORT = 0.10
"""Of a step: a gap below it is between tokens that were read together."""
_FEW = 0.05
"""Of the gaps: single ones are delays between the server and here, which make up for each other."""


def reliable(capture: Capture) -> tuple[bool | None, str]:
    """Whether gaps between tokens are steps; None where no stream was read, or nothing came."""
    if "tokens_per_event" not in capture.effective:
        return None, "tokens did not come in a stream"
    step_s = _step_s(capture.generations)
    gaps_s = [
        (later - earlier) / 1e9
        for each in capture.generations
        for earlier, later in itertools.pairwise(each.token_ns)
    ]
    if step_s is None:
        return None, "no answer has two tokens"
    short = sum(gap < _SHORT * step_s for gap in gaps_s) / len(gaps_s)
    words = (
        f"{100 * short:.3g} % of the gaps between tokens are below {100 * _SHORT:.0f} % of the"
        f" median step ({1e3 * step_s:.3g} ms)"
    )
    if short > _FEW:
        return False, f"{words}: stamps of tokens are unreliable"
    return True, words


def _step_s(generations: Iterable[Generation]) -> float | None:
    """Median time of an answer per token after its first, the server's own where it tells."""
    steps = [
        (each.token_ns[-1] - each.token_ns[0] if each.decode_ns is None else each.decode_ns)
        / 1e9
        / (len(each.token_ns) - 1)
        for each in generations
        if len(each.token_ns) > 1
    ]
    return statistics.median(steps) if steps else None
