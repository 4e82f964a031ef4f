"""The tiny random models are suitable for comparing engines."""

import pytest

from slm_energy.engines.base import Batch
from slm_energy.engines.torch.decoding import decoding
from slm_energy.engines.torch.weights import load_weights
from tests.shipped import TWINS, tiny


def decoded(network, prompt):
    """24 tokens, and the smallest lead of a chosen one as a share of the largest logit."""
    import torch

    steps = decoding(network, Batch(prompts=(prompt,), new_tokens=24, stop="fixed"))
    tokens, leads = [], []
    with torch.inference_mode():
        logits = steps.prefill()
        while len(tokens) < 24:
            (best, second), (token, _) = (part[0].tolist() for part in logits.topk(2))
            tokens.append(token)
            leads.append((best - second) / logits.abs().max().item())
            logits = steps.step(torch.tensor([token]))
    return tokens, min(leads)


@pytest.mark.parametrize("name", TWINS)
def test_tokens_are_clear_varied_and_depend_on_the_whole_prompt(twin, prompts, name):
    import torch

    torch.set_num_threads(1)
    network = load_weights(tiny(name), twin(name), "float32")
    for prompt in prompts:
        tokens, lead = decoded(network, prompt)
        assert lead > 1e-4, "rounding could decide"
        assert len(set(tokens)) > 12
        others, _ = decoded(network, (prompt[0] + 1, *prompt[1:]))
        assert others != tokens
