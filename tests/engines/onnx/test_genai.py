import dataclasses
import sys
import types

import numpy as np
import pytest

from slm_energy.engines.onnx.genai import ENGINE, right_padded, unsupported
from slm_energy.errors import EngineError


def test_prompts_are_padded_on_the_right_with_the_reserved_token():
    assert right_padded(((5, 6), (7, 8, 9)), 99).tolist() == [[5, 6, 99], [7, 8, 9]]


def test_a_prompt_with_the_reserved_token_is_refused():
    with pytest.raises(EngineError, match="token 99 occurs"):
        right_padded(((5, 99),), 99)


class Generator:
    """Replaces the library's: logits that depend on each token and its position."""

    counts_gaps = False
    """Use a token's column as its position, like a graph without position ids."""

    def __init__(self, model: object, parameters: object) -> None:
        self.pad = 4095

    def append_tokens(self, ids: np.ndarray) -> None:
        self.ids = ids

    def get_logits(self) -> np.ndarray:
        mask = self.ids != self.pad
        positions = np.arange(self.ids.shape[1]) if self.counts_gaps else mask.cumsum(-1)
        state = (self.ids * mask * positions).sum(-1)
        return np.sin(np.outer(state, np.arange(1, 64)) / 1000)[:, None]

    def generate_next_token(self) -> None:
        self.ids = np.hstack([self.ids, self.get_logits().argmax(-1)])

    def get_next_tokens(self) -> np.ndarray:
        return self.ids[:, -1]


@pytest.fixture
def loaded(make_request, monkeypatch):
    """Load the engine for batches of three over the fake library; return its settings."""

    def load(counts_gaps: bool) -> dict:
        library = types.SimpleNamespace(
            Config=lambda folder: types.SimpleNamespace(overlay=lambda text: None),
            Model=lambda config: types.SimpleNamespace(device_type="CPU"),
            GeneratorParams=lambda model: types.SimpleNamespace(set_search_options=dict),
            Generator=type("Generator", (Generator,), {"counts_gaps": counts_gaps}),
        )
        monkeypatch.setitem(sys.modules, "onnxruntime_genai", library)
        target = make_request("onnxruntime_genai", decode="generate")
        workload = dataclasses.replace(target.settings.workload, batch_size=3)
        target = dataclasses.replace(
            target, settings=dataclasses.replace(target.settings, workload=workload)
        )
        ENGINE.prepare(target)
        return ENGINE.create().load(target)

    return load


def test_a_padded_batch_is_compared_with_its_prompts_alone(loaded):
    assert loaded(counts_gaps=False)["padding_deviation"] == 0.0


def test_a_graph_that_counts_the_gap_after_a_prompt_is_refused_in_batches(loaded):
    with pytest.raises(EngineError, match=r"padded batch differs .*set workload\.batch_size=1$"):
        loaded(counts_gaps=True)


def test_unsupported_settings_name_the_environment(make_request):
    reason = unsupported(make_request("onnxruntime_genai", decode="generate").settings)
    assert reason is None or "engine.python=onnxruntime_genai" in reason
