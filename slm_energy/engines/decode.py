"""What all engines share: when a request ends, when a token is stamped, what a broken logit is.

Decoding is greedy. A token is stamped when the caller has its id in Python: on an accelerator the
copy to the host waits for the device, so the stamp comes after the work.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from slm_energy.engines.base import Batch, Completion, TokenIds, left_padded
from slm_energy.errors import EngineError

TOLERANCE = {"float32": 1e-3, "float16": 0.02, "bfloat16": 0.1, "int8": 0.3}
"""Largest difference between two computations of the same logits, as a share of the largest logit:
well above what rounding does to deep models in that type, well below what a wrong graph does."""

PROBED_TOKEN = 2
"""The token that is given after a probe's prompts, so that a tie cannot part two runs."""


class Decoding(Protocol):
    """One batch on its way through a session whose logits (b, vocabulary) are numpy arrays."""

    def prefill(self) -> npt.NDArray[Any]:
        """Run the prompts; return the logits of each first output token."""

    def step(self, ids: TokenIds) -> npt.NDArray[Any]:
        """Append one token id per request (b,); return the logits of the next."""


def greedy(decoding: Decoding, batch: Batch, eos_ids: Sequence[int]) -> list[Completion]:
    """Decode greedily through a session; logits need be valid until its next step only.

    Raises:
        EngineError: NaN logits.
    """
    peaks: list[list[float]] = []

    def steps() -> Iterator[list[int]]:
        logits = decoding.prefill()
        while True:
            ids: TokenIds = logits.argmax(axis=-1)
            column: list[int] = ids.tolist()
            # One by one: indexing with arrays costs more than some ten of these.
            peaks.append([logits.item(row, token) for row, token in enumerate(column)])
            yield column
            logits = decoding.step(ids)

    result = collect(steps(), batch, eos_ids)
    require_numbers(peaks)
    return result


def collect(steps: Iterator[list[int]], batch: Batch, eos_ids: Sequence[int]) -> list[Completion]:
    """Drive a session loop until every request of the batch has ended.

    Args:
        steps: yields the next token id of each request; it is not asked for more than is needed.
        batch: what was asked.
        eos_ids: tokens that end a text.
    """
    running = set(range(len(batch.prompts)))
    columns: list[list[int]] = []
    stamps: list[int] = []
    for column in islice(steps, batch.new_tokens):
        stamps.append(time.monotonic_ns())
        columns.append(column)
        if batch.stop == "eos":
            running -= {row for row in running if column[row] in eos_ids}
            if not running:
                break
    return answers(columns, stamps, batch, eos_ids)


def answers(
    columns: Sequence[Sequence[int]], stamps: Sequence[int], batch: Batch, eos_ids: Sequence[int]
) -> list[Completion]:
    """Turn steps into one answer per request, each cut after its first end-of-text token.

    Args:
        columns: (steps, b) token ids.
        stamps: (steps,) monotonic ns.
        batch: b prompts; with `stop=fixed` nothing is cut.
        eos_ids: tokens that end a text.
    """
    result = []
    for ids in zip(*columns, strict=True):
        ends = (n for n, token in enumerate(ids, 1) if batch.stop == "eos" and token in eos_ids)
        length = next(ends, len(ids))
        result.append(Completion(output_ids=ids[:length], token_ns=tuple(stamps[:length])))
    return result


def require_numbers(peaks: Sequence[Sequence[float]]) -> None:
    """Refuse an output that was made from NaN logits: the largest of a row is NaN if any of it is.

    Args:
        peaks: (steps, b) largest logit of each request at each step.

    Raises:
        EngineError: with the first place, tokens and requests of the batch counted from 0.
    """
    for token, row in enumerate(peaks):
        for request, value in enumerate(row):
            if math.isnan(value):
                raise EngineError(
                    f"NaN logits at token {token} of request {request}:"
                    " try engine.dtype=float32, or another model.source"
                )


class _Watch:
    """Streamer and logits processor of `generate`: stamps tokens, keeps largest logits."""

    def __init__(self) -> None:
        self.columns: list[list[int]] = []
        self.stamps: list[int] = []
        self.peaks: list[Any] = []
        self._prompt_seen = False

    def put(self, value: Any) -> None:
        """First come the prompts (b, longest), then the ids (b,) of each step, on the host."""
        if self._prompt_seen:
            self.columns.append(value.tolist())
            self.stamps.append(time.monotonic_ns())
        self._prompt_seen = True

    def end(self) -> None:
        """The streamer protocol asks for it; there is nothing to flush."""

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """Return the scores (b, vocabulary) as they are."""
        self.peaks.append(scores.max(dim=-1).values)
        return scores


def skip_extras() -> None:
    """Keep transformers 4 from importing what it does not need here.

    scikit-learn (2 s) is for assisted decoding, torchao (1 s and warnings) for checkpoints that are
    stored quantized. To be called before the first model class is imported.
    """
    from transformers.utils import import_utils

    import_utils._sklearn_available = False
    import_utils._torchao_available = False


def prepare_generate(model: Any) -> None:
    """Drop the model's own sampling defaults (temperature, repetition penalty, length limits)."""
    import transformers

    new_config: Any = transformers.GenerationConfig
    model.generation_config = new_config()


def generate(model: Any, batch: Batch, eos_ids: Sequence[int], device: Any) -> list[Completion]:
    """Decode through the `generate` of transformers, as most users do.

    With `stop=fixed` it is told of no end-of-text token at all: `min_new_tokens` would forbid the
    token instead of passing it, and so change the text.

    Args:
        model: has transformers' `GenerationMixin` and went through `prepare_generate`.
        batch: what is asked.
        eos_ids: tokens that end a text.
        device: torch device of the inputs.

    Raises:
        EngineError: NaN logits.
    """
    import torch
    import transformers

    new_config: Any = transformers.GenerationConfig
    ids, mask = left_padded(batch.prompts)
    watch = _Watch()
    model.generate(
        torch.from_numpy(ids).to(device),
        attention_mask=torch.from_numpy(mask).to(device),
        generation_config=new_config(
            do_sample=False,
            use_cache=True,
            max_new_tokens=batch.new_tokens,
            eos_token_id=list(eos_ids) if batch.stop == "eos" and eos_ids else None,
            pad_token_id=eos_ids[0] if eos_ids else 0,
        ),
        logits_processor=[watch],
        streamer=watch,
    )
    require_numbers(torch.stack(watch.peaks).tolist())
    return answers(watch.columns, watch.stamps, batch, eos_ids)


def probe(vocabulary: int) -> Batch:
    """Three prompts of unequal length, spread over the vocabulary, to compare computations with.

    Three, because exporters trace with a batch of two: a batch size that is baked in shows.
    """
    longer = tuple(1 + (vocabulary - 2) * n // 8 for n in range(8))
    return Batch(prompts=(longer, longer[1:6], longer[:3]), new_tokens=2, stop="fixed")


def probed(decoding: Decoding, batch: Batch) -> list[npt.NDArray[Any]]:
    """Logits of a probe's prompts and of `PROBED_TOKEN` after them."""
    first = decoding.prefill().copy()
    return [first, decoding.step(np.full(len(batch.prompts), PROBED_TOKEN)).copy()]


def difference(ours: Any, reference: Any) -> float:
    """Largest absolute difference of two arrays of logits, as a share of the largest logit.

    Raises:
        EngineError: there are NaN logits among them.
    """
    share = float(abs(ours - reference).max() / abs(reference).max())
    if math.isnan(share):
        raise EngineError(
            "NaN logits in a probe of the model: try engine.dtype=float32, or another model.source"
        )
    return share


def deviation(ours: Sequence[Any], reference: Sequence[Any]) -> float:
    """The largest `difference` of any pass of a probe; both have one array per pass."""
    return max(difference(a, b) for a, b in zip(ours, reference, strict=True))


def require_close(
    ours: Sequence[Any],
    reference: Sequence[Any],
    dtype: str,
    what: str,
    tolerances: Mapping[str, float] = TOLERANCE,
) -> float:
    """Compare the logits of a probe with what they should be.

    Args:
        ours: one array per pass.
        reference: torch's, alike.
        dtype: what we compute in; names the tolerance.
        what: is compared, for the message.
        tolerances: share of the largest logit, by dtype.

    Returns:
        The largest `difference` of any pass.

    Raises:
        EngineError: it is larger than the tolerance, or there are NaN logits.
    """
    found = deviation(ours, reference)
    if found > tolerances[dtype]:
        raise EngineError(
            f"{what} differs from torch by {found:.1e} of the largest logit:"
            " use another engine for this model"
        )
    return found
