import json
import shutil
import sys
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from slm_energy.config.groups import BUNDLED, ModelConfig
from slm_energy.engines.llama_cpp.gguf_export import convert
from slm_energy.errors import EngineError, ModelError
from slm_energy.models.source import fetch

WEIGHTS = "model.safetensors"
CODE = "def add(a, b):\n    return a + 10  # ünïcode\n\n\nclass Stack:\n\tpass\n"


@pytest.fixture(scope="module")
def bundled() -> Path:
    return fetch(ModelConfig(name="m", source=BUNDLED), Path())


@pytest.fixture
def copy(bundled, tmp_path) -> Path:
    """The bundled model in a folder of its own, to be changed."""
    return Path(shutil.copytree(bundled, tmp_path / "model"))


def configure(folder: Path, **changes) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder


def kinds(file: Path) -> dict[str, str]:
    return {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(file).tensors}


def values(file: Path, name: str) -> np.ndarray:
    tensor = next(tensor for tensor in gguf.GGUFReader(file).tensors if tensor.name == name)
    return gguf.dequantize(tensor.data, tensor.tensor_type)


def test_a_folder_becomes_one_file(bundled, tmp_path):
    out = tmp_path / "model.gguf"
    facts = convert(bundled, out, "float32")
    assert facts == {
        "architecture": "llama",
        "tokenizer": "approximate",
        "matrices": {"F32": 36},
    }
    source = load_file(bundled / WEIGHTS)
    embedding = source["model.embed_tokens.weight"].float().numpy()
    assert np.array_equal(values(out, "token_embd.weight"), embedding)
    assert "output.weight" not in kinds(out)  # it is the embedding


@pytest.mark.parametrize(
    ("dtype", "kind", "error"),
    [("float16", "F16", 0.0), ("bfloat16", "BF16", 2**-8), ("int8", "Q8_0", 2**-6)],
)
def test_matrices_get_the_asked_type_and_vectors_stay_float32(
    bundled, tmp_path, dtype, kind, error
):
    out = tmp_path / "model.gguf"
    convert(bundled, out, dtype)
    found = kinds(out)
    assert found["blk.0.ffn_up.weight"] == kind
    assert found["token_embd.weight"] == kind
    assert found["blk.0.attn_norm.weight"] == "F32"
    expected = load_file(bundled / WEIGHTS)["model.layers.0.mlp.up_proj.weight"].float().numpy()
    difference = np.abs(values(out, "blk.0.ffn_up.weight") - expected).max()
    assert difference <= error * np.abs(expected).max()


def test_8_bits_leave_an_embedding_alone_that_is_not_the_output_layer(twin, tmp_path):
    out = tmp_path / "model.gguf"
    facts = convert(twin("tinyllama-1.1b"), out, "int8")
    assert kinds(out)["token_embd.weight"] == "F32"
    assert kinds(out)["output.weight"] == "Q8_0"
    assert facts["matrices"] == {"F32": 1, "Q8_0": 15}
    assert convert(twin("tinyllama-1.1b"), out, "float16")["matrices"] == {"F16": 16}


def test_stored_bfloat16_is_read_without_loss(copy, tmp_path):
    halved = {name: value.bfloat16() for name, value in load_file(copy / WEIGHTS).items()}
    save_file(halved, copy / WEIGHTS)
    out = tmp_path / "model.gguf"
    convert(copy, out, "float32")
    expected = halved["model.layers.4.mlp.down_proj.weight"].float().numpy()
    assert np.array_equal(values(out, "blk.4.ffn_down.weight"), expected)


def test_weights_in_parts_and_pickled_weights_give_the_same_file(copy, bundled, tmp_path):
    convert(bundled, tmp_path / "one.gguf", "float32")
    state = load_file(copy / WEIGHTS)
    (copy / WEIGHTS).unlink()
    names = list(state)
    parts = {"a.safetensors": names[:10], "b.safetensors": names[10:]}
    for part, held in parts.items():
        save_file({name: state[name] for name in held}, copy / part)
    index = {"weight_map": {name: part for part, held in parts.items() for name in held}}
    (copy / f"{WEIGHTS}.index.json").write_text(json.dumps(index))
    convert(copy, tmp_path / "parts.gguf", "float32")
    (copy / f"{WEIGHTS}.index.json").unlink()
    torch.save(state, copy / "pytorch_model.bin")
    convert(copy, tmp_path / "pickled.gguf", "float32")
    for name in ("token_embd.weight", "blk.0.attn_q.weight", "blk.4.attn_norm.weight"):
        first = values(tmp_path / "one.gguf", name)
        assert np.array_equal(values(tmp_path / "parts.gguf", name), first)
        assert np.array_equal(values(tmp_path / "pickled.gguf", name), first)


def test_what_cannot_be_read_is_said(copy, tmp_path, monkeypatch):
    out = tmp_path / "model.gguf"
    state = load_file(copy / WEIGHTS)
    save_file({name: value.to(torch.float8_e5m2) for name, value in state.items()}, copy / WEIGHTS)
    with pytest.raises(ModelError, match="weights of type F8_E5M2: take a model with float"):
        convert(copy, out, "float32")
    (copy / WEIGHTS).rename(copy / "pytorch_model.bin")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ModelError, match="only where torch is installed"):
        convert(copy, out, "float32")
    (copy / "pytorch_model.bin").unlink()
    with pytest.raises(ModelError, match="has no weights: set"):
        convert(copy, out, "float32")


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("tinyllama-1.1b", {"model_type": "mamba"}, "no architecture mamba"),
        ("tinyllama-1.1b", {"hidden_act": "relu"}, "where hidden_act=relu"),
        ("tinyllama-1.1b", {"rope_scaling": {"rope_type": "yarn"}}, "rope scaling 'yarn'"),
        ("tinyllama-1.1b", {"hidden_size": None}, "names no hidden_size or n_embd"),
        ("codeparrot-small", {"scale_attn_weights": False}, "where scale_attn_weights=False"),
        ("tiny_starcoder_py", {"multi_query": False}, "where multi_query=False"),
        ("smollm3-3b", {"no_rope_layers": [0, 1]}, r"where no_rope_layers=\[0, 1\]"),
        ("phi-2", {"qk_layernorm": True}, "where qk_layernorm=True"),
    ],
)
def test_what_llama_cpp_would_compute_otherwise_is_refused(twin, tmp_path, name, changes, reason):
    folder = configure(Path(shutil.copytree(twin(name), tmp_path / "model")), **changes)
    with pytest.raises(EngineError, match=reason) as caught:
        convert(folder, tmp_path / "model.gguf", "float32")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "model.gguf").exists()


def test_a_tensor_without_a_place_is_refused(copy, tmp_path):
    state = load_file(copy / WEIGHTS)
    state["model.layers.0.mlp.extra.weight"] = torch.zeros(4, 4)
    save_file(state, copy / WEIGHTS)
    with pytest.raises(EngineError, match=r"no place for model\.layers\.0\.mlp\.extra\.weight"):
        convert(copy, tmp_path / "model.gguf", "float32")


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 2}},
        {"rope_parameters": {"rope_theta": 5e5, "rope_type": "linear", "factor": 2.0}},
    ],
)
def test_positions_are_told_in_the_words_of_transformers_4_and_5(copy, tmp_path, rope):
    out = tmp_path / "model.gguf"
    convert(configure(copy, **rope), out, "float32")
    found = gguf.GGUFReader(out)
    assert found.get_field("llama.rope.freq_base").contents() == 5e5
    assert found.get_field("llama.rope.scaling.factor").contents() == 2.0
    assert found.get_field("llama.rope.dimension_count").contents() == 32


def test_a_sliding_window_limits_the_context(twin, tmp_path):
    folder = configure(
        Path(shutil.copytree(twin("qwen2.5-coder-0.5b"), tmp_path / "model")),
        sliding_window=128,
        use_sliding_window=True,
    )
    out = tmp_path / "model.gguf"
    convert(folder, out, "float32")
    assert gguf.GGUFReader(out).get_field("qwen2.context_length").contents() == 128
    convert(configure(folder, use_sliding_window=False), out, "float32")
    assert gguf.GGUFReader(out).get_field("qwen2.context_length").contents() == 512


@pytest.mark.parametrize(
    ("pre_tokenizer", "fidelity"),
    [
        ({"type": "ByteLevel", "use_regex": True}, "exact"),
        (
            {
                "type": "Sequence",
                "pretokenizers": [
                    {"type": "Digits", "individual_digits": True},
                    {"type": "ByteLevel", "use_regex": True},
                ],
            },
            "exact",
        ),
        ({"type": "ByteLevel", "use_regex": False}, "approximate"),
        ({"type": "Whitespace"}, "none"),
    ],
)
def test_a_tokenizer_called_exact_gives_the_same_ids(copy, tmp_path, pre_tokenizer, fidelity):
    import llama_cpp

    path = copy / "tokenizer.json"
    data = json.loads(path.read_text())
    whole = {"add_prefix_space": False, "trim_offsets": True} | pre_tokenizer
    for part in whole.get("pretokenizers", [whole]):
        if part["type"] == "ByteLevel":
            part.update(add_prefix_space=False, trim_offsets=True)
    data["pre_tokenizer"] = whole if whole["type"] == "ByteLevel" else pre_tokenizer
    path.write_text(json.dumps(data))
    out = tmp_path / "model.gguf"
    facts = convert(copy, out, "float32")
    assert facts["tokenizer"] == fidelity
    if fidelity == "none":
        return
    model = llama_cpp.Llama(str(out), vocab_only=True, verbose=False)
    ids = model.tokenize(CODE.encode(), add_bos=False)
    assert model.detokenize(ids).decode() == CODE
    assert model.token_eos() == 0
    same = ids == Tokenizer.from_file(str(path)).encode(CODE).ids
    assert same or fidelity == "approximate"
    model.close()
