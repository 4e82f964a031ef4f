"""What ONNX Runtime GenAI opens: made anew for other versions, configured after the graph."""

import dataclasses
import json

import onnx
from onnx import TensorProto, helper

from slm_energy import cache
from slm_energy.engines.onnx import export, genai_folder
from slm_energy.engines.onnx.genai import ENGINE


def test_the_folder_describes_the_graph_that_engine_onnx_exports(make_request, tmp_path):
    target = make_request("onnxruntime_genai", decode="generate")
    target = dataclasses.replace(target, cache_path=tmp_path)  # others prepare it meanwhile
    assert ENGINE.needs_preparation(target)
    ENGINE.prepare(target)
    assert not ENGINE.needs_preparation(target)
    folder = next((target.cache_path / "onnxruntime_genai").glob("*/genai_config.json")).parent
    decoder = json.loads((folder / "genai_config.json").read_text())["model"]["decoder"]
    assert (folder / decoder["filename"]).is_file()
    assert decoder["inputs"]["past_key_names"] == "past_key_values.%d.key"
    assert decoder["num_hidden_layers"] == 5


def test_a_graph_in_8_bits_comes_with_its_weights(make_request):
    target = make_request("onnxruntime_genai", decode="generate", dtype="int8")
    ENGINE.prepare(target)
    folder = next((target.cache_path / "onnxruntime_genai").glob("*/model.onnx.data")).parent
    graph = onnx.load(folder / "model.onnx", load_external_data=False).graph
    locations = [onnx.external_data_helper.ExternalDataInfo(t).location for t in graph.initializer]
    assert set(filter(None, locations)) == {"model.onnx.data"}
    assert cache.facts(folder)["quantized"] > 0


def test_a_graph_of_other_versions_is_remade(make_request, monkeypatch, tmp_path):
    target = make_request("onnxruntime_genai", decode="generate")
    ENGINE.prepare(target)
    monkeypatch.setattr(export, "entry_path", lambda request: tmp_path / "of-other-versions")
    assert ENGINE.needs_preparation(target)


def test_gemma_s_graph_takes_position_ids(make_request, twin, tmp_path):
    target = make_request("onnxruntime_genai", twin("codegemma-2b"), decode="generate")
    target = dataclasses.replace(target, cache_path=tmp_path)
    ENGINE.prepare(target)
    (file,) = (tmp_path / "onnxruntime_genai").glob("*/genai_config.json")
    assert "position_ids" in json.loads(file.read_text())["model"]["decoder"]["inputs"]


def test_the_configuration_follows_the_graph():
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
