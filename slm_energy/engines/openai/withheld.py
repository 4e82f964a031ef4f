"""Answers that end with `stop` at a server that sends no token ids.

Such a server withholds the stop text, so its stream shows neither the last tokens, nor how many
there were, nor whether an end-of-text token ended the answer. All of it is learnt before the
windows: the same prompt once more, without `stop` and only as long as needed, streams the same
tokens (decoding is greedy) and shows them all. Each later stream of the prompt must show the same
text.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from slm_energy.engines.base import Batch, Completion
from slm_energy.engines.ends import Ends, pattern
from slm_energy.engines.openai.stream import StreamedCompletion
from slm_energy.engines.openai.token_times import ServedTexts
from slm_energy.errors import EngineError


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Whole:
    """All tokens of an answer that a stop text or an end-of-text token ended.

    Attributes:
        ids: token ids, the one that ended it included.
        text: their text, as the server writes it.
        offsets: (len(ids),) length of the text after each of them.
        visible: length of the text that the server does not withhold.
    """

    ids: tuple[int, ...]
    text: str
    offsets: tuple[int, ...]
    visible: int


def longer(request: Batch, streamed: StreamedCompletion) -> Batch:
    """The request that shows what a stream withheld: without stop texts, and long enough."""
    known = streamed.usage.completion if streamed.usage else len(streamed.pieces)
    room = known + max(map(len, request.stop_texts[0]), default=0) + 1
    return dataclasses.replace(request, stop="eos", new_tokens=min(room, request.new_tokens))


def whole(ids: Sequence[int], request: Batch, eos_ids: Sequence[int], texts: ServedTexts) -> Whole:
    """Cut the answer to a `longer` request where the request itself ends.

    Raises:
        EngineError: it does not end there.
    """
    ends = Ends(request, eos_ids)
    if not any(ends.after([token]) for token in ids):
        raise EngineError(
            f"the server stopped within {len(ids)} tokens that contain neither an end-of-text token"
            " nor a stop text: set workload.stop=eos"
        )
    own = tuple(ids[: ends.lengths[0]])
    written = own[:-1] if own[-1] in eos_ids else own
    text = texts.written(written)
    found = pattern(texts.stop_texts(request.stop_texts[0])).search(text)
    return Whole(
        ids=own,
        text=text,
        offsets=tuple(len(texts.written(written[:n])) for n in range(1, len(own) + 1)),
        visible=len(text) if found is None else found.start(),
    )


def stamped(known: Whole, streamed: StreamedCompletion) -> Completion:
    """Stamp each token with the arrival of its text; withheld ones with the end of the stream.

    Raises:
        EngineError: the stream shows another text, or the server counted other tokens.
    """
    shown = "".join(piece.text for piece in streamed.pieces)
    if not known.text.startswith(shown) or len(shown) < known.visible:
        raise EngineError(
            "the server answered the same prompt with other text than before, so the tokens that"
            " it withholds are unknown: set workload.stop=eos, or use a server that sends token"
            " ids (vLLM)"
        )
    # Servers differ in whether they count an end-of-text token.
    counts = (len(known.ids), len(known.ids) - (known.visible == len(known.text)))
    if streamed.usage is not None and streamed.usage.completion not in counts:
        raise EngineError(
            f"the server counted {streamed.usage.completion} tokens in an answer of {counts[0]}"
        )
    stamps, reached, pieces = list[int](), 0, iter(streamed.pieces)
    arrived_ns = 0
    for offset in known.offsets:
        while reached < offset:
            piece = next(pieces, None)
            if piece is None:
                arrived_ns = streamed.ended_ns
                break
            reached, arrived_ns = reached + len(piece.text), piece.arrived_ns
        stamps.append(arrived_ns or streamed.ended_ns)
    if known.visible == len(known.text):
        stamps[-1] = streamed.ended_ns  # the end-of-text token has no text
    return Completion(output_ids=known.ids, token_ns=tuple(stamps))
