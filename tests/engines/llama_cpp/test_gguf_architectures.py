"""What config.json says, in the words of llama.cpp; what it cannot say is refused."""

import shutil
from pathlib import Path

import gguf
import pytest

from slm_energy.engines.llama_cpp.gguf_export import convert
from slm_energy.errors import EngineError
from tests.engines.llama_cpp.conftest import configure


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("tinyllama-1.1b", {"model_type": "mamba"}, "not support architecture mamba"),
        ("tinyllama-1.1b", {"hidden_act": "relu"}, "where hidden_act=relu"),
        ("tinyllama-1.1b", {"rope_scaling": {"rope_type": "yarn"}}, "rope scaling 'yarn'"),
        ("tinyllama-1.1b", {"hidden_size": None}, "lacks hidden_size or n_embd"),
        ("codeparrot-small", {"scale_attn_weights": False}, "where scale_attn_weights=False"),
        ("tiny_starcoder_py", {"multi_query": False}, "where multi_query=False"),
        ("smollm3-3b", {"no_rope_layers": [0, 1]}, r"where no_rope_layers=\[0, 1\]"),
        ("phi-2", {"qk_layernorm": True}, "where qk_layernorm=True"),
    ],
)
def test_what_llama_cpp_computes_differently_is_refused(twin, tmp_path, name, changes, reason):
    folder = configure(Path(shutil.copytree(twin(name), tmp_path / "model")), **changes)
    with pytest.raises(EngineError, match=reason) as caught:
        convert(folder, tmp_path / "model.gguf", "float32")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "model.gguf").exists()


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 2}},
        {"rope_parameters": {"rope_theta": 5e5, "rope_type": "linear", "factor": 2.0}},
    ],
)
def test_positions_are_read_from_configs_of_transformers_4_and_5(copy, tmp_path, rope):
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
