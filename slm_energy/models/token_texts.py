"""The text of single tokens, and of an answer, as they read inside a longer text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class TokenTexts(dict[int, str]):
    """Token id to its text; a token is decoded when it is first looked up.

    Special tokens have no text. A token that is part of a character reads as U+FFFD; other tokens
    and ASCII text do not depend on it.

    Args:
        tokenizer: the model's.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        self._tokenizer = tokenizer
        # Decoded after another token, because a first token may lose its leading space.
        self._anchor = tokenizer.encode("a", add_special_tokens=False).ids[0]
        self._skipped = len(tokenizer.decode([self._anchor]))

    def __missing__(self, token: int) -> str:
        self[token] = self.text((token,))
        return self[token]

    def text(self, ids: Sequence[int]) -> str:
        """Decode the ids that follow a prompt, keeping the first token's leading space."""
        decoded: str = self._tokenizer.decode([self._anchor, *ids])
        return decoded[self._skipped :]
