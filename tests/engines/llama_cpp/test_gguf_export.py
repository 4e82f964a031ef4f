import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from slm_energy.engines.llama_cpp.gguf_export import architectures, convert, describe
from slm_energy.errors import EngineError
from slm_energy.models import gguf_header
from slm_energy.models.tokenizer import load_tokenizer
from tests.engines.llama_cpp.conftest import WEIGHTS, configure, kinds, values


def test_a_folder_becomes_one_file(bundled, tmp_path):
    out = tmp_path / "model.gguf"
    convert(bundled, out, "float32")
    facts = describe(out, method=None)
    assert facts["architecture"] == "llama"
    assert facts["tensors"] == {"f32": 47}
    assert facts["matrices"] == {"F32": 35}
    assert facts["weights"]["bits_per_weight"] == 32.0
    assert facts["weights"]["unquantized"] == []
    assert facts["weights"]["activations"] == "float32"
    embedding = load_file(bundled / WEIGHTS)["model.embed_tokens.weight"].float().numpy()
    assert np.array_equal(values(out, "token_embd.weight"), embedding)
    assert "output.weight" not in kinds(out)  # it is the embedding


@pytest.mark.parametrize(
    ("dtype", "kind", "error"), [("float16", "F16", 0.0), ("bfloat16", "BF16", 2**-8)]
)
def test_matrices_get_the_requested_type_and_vectors_stay_float32(
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


def test_an_architecture_that_is_not_known_is_refused_with_what_would_do(copy, tmp_path):
    configure(copy, architectures=["OurOwnForCausalLM"])
    with pytest.raises(
        EngineError, match=r"does not know OurOwnForCausalLM: .* to a GGUF file of it"
    ):
        convert(copy, tmp_path / "model.gguf", "float32")
    assert "OurOwnForCausalLM" not in architectures()
    assert {"LlamaForCausalLM", "Qwen3ForCausalLM", "FalconH1ForCausalLM"} < architectures()


def test_a_tensor_without_a_place_is_refused(copy, tmp_path):
    state = load_file(copy / WEIGHTS)
    state["model.layers.0.mlp.extra.weight"] = torch.zeros(4, 4)
    save_file(state, copy / WEIGHTS)
    with pytest.raises(EngineError, match=r"model\.layers\.0\.mlp\.extra\.weight.*another engine"):
        convert(copy, tmp_path / "model.gguf", "float32")


def test_code_of_a_tokenizer_is_not_run(copy, tmp_path):
    """A method of the conversion for some models loads the tokenizer with its code."""
    settings = copy / "tokenizer_config.json"
    settings.write_text('{"auto_map": {"AutoTokenizer": ["ours.Own", null]}}')
    (copy / "ours.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Own: pass\n")
    configure(copy, architectures=["QWenLMHeadModel"])
    with pytest.raises(EngineError):
        convert(copy, tmp_path / "model.gguf", "float32")
    assert not (tmp_path / "ran").exists()


def test_a_tokenizer_without_bytes_is_left_out(copy, tmp_path):
    path = copy / "tokenizer.json"
    path.write_text(path.read_text().replace("ByteLevel", "Metaspace"))
    out = tmp_path / "model.gguf"
    convert(copy, out, "float32")
    field = gguf.GGUFReader(out).get_field("tokenizer.ggml.model")
    assert field is not None
    assert field.contents() == "none"


def test_the_vocabulary_is_that_of_tokenizer_json(copy, tmp_path):
    """transformers takes a class for Llama that adds tokens, unless a file says otherwise."""
    (copy / "tokenizer_config.json").unlink()
    out = tmp_path / "model.gguf"
    convert(copy, out, "float32")
    tokens = gguf_header.read(out).values["tokenizer.ggml.tokens"]
    assert {text: n for n, text in enumerate(tokens)} == load_tokenizer(copy).get_vocab()
