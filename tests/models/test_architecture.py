import dataclasses
from typing import Any

import pytest

from slm_energy.errors import ModelError
from slm_energy.models.architecture import disagreement, shrink
from tests.shipped import MODELS, shipped

LLAMA = {
    "model_type": "llama",
    "vocab_size": 32000,
    "max_position_embeddings": 2048,
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "num_hidden_layers": 22,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "rope_scaling": None,
    "attention_bias": False,
    "tie_word_embeddings": False,
    "hidden_act": "silu",
}
LINEAR = {"type": "linear", "factor": 4.0}


@dataclasses.dataclass(frozen=True)
class Shape:
    """The numbers of a config.json under one name each."""

    layers: int
    hidden: int
    heads: int
    key_heads: int
    inner: int

    @classmethod
    def of(cls, config: dict[str, Any]) -> "Shape":
        hidden = config.get("hidden_size") or config["n_embd"]
        heads = config.get("num_attention_heads") or config["n_head"]
        return cls(
            layers=config.get("num_hidden_layers") or config["n_layer"],
            hidden=hidden,
            heads=heads,
            key_heads=config.get("num_key_value_heads") or heads,
            inner=config.get("intermediate_size") or config.get("n_inner") or 4 * hidden,
        )


@pytest.mark.parametrize("name", MODELS)
def test_a_tiny_model_has_the_ratios_of_the_full_one(name):
    full = shipped(name).architecture
    tiny = shrink(full, 4096)
    old, new = Shape.of(full), Shape.of(tiny)
    assert new.layers == 2
    assert 64 <= new.hidden <= 384
    assert new.hidden % 32 == new.inner % 32 == 0
    assert new.heads / new.key_heads == old.heads / old.key_heads
    assert (new.key_heads == 1) == (old.key_heads == 1)
    assert new.inner / new.hidden == pytest.approx(old.inner / old.hidden, rel=0.15)
    head_dim = tiny.get("head_dim", new.hidden // new.heads)
    assert head_dim % 8 == 0
    share = full.get("rotary_pct", full.get("partial_rotary_factor", 1.0))
    assert share * head_dim % 2 == 0


@pytest.mark.parametrize("name", MODELS)
def test_a_tiny_model_has_the_switches_of_the_full_one(name):
    full = shipped(name).architecture
    tiny = shrink(full, 4096)
    assert list(tiny)[: len(full)] == list(full)
    same = {key for key in full if tiny[key] == full[key]}
    assert {key for key in full if not isinstance(full[key], int | list)} - same <= {
        "attention_multiplier",
        "rope_scaling",  # fewer factors
    }
    assert {key for key in full if isinstance(full[key], bool)} <= same
    assert "architectures" in same


def test_a_tiny_model_keeps_one_layer_of_each_kind():
    for name, key, kinds in [
        ("smollm3-3b", "no_rope_layers", [1, 0]),
        ("gemma-3-1b", "layer_types", ["full_attention", "sliding_attention"]),
        ("granite-4.0-h-micro", "layer_types", ["attention", "mamba"]),
        ("granite-4.0-micro", "layer_types", ["attention", "attention"]),
        ("lfm2-1.2b", "layer_types", ["full_attention", "conv"]),
    ]:
        assert shrink(shipped(name).architecture, 4096)[key] == kinds


def test_a_tiny_model_has_one_long_rope_factor_for_each_rotated_pair():
    tiny = shrink(shipped("phi-4-mini").architecture, 4096)
    scaling = tiny["rope_scaling"]
    assert len(scaling["short_factor"]) == len(scaling["long_factor"]) == 0.75 * 16 / 2
    assert tiny["original_max_position_embeddings"] < tiny["max_position_embeddings"]


def test_what_depends_on_a_width_shrinks_with_it():
    assert shrink(shipped("codegen-350m").architecture, 4096)["rotary_dim"] == 8
    assert shrink(shipped("starcoder2-3b").architecture, 4096)["sliding_window"] == 128
    assert shrink(shipped("granite-3-2b").architecture, 4096)["attention_multiplier"] == 1 / 16


def test_a_number_that_is_needed_is_named():
    with pytest.raises(ModelError, match=r"model\.architecture\.hidden_size, or n_embd"):
        shrink({"model_type": "llama", "num_attention_heads": 4}, 4096)


@pytest.mark.parametrize("name", MODELS)
def test_an_architecture_agrees_with_itself(name):
    architecture = shipped(name).architecture
    assert disagreement(architecture, architecture) is None


def test_nothing_asked_agrees_with_everything():
    assert disagreement({}, LLAMA) is None


@pytest.mark.parametrize(
    ("key", "stored"),
    [
        ("num_hidden_layers", 24),
        ("rms_norm_eps", 1e-6),
        ("attention_bias", True),
        ("tie_word_embeddings", True),
        ("rope_theta", 1e6),
        ("rope_scaling", LINEAR),
    ],
)
def test_a_number_or_switch_that_differs_is_told(key, stored):
    assert disagreement(LLAMA, LLAMA | {key: stored}) == (key, LLAMA[key], stored)


def test_another_family_is_told_first():
    assert disagreement(LLAMA, {"model_type": "qwen2"}) == ("model_type", "llama", "qwen2")


@pytest.mark.parametrize(
    "stored",
    [
        {"hidden_act": "swish"},
        {"bos_token_id": 1, "transformers_version": "4.31.0", "torch_dtype": "float16"},
        {"rope_theta": 10000},
        {"max_position_embeddings": 2048.0},
    ],
)
def test_what_does_not_shape_the_computation_may_differ(stored):
    assert disagreement(LLAMA, LLAMA | stored) is None


def test_a_key_that_is_left_out_has_the_default_of_its_class():
    written = {key: value for key, value in LLAMA.items() if key != "rope_theta"}
    assert disagreement(LLAMA, written) is None
    asked = LLAMA | {"rope_theta": 100000.0}
    assert disagreement(asked, written) == ("rope_theta", 100000.0, 10000.0)


def test_a_default_of_all_classes_counts_too():
    asked = shipped("starcoder2-3b").architecture
    written = {key: value for key, value in asked.items() if key != "tie_word_embeddings"}
    assert disagreement(asked, written) is None
    assert disagreement(asked | {"tie_word_embeddings": False}, written) is not None


def test_a_value_that_the_class_computes_may_be_left_out():
    asked = shipped("phi-2").architecture
    written = {key: value for key, value in asked.items() if key != "num_key_value_heads"}
    assert disagreement(asked, written) is None


def test_old_names_are_understood():
    asked = shipped("bloomz-560m").architecture
    old = {"n_embed": asked["hidden_size"], "num_attention_heads": asked["n_head"]}
    written = {k: v for k, v in asked.items() if k not in ("hidden_size", "n_head")} | old
    assert disagreement(asked, written) is None
    assert disagreement(asked, written | {"n_embed": 512}) == ("hidden_size", 1024, 512)


@pytest.mark.parametrize("scaling", [None, LINEAR])
def test_what_transformers_5_writes_is_understood(scaling):
    asked = LLAMA | {"rope_scaling": scaling}
    rotary = {"rope_type": "default"} if scaling is None else {"rope_type": "linear", "factor": 4.0}
    written = {k: v for k, v in asked.items() if not k.startswith("rope")}
    written |= {"rope_parameters": rotary | {"rope_theta": 10000.0}}
    assert disagreement(asked, written) is None
    other = None if scaling else LINEAR
    assert disagreement(asked | {"rope_scaling": other}, written) is not None
