import dataclasses
import json

import onnx
import pytest
from onnx import TensorProto, helper

from slm_energy import cache
from slm_energy.engines import onnxruntime_genai as genai
from slm_energy.engines.onnxruntime_genai import ENGINE, right_padded, unsupported
from slm_energy.errors import EngineError


def test_prompts_are_padded_on_the_right_with_the_reserved_token():
    assert right_padded(((5, 6), (7, 8, 9)), 99).tolist() == [[5, 6, 99], [7, 8, 9]]


def test_a_prompt_with_the_reserved_token_is_refused():
    with pytest.raises(EngineError, match="token 99 occurs"):
        right_padded(((5, 99),), 99)


def test_the_folder_describes_the_graph_that_engine_onnx_exports(make_job):
    job = make_job("onnxruntime_genai", decode="generate")
    assert ENGINE.needs_preparation(job)
    ENGINE.prepare(job)
    assert not ENGINE.needs_preparation(job)
    folder = next((job.cache_path / "onnxruntime_genai").glob("*/genai_config.json")).parent
    decoder = json.loads((folder / "genai_config.json").read_text())["model"]["decoder"]
    assert (folder / decoder["filename"]).is_file()
    assert decoder["inputs"]["past_key_names"] == "past_key_values.%d.key"
    assert decoder["num_hidden_layers"] == 5


def test_a_graph_in_8_bits_comes_with_its_weights(make_job):
    job = make_job("onnxruntime_genai", decode="generate", dtype="int8")
    ENGINE.prepare(job)
    folder = next((job.cache_path / "onnxruntime_genai").glob("*/model.onnx.data")).parent
    graph = onnx.load(folder / "model.onnx", load_external_data=False).graph
    places = [onnx.external_data_helper.ExternalDataInfo(t).location for t in graph.initializer]
    assert {place for place in places if place} == {"model.onnx.data"}
    assert cache.facts(folder)["quantized"] > 0


def test_a_graph_of_other_versions_is_made_again(make_job, monkeypatch):
    job = make_job("onnxruntime_genai", decode="generate")
    ENGINE.prepare(job)
    other = dataclasses.replace(job, model_digest="other")
    monkeypatch.setattr(genai, "_source", lambda job: other.model_path)
    assert ENGINE.needs_preparation(job)


def test_what_it_cannot_do_is_unsupported(make_job):
    reason = unsupported(make_job("onnxruntime_genai", decode="generate").settings)
    assert reason is None or "engine.python=onnxruntime_genai" in reason


def test_the_configuration_follows_the_graph():
    def value(name: str, *dims: int | str):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)

    inputs = [value("input_ids", "b", "n"), value("past_key_values.0.key", "b", 4, "p", 64)]
    inputs.append(value("past_key_values.0.value", "b", 4, "p", 64))
    graph = helper.make_graph([], "g", inputs, [value("logits", "b", "n", 512)])
    model = genai._configuration(graph, 128)["model"]
    assert model["eos_token_id"] == model["pad_token_id"] == 511
    assert model["decoder"]["num_key_value_heads"] == 4
    assert model["decoder"]["head_size"] == 64
    assert set(model["decoder"]["inputs"]) == {"input_ids", "past_key_names", "past_value_names"}
