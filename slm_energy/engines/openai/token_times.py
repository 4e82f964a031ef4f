"""Token ids with time stamps, from a stream.

Some servers send the ids. Others send text only, mostly one token per event: the text of one token
is looked up in the vocabulary. Ambiguity is an error, never a guess.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from slm_energy.engines.base import Batch, Completion
from slm_energy.engines.ends import Ends
from slm_energy.engines.openai.stream import Piece, StreamedCompletion
from slm_energy.errors import EngineError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_BROKEN = "\ufffd"
"""Replaces bytes that do not form a complete character."""


class ServedTexts:
    """The text of each token inside a longer text, as the server writes it.

    Args:
        tokenizer: the model's.
        served: the tokenizer that the server decodes with; None means the model's.
    """

    def __init__(self, tokenizer: Tokenizer, served: Tokenizer | None = None) -> None:
        self._tokenizer, self._served = tokenizer, served
        self._writer = served or tokenizer
        # After another token, because a first token may lose its leading space.
        self._anchor = tokenizer.encode("a", add_special_tokens=False).ids[0]
        self._skipped = len(self._writer.decode([self._anchor], skip_special_tokens=False))
        self._ids: dict[str, int | None] = {}

    def build_index(self) -> None:
        """Index all tokens by their text; a text shared by several tokens belongs to none."""
        rows = [[self._anchor, number] for number in range(self._tokenizer.get_vocab_size())]
        texts = self._writer.decode_batch(rows, skip_special_tokens=False)
        for number, text in enumerate(text[self._skipped :] for text in texts):
            self._ids[text] = None if text in self._ids else number

    def written(self, ids: Sequence[int]) -> str:
        """Return the text of these ids, special tokens included."""
        text: str = self._writer.decode([self._anchor, *ids], skip_special_tokens=False)
        return text[self._skipped :]

    def stop_texts(self, texts: Sequence[str]) -> tuple[str, ...]:
        """Return ASCII texts as the server writes them, character by character."""
        if self._served is None:
            return tuple(texts)
        written = {
            character: self.written(self._encoded(character))
            for character in sorted(set("".join(texts)))
        }
        return tuple("".join(written[character] for character in text) for text in texts)

    def encode(self, text: str) -> tuple[int, ...]:
        """Encode a text as a prompt."""
        return tuple(self._tokenizer.encode(text).ids)

    def prompt(self, ids: Sequence[int]) -> str:
        """Return the text that the tokenizer encodes as these ids.

        Raises:
            EngineError: there is no such text.
        """
        # A chat holds its special tokens, and the first is added again when it is encoded.
        for part, skip in ((ids, True), (ids, False), (ids[1:], False)):
            text: str = self._tokenizer.decode(list(part), skip_special_tokens=skip)
            if self.encode(text) == tuple(ids):
                return text
        raise EngineError(
            "a prompt is not what its tokens say, and the server takes no token ids:"
            " use a server that does (vLLM), or another workload",
            permanent=True,
        )

    def ids(self, pieces: Sequence[Piece], totals: Sequence[int]) -> list[tuple[int, ...]] | None:
        """Look up the ids of each piece of text.

        Args:
            pieces: in order of arrival.
            totals: possible total numbers of ids; empty if unknown.

        Returns:
            None if they cannot be determined.
        """
        single = [self._ids.get(piece.text) for piece in pieces]
        looked_up: list[tuple[int, ...]] = [
            () if number is None else (number,) for number in single
        ]
        if all(looked_up) and (not totals or len(looked_up) in totals):
            return looked_up
        if self._served is not None or any(_BROKEN in piece.text for piece in pieces):
            return None
        # A non-ASCII character may consist of several tokens that arrive as one piece.
        encoded = [
            ids if ids and piece.text.isascii() else self._encoded(piece.text)
            for ids, piece in zip(looked_up, pieces, strict=True)
        ]
        return encoded if sum(map(len, encoded)) in totals else None

    def _encoded(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer.encode(text, add_special_tokens=False).ids)


def to_completion(
    completion: StreamedCompletion, batch: Batch, eos_ids: Sequence[int], texts: ServedTexts
) -> Completion:
    """Return the ids of a stream, each stamped with the arrival of its piece.

    Args:
        completion: the stream of one of the batch's requests.
        batch: the request.
        eos_ids: tokens that end a text.
        texts: to look up ids that the server does not send.

    Raises:
        EngineError: the ids cannot be determined, or their number is not the requested one.
    """
    stopped = completion.finish == "stop"
    if completion.finish not in ("length", "stop"):
        raise EngineError(f"the server ended a text with finish_reason={completion.finish!r}")
    rows = _rows(completion, batch.new_tokens, texts)
    ids = [number for row in rows for number in row]
    stamps = [
        piece.arrived_ns for piece, row in zip(completion.pieces, rows, strict=True) for _ in row
    ]
    has_ids = all(piece.ids is not None for piece in completion.pieces)
    if stopped and not (ids and ids[-1] in eos_ids) and not (batch.stop == "code" and has_ids):
        # The token that ended the text was computed too, but is in none of the pieces.
        if len(eos_ids) != 1:
            raise EngineError("the server does not report at which end-of-text token it stopped")
        ids.append(eos_ids[0])
        stamps.append(completion.ended_ns)
    if stopped and batch.stop == "fixed":
        raise EngineError(
            f"the server stopped at an end-of-text token after {len(ids)} of {batch.new_tokens}"
            " tokens, and does not support ignore_eos: set workload.stop=eos, or use another engine"
        )
    if batch.stop != "fixed":
        _require_end(ids, rows, stopped, batch, eos_ids)
    if not stopped and len(ids) != batch.new_tokens:
        raise EngineError(f"the server returned {len(ids)} tokens instead of {batch.new_tokens}")
    return Completion(output_ids=tuple(ids), token_ns=tuple(stamps))


def partial_completion(completion: StreamedCompletion, texts: ServedTexts) -> Completion:
    """The tokens of a stream that the client ended: of pieces without ids, those of their texts."""
    ids, stamps = list[int](), list[int]()
    for piece in completion.pieces:
        own = piece.ids
        if own is None:
            looked_up = texts.ids([piece], ())
            own = texts.encode(piece.text) if looked_up is None else looked_up[0]
        ids += own
        stamps += [piece.arrived_ns] * len(own)
    return Completion(output_ids=tuple(ids), token_ns=tuple(stamps))


def _require_end(
    ids: Sequence[int],
    rows: Sequence[Sequence[int]],
    stopped: bool,
    batch: Batch,
    eos_ids: Sequence[int],
) -> None:
    """Refuse an answer that does not end where it should: with one of the last event's tokens."""
    ends = Ends(batch, eos_ids)
    ended = any(ends.after([number]) for number in ids)
    last_event = len(ids) - max(1, len(rows[-1]) if rows else 0)
    if ended and ends.lengths[0] <= last_event:
        where = "the model's end-of-text token"
        if ids[ends.lengths[0] - 1] not in eos_ids:
            where = "the stop texts of workload.stop=code"
        raise EngineError(
            f"the server does not stop at {where}: set workload.stop=fixed, or take another engine"
        )
    if stopped and not ended:
        raise EngineError(
            f"the server stopped after {len(ids)} tokens, at neither an end-of-text token nor a"
            " stop text of workload.stop=code: set workload.stop=fixed, or take another engine"
        )


def _rows(
    completion: StreamedCompletion, new_tokens: int, texts: ServedTexts
) -> list[tuple[int, ...]]:
    """Return the ids of each piece, verified against the server's count."""
    stopped, usage = completion.finish == "stop", completion.usage
    reported = [piece.ids for piece in completion.pieces if piece.ids is not None]
    if len(reported) == len(completion.pieces):
        count = sum(map(len, reported))
        if usage is not None and usage.completion != count:
            raise EngineError(
                f"the server sent {count} token ids but counted {usage.completion} tokens"
            )
        return reported
    totals: Sequence[int] = ()
    if usage is not None:
        # Servers differ in whether they count the token that ended the text.
        totals = (usage.completion, usage.completion - 1) if stopped else (usage.completion,)
    elif not stopped:
        totals = (new_tokens,)  # by the definition of `length`
    rows = texts.ids(completion.pieces, totals)
    if rows is None:
        text = "".join(piece.text for piece in completion.pieces)
        raise EngineError(
            f"the server sends no token ids, and its text does not consist of {new_tokens} whole"
            f" tokens (it ends in {text[-20:]!r}): use a server that sends them (vLLM),"
            " or another model"
        )
    return rows
