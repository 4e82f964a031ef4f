"""What the log of a started server says: why it ended, and how many threads it computes with."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from slm_energy.errors import one_line

_PREFIX = re.compile(r"^(\(\w[^)]* pid=\d+\) )?([A-Z]+ [\d-]+ [\d:.,]+ \[[^\]]*\] )?")
"""What vLLM writes before a line: which process, and a level with time and place."""
_EXCEPTION = re.compile(
    r"(\w+\.)*\w*(Error|Exception|Exit|Interrupt)\b(: .*)?$"
    r"|  (Value|Assertion) error, "  # pydantic's, below the line of its exception
)
_ELSEWHERE = re.compile(r"root cause|stack trace|validation errors? for", re.IGNORECASE)
"""An exception that only tells where another one is."""
_BOUND = re.compile(r"local_rank=\d+, core ids=\[([\d, ]*)\]")
"""vLLM on a processor: those that the threads of one of its workers are bound to."""


def last_words(lines: Sequence[str]) -> str:
    """The last exception that tells its own cause, else the last line."""
    written = [text for line in lines if (text := _PREFIX.sub("", line).rstrip())]
    if not written:
        return "it wrote nothing"
    for line in reversed(written):
        if _EXCEPTION.match(line) and not _ELSEWHERE.search(line):
            return f"its error: {one_line(line)}"
    return f"it last wrote: {one_line(written[-1])}"


def threads(lines: Iterable[str]) -> int | None:
    """How many threads compute, as vLLM tells on a processor; None if the log does not tell."""
    bound = [match[1] for line in lines if (match := _BOUND.search(line))]
    return sum(len(each.split(",")) for each in bound) if bound else None
