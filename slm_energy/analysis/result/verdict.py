"""The verdicts about one cell against another."""

from __future__ import annotations

from typing import Literal

Verdict = Literal[
    "saves", "gains", "worse", "equivalent", "inconclusive", "below the instrument's resolution"
]
COARSE: Verdict = "below the instrument's resolution"
SEPARATES: tuple[Verdict, ...] = ("saves", "gains", "worse")
"""The verdicts that state a difference beyond the margin."""


def mirrored(verdict: Verdict, higher_is_better: bool) -> Verdict:
    """The verdict about `b` from the one about `a`."""
    if verdict == "worse":
        return "gains" if higher_is_better else "saves"
    return "worse" if verdict in ("saves", "gains") else verdict
