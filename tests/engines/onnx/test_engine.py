import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from slm_energy.config.groups import ProviderConfig
from slm_energy.engines.base import Batch, Engine
from slm_energy.engines.onnx import export
from slm_energy.engines.onnx.engine import ENGINE, dtype, unsupported
from slm_energy.engines.onnx.providers import Node
from slm_energy.errors import EngineError
from slm_energy.serialization import to_plain
from tests.engines.conftest import loaded
from tests.shipped import FEW

WAYS = [("torch", "session"), ("torch", "generate"), ("onnx", "session"), ("onnx", "generate")]


def test_the_same_tokens_come_from_every_engine_and_way_of_decoding(
    make_request, prompts, code_ends
):
    fixed = Batch(prompts=prompts, new_tokens=24, stop="fixed")
    until_eos = dataclasses.replace(fixed, stop="eos")
    outputs = {}
    for engine_name, decode in WAYS:
        target = make_request(engine_name, decode=decode)
        engine, _ = loaded(target)
        batched = [answer.output_ids for answer in engine.generate(fixed)]
        alone = [
            engine.generate(dataclasses.replace(fixed, prompts=(prompt,)))[0].output_ids
            for prompt in prompts
        ]
        assert [a.output_ids for a in engine.generate(code_ends.batch)] == code_ends.expected
        engine.close()
        # A token that the first request generates serves as the end-of-text token.
        other, _ = loaded(dataclasses.replace(target, eos_ids=(batched[0][5], 4095)))
        ended = [answer.output_ids for answer in other.generate(until_eos)]
        past = [answer.output_ids for answer in other.generate(fixed)]
        assert alone == batched
        assert past == batched
        assert len(ended[0]) <= 6
        assert all(long[: len(short)] == short for short, long in zip(ended, batched, strict=True))
        outputs[engine_name, decode] = batched, ended
    assert len(set(map(str, outputs.values()))) == 1, outputs


@pytest.mark.parametrize("model", FEW)
def test_an_architecture_generates_what_torch_does(make_request, twin, prompts, model):
    batch = Batch(prompts=prompts, new_tokens=24, stop="fixed")
    folder = twin(model)
    engine, _ = loaded(make_request("torch", folder=folder))
    expected = [alone(engine, batch, prompt) for prompt in prompts]
    engine, effective = loaded(make_request("onnx", folder=folder))
    assert [alone(engine, batch, prompt) for prompt in prompts] == expected
    assert [answer.output_ids for answer in engine.generate(batch)] == expected
    assert effective["export_deviation"] < 1e-4
    assert effective["unused_weights"] == []


def alone(engine: Engine, batch: Batch, prompt: tuple[int, ...]) -> tuple[int, ...]:
    return engine.generate(dataclasses.replace(batch, prompts=(prompt,)))[0].output_ids


@pytest.mark.parametrize("model", ["starcoder2-3b", "codegen-350m", "smollm3-3b", "bloomz-560m"])
def test_the_library_s_own_class_generates_the_same_tokens(make_request, twin, prompts, model):
    batch = Batch(prompts=prompts, new_tokens=24, stop="fixed")
    ways = [
        loaded(make_request(name, twin(model), decode="generate"))[0] for name in ("torch", "onnx")
    ]
    torch, onnx = [[answer.output_ids for answer in way.generate(batch)] for way in ways]
    assert onnx == torch


def test_int8_quantizes_every_linear_layer_and_reports_it(make_request, prompts):
    engine, effective = loaded(make_request("onnx", dtype="int8"))
    exact, _ = loaded(make_request("onnx"))
    assert effective["dtype"] == "int8"
    assert effective["weights"]["unquantized"] == ["embedding", "other"]
    assert effective["weights"]["bits"]["layers"] == 9  # a scale of 32 bits for 32 weights
    assert effective["weights"]["activations"] == "int8 in blocks of a group"
    assert 1e-4 < effective["export_deviation"] < 0.05
    batch = Batch(prompts=prompts[:1], new_tokens=8, stop="fixed")
    assert len(engine.generate(batch)[0].output_ids) == 8
    first = dataclasses.replace(batch, new_tokens=1)
    assert engine.generate(first)[0].output_ids == exact.generate(first)[0].output_ids


@pytest.mark.parametrize(
    ("options", "bits", "group_size"),
    [
        ({}, 5.0, 32),  # a scale of 32 bits for 32 weights
        ({"scheme": "asymmetric", "group_size": 64}, 4.568, 64),  # and 4 bits of zero point for 64
    ],
)
def test_int4_stores_the_linear_layers_in_groups_and_says_so(
    make_request, prompts, options, bits, group_size
):
    engine, effective = loaded(make_request("onnx", dtype="int4", options=options))
    _, before = loaded(make_request("onnx"))
    weights = effective["weights"]
    assert effective["dtype"] == "int4"
    assert weights["bits"]["layers"] == pytest.approx(bits, abs=0.01)
    assert weights["bits"]["embedding"] == weights["bits"]["other"] == 32
    assert weights["group_size"] == group_size
    assert (weights["method"], weights["activations"]) == (
        "round to nearest",
        "int8 in blocks of a group",
    )
    assert weights["bytes"] < 0.4 * before["weights"]["bytes"]
    assert weights["file_bytes"] >= weights["bytes"]
    assert 1e-3 < effective["export_deviation"] < 0.5
    batch = Batch(prompts=prompts[:1], new_tokens=8, stop="fixed")
    assert len(engine.generate(batch)[0].output_ids) == 8


def test_an_option_about_4_bits_needs_4_bits(make_request):
    settings = make_request("onnx", options={"group_size": 64}).settings
    reason = "engine.options.group_size=64 with engine.dtype=float32: it needs int4"
    assert unsupported(settings) == reason


@pytest.mark.parametrize("requested", ["int8", "int4"])
def test_quantized_weights_that_the_runtime_does_not_multiply_by_are_an_error(requested):
    facts = {"linear_layers": 3, "quantized": 3}
    run = Node("CPUExecutionProvider", "MatMulNBits", "a")
    plain = Node("CPUExecutionProvider", "MatMul", "b")
    assert dtype(requested, "float32", facts, [run, run, run, plain]) == requested
    with pytest.raises(EngineError, match="2 products with quantized weights run, 3 were exported"):
        dtype(requested, "float32", facts, [run, run, plain])


def test_effective_settings_are_read_back(make_request):
    _, effective = loaded(
        make_request("onnx", options={"graph_optimization": "basic", "spinning": "off"})
    )
    expected = {
        "provider": "cpu",
        "providers": ["CPUExecutionProvider"],
        "provider_node_share": 1.0,
        "dtype": "float32",
        "threads": 1,
        "spinning": False,
        "graph_optimization": "ORT_ENABLE_BASIC",
        "kv_cache": True,
        "attention": "sdpa",
        "context": 512,
        "decode": "session",
    }
    assert expected.items() <= effective.items()
    assert effective["export_deviation"] < 1e-3


@pytest.mark.parametrize("decode", ["session", "generate"])
def test_io_binding_changes_no_token(make_request, prompts, decode):
    batch = Batch(prompts=prompts, new_tokens=8, stop="fixed")
    outputs = []
    for binding in ("on", "off"):
        target = make_request("onnx", decode=decode, options={"io_binding": binding})
        engine, effective = loaded(target)
        assert effective["io_binding"] == (binding == "on")
        outputs.append([answer.output_ids for answer in engine.generate(batch)])
    assert outputs[0] == outputs[1]


def test_a_session_worker_imports_neither_torch_nor_transformers(make_request, tmp_path):
    target = make_request("onnx")
    ENGINE.prepare(target)
    fields = to_plain(target) | {
        "model_path": str(target.model_path),
        "cache_path": str(target.cache_path),
    }
    (tmp_path / "request.json").write_text(json.dumps(fields))
    done = subprocess.run(
        [sys.executable, "-c", WORKER, str(tmp_path / "request.json")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "set()"


WORKER = """
import json, sys
from pathlib import Path
from slm_energy.models.tokenizer import load_tokenizer
from slm_energy.cell import Settings
from slm_energy.engines.base import Batch, LoadRequest, find
from slm_energy.serialization import from_plain

fields = json.loads(Path(sys.argv[1]).read_text())
target = LoadRequest(
    settings=from_plain(Settings, fields["settings"]),
    model_path=Path(fields["model_path"]),
    model_digest=fields["model_digest"],
    cache_path=Path(fields["cache_path"]),
    versions=fields["versions"],
    eos_ids=(0,),
)
load_tokenizer(target.model_path)
engine = find("onnx").create()
engine.load(target)
engine.generate(Batch(prompts=((1, 2, 3),), new_tokens=4, stop="fixed"))
print({"torch", "transformers", "optimum", "mlflow", "pandas", "hydra"} & set(sys.modules))
"""


@pytest.mark.parametrize("decode", ["session", "generate"])
def test_nan_logits_are_an_error(make_request, prompts, tmp_path, decode):
    healthy = make_request("onnx", decode=decode)
    ENGINE.prepare(healthy)
    target = dataclasses.replace(healthy, cache_path=tmp_path)
    shutil.copytree(export.entry_path(healthy), export.entry_path(target))
    _poison(export.entry_path(target) / "model.onnx")
    engine = ENGINE.create()
    engine.load(target)
    with pytest.raises(EngineError, match="NaN logits at token 0 of request 0"):
        engine.generate(Batch(prompts=prompts, new_tokens=2, stop="fixed"))


def _poison(graph: Path) -> None:
    """Make the graph's token embedding NaN."""
    proto = onnx.load(graph)  # with its weights, which are saved inside it
    table = next(t for t in proto.graph.initializer if t.name.endswith("embed_tokens.weight"))
    nan = np.full(tuple(table.dims), np.nan, dtype=np.float32)
    table.CopyFrom(onnx.numpy_helper.from_array(nan, table.name))
    onnx.save(proto, graph)


def test_loading_before_the_export_names_the_prepare_step(make_request, tmp_path):
    target = dataclasses.replace(make_request("onnx"), cache_path=tmp_path)
    with pytest.raises(EngineError, match="run the prepare step first"):
        ENGINE.create().load(target)


def test_a_silent_fallback_to_the_cpu_is_an_error(make_request):
    target = make_request("onnx")
    cuda = dataclasses.replace(target.settings, provider=ProviderConfig(name="cuda", device=1000))
    target = dataclasses.replace(target, settings=cuda)
    ENGINE.prepare(target)
    with pytest.raises(EngineError, match=r"fell back to CPUExecutionProvider|provider\.name=cuda"):
        ENGINE.create().load(target)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"dtype": "bfloat16"}, "engine.dtype=bfloat16"),
        ({"dtype": "float16"}, "use float32, int8 or int4"),
    ],
)
def test_types_that_onnx_runtime_lacks_are_unsupported(make_request, change, reason):
    assert reason in str(ENGINE.refusal(make_request("onnx", **change).settings))


def test_an_unknown_provider_is_unsupported(make_request):
    settings = make_request("onnx").settings
    other = dataclasses.replace(settings, provider=ProviderConfig(name="coreml"))
    assert unsupported(settings) is None
    assert unsupported(other) == "engine onnx has no provider coreml: use cpu, cuda, tensorrt"


def test_cuda_needs_the_cuda_build(make_request):
    settings = dataclasses.replace(
        make_request("onnx").settings, provider=ProviderConfig(name="cuda")
    )
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        assert unsupported(settings) is None
    else:
        assert "this build of onnxruntime lacks it" in str(unsupported(settings))


def test_the_options_name_their_values():
    assert ENGINE.options["io_binding"] == ("auto", "on", "off")
    assert ENGINE.options["graph_optimization"] == ("disable", "basic", "extended", "all")
