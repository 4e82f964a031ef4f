"""Where the requests of a batch end: the rule that all engines share.

    fixed   after new_tokens
    eos     also with an end-of-text token
    code    also with the token that completes one of the request's stop texts

The token that ends a request was computed, so it counts. What a request's text says from the stop
text on is not part of the answer (`cut`).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence

from slm_energy.engines.base import Batch


class Ends:
    """The ends of a batch's requests; takes the tokens of one decoding step after another.

    Args:
        batch: the requests.
        eos_ids: end-of-text tokens.

    Attributes:
        lengths: tokens of each request, the one that ended it included; `new_tokens` until then.
    """

    def __init__(self, batch: Batch, eos_ids: Sequence[int]) -> None:
        self.lengths = [batch.new_tokens] * len(batch.prompts)
        self._steps = 0
        self._eos_ids = frozenset(eos_ids)
        self._fixed = batch.stop == "fixed"
        self._running: dict[int, _Tail | None] = dict.fromkeys(range(len(batch.prompts)))
        if batch.stop == "code":
            self._running = {
                row: _Tail(texts, batch.token_texts) for row, texts in enumerate(batch.stop_texts)
            }

    def after(self, column: Sequence[int]) -> bool:
        """Take the next token of each request (b,); return whether all requests have ended.

        Tokens of a request that has ended are ignored.
        """
        if self._fixed:
            return False
        self._steps += 1
        for row, tail in list(self._running.items()):
            token = column[row]
            if token in self._eos_ids or (tail is not None and tail.completed_by(token)):
                self.lengths[row] = self._steps
                del self._running[row]
        return not self._running

    @property
    def ended(self) -> list[bool]:
        """Whether each request has ended (b,)."""
        return [row not in self._running for row in range(len(self.lengths))]


class _Tail:
    """The last characters of one request's text: as many as a stop text can begin in."""

    def __init__(self, stop_texts: tuple[str, ...], token_texts: Mapping[int, str]) -> None:
        self._token_texts = token_texts
        self._search = pattern(stop_texts).search
        self._kept = max(map(len, stop_texts), default=2) - 1
        self._text = ""

    def completed_by(self, token: int) -> bool:
        """Append a token; return whether the text now contains a stop text."""
        text = self._text + self._token_texts[token]
        self._text = text[-self._kept :]
        return self._search(text) is not None


@functools.cache
def pattern(stop_texts: tuple[str, ...]) -> re.Pattern[str]:
    """Matches any of these texts; nothing, if there are none."""
    return re.compile("|".join(map(re.escape, stop_texts)) or r"(?!)")


def cut(text: str, stop_texts: tuple[str, ...]) -> str | None:
    """The part of a text before its first stop text; None if it contains none."""
    match = pattern(stop_texts).search(text)
    return None if match is None else text[: match.start()]
