"""Attention as one operator: for which models, and what the graph is then."""

import collections
import dataclasses
import warnings

import onnx
import pytest

from slm_energy.engines.base import Batch, LoadRequest
from slm_energy.engines.onnx import export
from slm_energy.engines.onnx.engine import ENGINE
from slm_energy.engines.torch.weights import load_weights
from tests.engines.conftest import loaded

FUSED = ("tinyllama-1.1b", "codegemma-2b", "smollm3-3b")
"""Rotated in all layers; with one head of keys; in some layers."""


def operators(target: LoadRequest) -> collections.Counter[str]:
    graph = onnx.load(export.entry_path(target) / "model.onnx", load_external_data=False).graph
    return collections.Counter(node.op_type for node in graph.node)


@pytest.mark.parametrize("name", FUSED)
def test_each_layer_s_attention_is_one_operator_and_the_tokens_are_torch_s(
    make_request, twin, prompts, name
):
    target = make_request("onnx", folder=twin(name))
    engine, effective = loaded(target)
    torch, _ = loaded(make_request("torch", folder=twin(name)))
    found = operators(target)
    assert effective["attention_fused"] == found["GroupQueryAttention"] > 0
    assert found["Softmax"] == 0
    assert effective["export_deviation"] < 1e-4
    batch = Batch(prompts=prompts, new_tokens=16, stop="fixed")
    alone = [torch.generate(batch.request(row))[0].output_ids for row in range(3)]
    assert [answer.output_ids for answer in engine.generate(batch)] == alone


@pytest.mark.parametrize(
    ("name", "products", "sums"),
    [
        ("tinyllama-1.1b", 11, 4),  # of two layers, and the head; the last norm has a sum as well
        ("qwen2.5-coder-0.5b", 11, 4),  # with biases
        ("qwen3-0.6b", 15, 4),  # queries and keys are normalized: not joined
        ("starcoder2-3b", 9, 0),  # no root mean square norms
    ],
)
def test_a_layer_has_few_operators(make_request, twin, prompts, name, products, sums):
    target = make_request("onnx", folder=twin(name))
    _, effective = loaded(target)
    found = operators(target)
    assert found["MatMul"] == products
    assert found["SkipSimplifiedLayerNormalization"] == sums
    assert effective["export_deviation"] < 1e-4


@pytest.mark.parametrize("name", ["codegen-350m", "bloomz-560m", "tiny_starcoder_py", "phi-2"])
def test_an_attention_that_the_operator_cannot_compute_is_traced(make_request, twin, name):
    target = make_request("onnx", folder=twin(name))
    _, effective = loaded(target)
    assert operators(target)["GroupQueryAttention"] == 0
    assert operators(target)["Softmax"] > 0
    assert effective["attention_fused"] == 0


def test_an_attention_that_was_asked_for_is_traced(make_request, twin, tmp_path):
    target = make_request("onnx", folder=twin("tinyllama-1.1b"), attention="eager")
    target = dataclasses.replace(target, cache_path=tmp_path)
    ENGINE.prepare(target)
    assert operators(target)["GroupQueryAttention"] == 0


def test_the_model_that_was_traced_serves_as_before(make_request, twin, tmp_path):
    from slm_energy.engines.onnx.export_fused import fused
    from slm_energy.engines.torch.probe import probe_logits

    target = make_request("torch", folder=twin("tinyllama-1.1b"))
    model = load_weights(target.settings.model, target.model_path, "float32")
    batch = Batch(prompts=((1, 2, 3), (4, 5)), new_tokens=2, stop="fixed")
    before = probe_logits(model, batch)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fused(tmp_path, model)
    after = probe_logits(model, batch)
    assert all((one == other).all() for one, other in zip(before, after, strict=True))
