"""The logits of a probe: they compare a model with itself and with what was made from it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from slm_energy.engines import decode
from slm_energy.engines.base import Batch
from slm_energy.engines.torch.decoding import decoding
from slm_energy.engines.torch.precision import multiplies_in_bfloat16
from slm_energy.engines.torch.weights import sdpa_is_wrong
from slm_energy.errors import EngineError


def probe_logits(model: Any, batch: Batch) -> list[npt.NDArray[np.float32]]:
    """A model's logits for a probe, as the reference of a comparison."""
    return session_probe_logits(decoding(model, batch), batch)


def session_probe_logits(steps: Any, batch: Batch) -> list[npt.NDArray[np.float32]]:
    """Logits (b, vocabulary) after a probe's prompts, and after `PROBE_TOKEN` appended to them."""
    import torch

    with torch.inference_mode():
        first = steps.prefill()
        token = torch.full((len(batch.prompts),), decode.PROBE_TOKEN, device=first.device)
        return [logits.float().cpu().numpy() for logits in (first, steps.step(token))]


def attention_deviation(model: Any) -> float | None:
    """Compare SDPA with eager attention on padded prompts and one further token of each.

    Returns:
        Largest difference as a share of the largest logit; None if the model does not use SDPA, or
        its attention cannot be switched after loading.

    Raises:
        EngineError: they differ by more than rounding.
    """
    if model.config._attn_implementation != "sdpa" or not model._can_set_attn_implementation():
        return None
    batch = decode.probe(model.config.vocab_size)
    sdpa = probe_logits(model, batch)
    model.set_attn_implementation("eager")
    eager = probe_logits(model, batch)
    model.set_attn_implementation("sdpa")
    deviation = decode.deviation(sdpa, eager)
    if deviation > _tolerance(model) or sdpa_is_wrong(model.config):
        raise EngineError(
            f"SDPA attention of {model.config.model_type} differs from eager attention by"
            f" {deviation:.1e} of the largest logit: set model.attention=eager",
            permanent=True,
        )
    return deviation


def require_padding(model: Any) -> None:
    """Compare padded prompts with the same prompts one at a time.

    transformers 4.57 does not mask padding in LFM2's convolutions.

    Raises:
        EngineError: they differ by more than rounding.
    """
    prompt = decode.probe(model.config.vocab_size).prompts[0]
    # Two tokens: within the reach of a short convolution.
    batch = Batch(prompts=(prompt, prompt[:2]), new_tokens=2, stop="fixed")
    together = probe_logits(model, batch)
    rows = [probe_logits(model, batch.request(row)) for row in range(2)]
    alone = [np.concatenate(each) for each in zip(*rows, strict=True)]
    deviation = decode.deviation(together, alone)
    if deviation > _tolerance(model):
        raise EngineError(
            f"{model.config.model_type}: this version of transformers lets padding change the"
            f" logits of a batch by {deviation:.1e} of the largest: set workload.batch_size=1, or"
            " engine.python=transformers5",
            permanent=True,
        )


def _tolerance(model: Any) -> float:
    """Accepted difference between two computations of a model's logits."""
    dtype = str(model.dtype).removeprefix("torch.")
    return decode.TOLERANCE["bfloat16" if multiplies_in_bfloat16(model) else dtype]
