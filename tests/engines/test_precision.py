"""One summary of the weights for all engines."""

import pytest

from slm_energy.engines.precision import Tensor, computed, describe, is_quantized

NORM = Tensor(part="other", weights=10, bytes=40, name="norm")
EMBEDDING = Tensor(part="embedding", weights=1000, bytes=4000, name="embedding")
NARROW = Tensor(part="layers", weights=640, bytes=320 + 40, name="mlp")
WIDE = Tensor(part="layers", weights=64, bytes=256, name="odd")


def test_bits_contain_the_scales():
    weights = describe([NARROW], activations="float32", method="round to nearest")["weights"]
    assert weights["bits_per_weight"] == weights["bits"]["layers"] == 4.5
    assert weights["bytes"] == 360


def test_parts_and_single_layers_that_stayed_wide_are_named():
    tensors = [NORM, EMBEDDING, NARROW, WIDE]
    weights = describe(tensors, activations="float32", method="round to nearest")["weights"]
    assert weights["unquantized"] == ["odd", "embedding", "other"]
    assert weights["bits"]["embedding"] == 32


def test_nothing_is_unquantized_where_nothing_was_to_be_quantized():
    assert describe([EMBEDDING], activations="float32")["weights"]["unquantized"] == []


@pytest.mark.parametrize(
    ("dtype", "quantized", "expected"),
    [
        ("float32", False, "float32"),
        ("bfloat16", False, "bfloat16"),
        ("int8", True, "float32"),
        ("int4", True, "float32"),
        ("stored", True, "float32"),
    ],
)
def test_what_is_not_quantized_is_computed_in_float32(dtype, quantized, expected):
    assert (is_quantized(dtype), computed(dtype)) == (quantized, expected)
