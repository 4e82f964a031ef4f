"""Decoding shared by all engines: loops, token timestamps, checks of the logits.

Decoding is greedy. A token is timestamped when the caller has its id in Python: on an accelerator
the copy to the host waits for the device, so the timestamp follows the work.
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
from slm_energy.engines.ends import Ends
from slm_energy.errors import EngineError

TOLERANCE = {"float32": 1e-3, "float16": 0.02, "bfloat16": 0.1, "int8": 0.3, "int4": 0.9}
"""Accepted difference between two computations of the same logits, as a share of the largest logit:
well above the rounding error of deep models in that type, well below the effect of a wrong graph,
which is above 1: logits that have nothing to do with each other differ by the largest of both.
"""

PROBE_TOKEN = 2
"""Token fed after a probe's prompts: fixed, so that a tie cannot make two runs diverge."""


class Decoding(Protocol):
    """Decoding of one batch by a session whose logits (b, vocabulary) are numpy arrays."""

    def prefill(self) -> npt.NDArray[Any]:
        """Run the prompts; return the logits of each first output token."""

    def step(self, ids: TokenIds) -> npt.NDArray[Any]:
        """Append one token id per request (b,); return the logits of the next."""


def greedy(decoding: Decoding, batch: Batch, eos_ids: Sequence[int]) -> list[Completion]:
    """Decode greedily through a session; its logits need to stay valid only until its next step.

    Raises:
        EngineError: NaN logits.
    """
    peaks: list[list[float]] = []

    def steps() -> Iterator[list[int]]:
        logits = decoding.prefill()
        while True:
            ids: TokenIds = logits.argmax(axis=-1)
            column: list[int] = ids.tolist()
            # One at a time: indexing with arrays costs more than about ten of these.
            peaks.append([logits.item(row, token) for row, token in enumerate(column)])
            yield column
            logits = decoding.step(ids)

    result = collect(steps(), batch, eos_ids)
    require_numbers(peaks)
    return result


def collect(steps: Iterator[list[int]], batch: Batch, eos_ids: Sequence[int]) -> list[Completion]:
    """Run a decoding loop until every request of the batch has ended.

    Args:
        steps: yields the next token id of each request; never advanced further than needed.
        batch: the requests.
        eos_ids: end-of-text tokens.
    """
    ends = Ends(batch, eos_ids)
    columns: list[list[int]] = []
    times_ns: list[int] = []
    for column in islice(steps, batch.new_tokens):
        times_ns.append(time.monotonic_ns())
        columns.append(column)
        if ends.after(column):
            break
    return completions(columns, times_ns, ends.lengths)


def completions(
    columns: Sequence[Sequence[int]], times_ns: Sequence[int], lengths: Sequence[int]
) -> list[Completion]:
    """Turn decoding steps into one completion per request.

    Args:
        columns: (steps, b) token ids.
        times_ns: (steps,) monotonic ns.
        lengths: (b,) tokens of each request; what follows them is dropped.
    """
    return [
        Completion(output_ids=ids[:length], token_ns=tuple(times_ns[:length]))
        for ids, length in zip(zip(*columns, strict=True), lengths, strict=True)
    ]


def require_numbers(peaks: Sequence[Sequence[float]]) -> None:
    """Reject NaN logits: the largest logit of a row is NaN if any of them is.

    Args:
        peaks: (steps, b) largest logit of each request at each step.

    Raises:
        EngineError: names the first NaN; tokens and requests of the batch are counted from 0.
    """
    for token, row in enumerate(peaks):
        for request, value in enumerate(row):
            if math.isnan(value):
                raise EngineError(
                    f"NaN logits at token {token} of request {request}:"
                    " try engine.dtype=float32, or another model.source"
                )


class _Recorder:
    """Streamer and logits processor for `generate`: records tokens, times and largest logits."""

    def __init__(self, ends: Ends) -> None:
        self._ends = ends
        self.columns: list[list[int]] = []
        self.times_ns: list[int] = []
        self.peaks: list[Any] = []
        self._prompt_received = False

    def put(self, value: Any) -> None:
        """Receive the prompts (b, longest) first, then the ids (b,) of each step, on the host."""
        if self._prompt_received:
            self.columns.append(value.tolist())
            self.times_ns.append(time.monotonic_ns())
            self._ends.after(self.columns[-1])
        self._prompt_received = True

    def end(self) -> None:
        """Do nothing: required by the streamer protocol."""

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """Record the largest scores; return the scores (b, vocabulary) unchanged."""
        self.peaks.append(scores.max(dim=-1).values)
        return scores


class _EndOfCode:
    """Stopping criterion for `generate`, which calls it after the streamer."""

    def __init__(self, ends: Ends) -> None:
        self._ends = ends
        self._known: list[bool] = []
        self._tensor: Any = None

    def __call__(self, input_ids: Any, scores: Any, **_: object) -> Any:
        """Return which requests have ended, (b,) on the device of the inputs."""
        ended = self._ends.ended
        if ended != self._known:  # a new tensor costs more than all else here
            self._known = ended
            self._tensor = input_ids.new_tensor(ended, dtype=bool)
        return self._tensor


def skip_extras() -> None:
    """Keep transformers 4 from importing packages that it does not need here.

    scikit-learn (2 s) is for assisted decoding, SciPy (0.4 s) for object detection, torchao (1 s
    and warnings) for checkpoints that are stored quantized. Call it before importing the first
    model class.
    """
    from transformers.utils import import_utils

    import_utils._sklearn_available = False
    import_utils._scipy_available = False
    import_utils._torchao_available = False


def prepare_generate(model: Any) -> None:
    """Drop the model's own sampling defaults (temperature, repetition penalty, length limits)."""
    import transformers

    new_config: Any = transformers.GenerationConfig
    model.generation_config = new_config()


def generate(model: Any, batch: Batch, eos_ids: Sequence[int], device: Any) -> list[Completion]:
    """Decode through transformers' `generate`, as most users do.

    With `stop=fixed` no end-of-text token is passed to it: `min_new_tokens` would suppress the
    token instead of continuing past it, and so change the text.

    Args:
        model: implements transformers' `GenerationMixin`; `prepare_generate` was called on it.
        batch: the requests.
        eos_ids: end-of-text tokens.
        device: torch device of the inputs.

    Raises:
        EngineError: NaN logits.
    """
    import torch
    import transformers

    new_config: Any = transformers.GenerationConfig
    ids, mask = left_padded(batch.prompts)
    ends = Ends(batch, eos_ids)
    recorder = _Recorder(ends)
    model.generate(
        torch.from_numpy(ids).to(device),
        attention_mask=torch.from_numpy(mask).to(device),
        generation_config=new_config(
            do_sample=False,
            use_cache=True,
            max_new_tokens=batch.new_tokens,
            eos_token_id=list(eos_ids) if batch.stop != "fixed" and eos_ids else None,
            pad_token_id=eos_ids[0] if eos_ids else 0,
        ),
        logits_processor=[recorder],
        stopping_criteria=[_EndOfCode(ends)] if batch.stop == "code" else None,
        streamer=recorder,
    )
    require_numbers(torch.stack(recorder.peaks).tolist())
    return completions(recorder.columns, recorder.times_ns, ends.lengths)


def probe(vocabulary: int) -> Batch:
    """Three prompts of unequal length, spread over the vocabulary, for comparing computations.

    Three, because exporters trace with a batch of two: a hard-coded batch size is detected.
    """
    longer = tuple(1 + (vocabulary - 2) * n // 8 for n in range(8))
    return Batch(prompts=(longer, longer[1:6], longer[:3]), new_tokens=2, stop="fixed")


def probe_logits(decoding: Decoding, batch: Batch) -> list[npt.NDArray[Any]]:
    """Logits after a probe's prompts, and after `PROBE_TOKEN` appended to them."""
    first = decoding.prefill().copy()
    return [first, decoding.step(np.full(len(batch.prompts), PROBE_TOKEN)).copy()]


def difference(ours: Any, reference: Any) -> float:
    """Largest absolute difference of two arrays of logits, as a share of the largest reference.

    Raises:
        EngineError: NaN logits.
    """
    share = float(abs(ours - reference).max() / abs(reference).max())
    if math.isnan(share):
        raise EngineError(
            "NaN logits in a probe of the model: try engine.dtype=float32, or another model.source",
            permanent=True,
        )
    return share


def deviation(ours: Sequence[Any], reference: Sequence[Any]) -> float:
    """Largest `difference` over the passes of a probe; both arguments hold one array per pass."""
    return max(difference(a, b) for a, b in zip(ours, reference, strict=True))


def require_close(
    ours: Sequence[Any],
    reference: Sequence[Any],
    dtype: str,
    what: str,
    tolerances: Mapping[str, float] = TOLERANCE,
) -> float:
    """Compare the logits of a probe with torch's.

    Args:
        ours: one array per pass.
        reference: torch's, one array per pass.
        dtype: type of our computation; selects the tolerance.
        what: subject of the error message.
        tolerances: share of the largest logit, by dtype.

    Returns:
        The largest `difference` of any pass.

    Raises:
        EngineError: it exceeds the tolerance, or there are NaN logits.
    """
    largest = deviation(ours, reference)
    if largest > tolerances[dtype]:
        raise EngineError(
            f"{what} differs from torch by {largest:.1e} of the largest logit:"
            " use another engine for this model",
            permanent=True,
        )
    return largest
