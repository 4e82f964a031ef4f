import dataclasses
import json
from types import SimpleNamespace

import openvino
import pytest

from slm_energy import distributions, machine
from slm_energy.cell import Settings
from slm_energy.config.groups import ProviderConfig
from slm_energy.engines.base import Batch
from slm_energy.engines.openvino.device import PRECISIONS
from slm_energy.engines.openvino.engine import ENGINE
from slm_energy.errors import EngineError
from tests.engines.conftest import loaded
from tests.shipped import FEW

PROMPTS = (tuple(range(5, 14)), tuple(range(40, 24, -1)), (100, 7, 300, 12))


def served(target, *batches: Batch):
    """What an engine answers, one list of token ids per batch, and the settings in force."""
    engine, effective = loaded(target)
    ids = [[answer.output_ids for answer in engine.generate(batch)] for batch in batches]
    engine.close()
    return ids, effective


def batch_of(*prompts: tuple[int, ...], new_tokens: int = 24) -> Batch:
    return Batch(prompts=prompts, new_tokens=new_tokens, stop="fixed")


def with_provider(settings: Settings, name: str, device: int = 0) -> Settings:
    return dataclasses.replace(settings, provider=ProviderConfig(name=name, device=device))


@pytest.mark.parametrize("name", FEW)
def test_an_architecture_gets_the_tokens_of_torch_alone_and_padded(make_request, twin, name):
    alone = [batch_of(prompt) for prompt in PROMPTS]
    expected, _ = served(make_request("torch", twin(name)), *alone)
    found, effective = served(make_request("openvino", twin(name)), *alone, batch_of(*PROMPTS))
    assert found[:-1] == expected
    assert found[-1] == [ids for (ids,) in expected]
    assert effective["dtype"] == "float32"
    assert effective["export_deviation"] < 1e-3
    assert effective["unused_weights"] == []


@pytest.mark.parametrize("name", FEW)
def test_generate_gets_the_same_tokens_from_the_same_export(make_request, twin, name):
    batches = [batch_of(PROMPTS[0]), batch_of(*PROMPTS)]
    expected, _ = served(make_request("openvino", twin(name)), *batches)
    target = make_request("openvino", twin(name), decode="generate")
    assert not ENGINE.needs_preparation(target)
    found, effective = served(target, *batches)
    assert found == expected
    assert effective["decode"] == "generate"
    assert effective["logits_of"] == "all positions"
    assert effective["kv_cache_precision"] == "f32"


def test_a_window_that_slides_past_the_prompt_hides_the_same_tokens(make_request, twin):
    folder = twin("starcoder2-3b")
    window = json.loads((folder / "config.json").read_text())["sliding_window"]
    long = batch_of(tuple(range(3, window + 23)), PROMPTS[0], new_tokens=8)
    expected, _ = served(make_request("torch", folder), long)
    found, _ = served(make_request("openvino", folder), long)
    assert found == expected


def test_what_is_in_force_is_read_back(make_request):
    _, effective = served(make_request("openvino", threads=1))
    assert effective == effective | {
        "provider": "cpu",
        "devices": ["CPU"],
        "threads": 1,
        "kv_cache": True,
        "attention": "sdpa",
        "num_streams": "1",
        "inference_precision_hint": "f32",
        "kv_cache_precision": "f32",
        "dynamic_quantization_group_size": "0",
        "decode": "session",
    }
    assert set(effective["linear_layers"]) == {"f32"}
    assert effective["attention_fused"] > 0
    assert effective["attention_paged"]
    assert effective["logits_of"] == "last position"


def test_int8_rounds_the_weights_of_all_linear_layers_and_nothing_else(make_request, prompts):
    batch = batch_of(*prompts, new_tokens=4)
    exact, before = served(make_request("openvino"), batch)
    rounded, effective = served(make_request("openvino", dtype="int8"), batch)
    (layers,) = before["linear_layers"].values()
    assert effective["dtype"] == "int8"
    assert effective["linear_layers"] == {"i8": layers}
    assert effective["weights"]["bits"]["layers"] == pytest.approx(8, abs=0.1)
    assert effective["weights"]["unquantized"] == ["other"]  # the embedding is the output layer
    assert effective["inference_precision_hint"] == effective["kv_cache_precision"] == "f32"
    assert before["export_deviation"] < 1e-4 < effective["export_deviation"]
    assert [len(ids) for ids in rounded[0]] == [len(ids) for ids in exact[0]]


@pytest.mark.parametrize(
    ("options", "kind", "bits", "group_size"),
    [
        ({}, "i4", 4.5, 32),  # a scale of 16 bits for 32 weights
        ({"scheme": "asymmetric", "group_size": 64}, "u4", 4.3125, 64),  # and a zero point of 4
        ({"group_size": -1}, "i4", 4.05, None),
    ],
)
def test_int4_rounds_in_groups_and_says_so(make_request, options, kind, bits, group_size):
    _, before = served(make_request("openvino"))
    _, effective = served(make_request("openvino", dtype="int4", options=options))
    weights = effective["weights"]
    assert effective["dtype"] == "int4"
    assert effective["linear_layers"] == {kind: before["linear_layers"]["f32"]}
    assert weights["bits"]["layers"] == pytest.approx(bits, abs=0.01)
    assert weights["group_size"] == group_size
    assert (weights["method"], weights["activations"]) == ("round to nearest", "float32")
    assert weights["bytes"] < 0.2 * before["weights"]["bytes"]
    assert 1e-3 < effective["export_deviation"] < 0.5


def test_groups_that_do_not_divide_a_layer_are_an_error(make_request):
    target = make_request("openvino", dtype="int4", options={"group_size": 128})
    with pytest.raises(EngineError, match=r"^engine.options.group_size=128: it does not divide"):
        ENGINE.prepare(target)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_type_is_computed_in_or_refused(make_request, dtype):
    target = make_request("openvino", dtype=dtype, threads=2)
    reason = ENGINE.unsupported(target.settings)
    if reason is None:
        _, effective = served(target)
        assert effective["dtype"] == dtype
        assert set(effective["linear_layers"]) == {PRECISIONS[dtype]}
        assert effective["attention_paged"] == (dtype == "bfloat16")
    else:
        assert reason == f"engine openvino with engine.dtype={dtype}: not supported by CPU here"
        with pytest.raises(EngineError, match="INFERENCE_PRECISION_HINT was set to"):
            ENGINE.prepare(target)


def test_bfloat16_with_one_thread_is_refused_where_amx_would_end_the_process(
    make_request, monkeypatch
):
    core = SimpleNamespace(get_property=lambda *_: ["FP32", "BF16"])
    monkeypatch.setattr(openvino, "Core", lambda: core)
    monkeypatch.setattr(machine, "processor_flags", lambda: frozenset({"amx_bf16"}))
    one, two = (make_request("openvino", dtype="bfloat16", threads=n).settings for n in (1, 2))
    assert "which ends the process: set engine.threads=2" in str(ENGINE.unsupported(one))
    assert ENGINE.unsupported(two) is None
    monkeypatch.setattr(machine, "processor_flags", frozenset)
    assert ENGINE.unsupported(one) is None


def test_loading_before_the_export_says_what_to_do(make_request, tmp_path):
    target = dataclasses.replace(make_request("openvino"), cache_path=tmp_path)
    with pytest.raises(EngineError, match="run the prepare step first"):
        ENGINE.create().load(target)


def test_a_provider_or_device_that_is_not_there_is_named(make_request):
    settings = make_request("openvino").settings
    assert ENGINE.unsupported(settings) is None
    assert "no provider cuda: use one of cpu, openvino_gpu, openvino_npu" in str(
        ENGINE.unsupported(with_provider(settings, "cuda"))
    )
    int8 = make_request("openvino", dtype="int8").settings
    assert ENGINE.unsupported(int8) is None
    assert "only on cpu" in str(ENGINE.unsupported(with_provider(int8, "openvino_gpu")))
    reason = ENGINE.unsupported(with_provider(settings, "openvino_gpu", device=7))
    assert reason == "provider.name=openvino_gpu: OpenVINO finds no GPU.7 here, only CPU"


@pytest.mark.parametrize(
    ("lacks", "changes", "reason"),
    [
        ({"openvino"}, {}, "engine openvino needs openvino"),
        ({"torch"}, {}, "engine openvino needs torch"),
        ({"optimum-intel"}, {"decode": "generate"}, "decode=generate needs optimum-intel"),
        ({"optimum-intel"}, {}, "needs optimum-intel to export"),
        ({"nncf"}, {"dtype": "int8"}, "dtype=int8 needs nncf"),
    ],
)
def test_a_package_that_is_missing_is_named_with_its_extra(
    make_request, monkeypatch, lacks, changes, reason
):
    settings = make_request("openvino", **changes).settings

    installed = distributions.versions(ENGINE.packages) | dict.fromkeys(lacks, "absent")
    monkeypatch.setattr(distributions, "versions", lambda packages: installed)
    reported = str(ENGINE.unsupported(settings))
    assert reason in reported
    assert reported.endswith("pip install 'slm-energy[openvino]'")


@pytest.mark.parametrize("dtype", ["float32", "int4"])
@pytest.mark.parametrize(("name", "paged"), [("qwen3-0.6b", True), ("granite-4.0-micro", False)])
def test_caches_are_in_blocks_where_that_changes_no_logits(make_request, twin, name, paged, dtype):
    _, effective = loaded(make_request("openvino", folder=twin(name), dtype=dtype))
    assert effective["attention_paged"] == paged
    assert effective["kv_cache"]
    assert effective["attention_fused"] > 0
    assert effective["export_deviation"] < {"float32": 1e-4, "int4": 0.5}[dtype]
