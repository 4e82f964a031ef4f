"""What ONNX Runtime GenAI opens: made anew for other versions, configured after the graph."""

import dataclasses

from onnx import TensorProto, helper

from slm_energy.engines.onnx import genai_folder
from slm_energy.engines.onnx.genai import ENGINE


def test_a_graph_of_other_versions_is_remade(make_request, monkeypatch):
    target = make_request("onnxruntime_genai", decode="generate")
    ENGINE.prepare(target)
    other = dataclasses.replace(target, model_digest="other")
    monkeypatch.setattr(genai_folder, "_source", lambda target: other.model_path)
    assert ENGINE.needs_preparation(target)


def test_theconfiguration_follows_the_graph():
    def value(name: str, *dims: int | str):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)

    inputs = [value("input_ids", "b", "n"), value("past_key_values.0.key", "b", 4, "p", 64)]
    inputs.append(value("past_key_values.0.value", "b", 4, "p", 64))
    graph = helper.make_graph([], "g", inputs, [value("logits", "b", "n", 512)])
    model = genai_folder.configuration(graph, 128)["model"]
    assert model["eos_token_id"] == model["pad_token_id"] == 511
    assert model["decoder"]["num_key_value_heads"] == 4
    assert model["decoder"]["head_size"] == 64
    assert set(model["decoder"]["inputs"]) == {"input_ids", "past_key_names", "past_value_names"}
