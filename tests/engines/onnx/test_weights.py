"""What a graph is said to store, by the operators that are in it."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from slm_energy.engines.onnx.external_data import GRAPH
from slm_energy.engines.onnx.weights import describe

INPUTS, OUTPUTS, GROUP = 64, 32, 32


def write_product(folder, bits: int) -> None:
    """A graph of one `MatMulNBits`, as ONNX Runtime GenAI's builder writes them."""
    packed = np.zeros((OUTPUTS, INPUTS // GROUP, GROUP * bits // 8), np.uint8)
    scales = np.ones(OUTPUTS * INPUTS // GROUP, np.float32)
    node = helper.make_node(
        "MatMulNBits", ["hidden", "packed", "scales"], ["logits"], "product",
        domain="com.microsoft", K=INPUTS, N=OUTPUTS, bits=bits, block_size=GROUP, accuracy_level=4,
    )  # fmt: skip
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [node], "product", [value("hidden", TensorProto.FLOAT, [1, INPUTS])],
        [value("logits", TensorProto.FLOAT, [1, OUTPUTS])],
        [numpy_helper.from_array(packed, "packed"), numpy_helper.from_array(scales, "scales")],
    )  # fmt: skip
    onnx.save(helper.make_model(graph), folder / GRAPH)


@pytest.mark.parametrize("bits", [8, 4])
def test_products_in_groups_are_counted_whatever_their_bits(tmp_path, bits):
    write_product(tmp_path, bits)
    facts = describe(tmp_path, f"int{bits}")
    assert (facts["linear_layers"], facts["quantized"]) == (1, 1)
    assert facts["weights"]["bits"] == {"head": bits + 1}  # a scale of 32 bits for 32 weights
    assert facts["weights"]["group_size"] == GROUP
    assert facts["weights"]["activations"] == "int8 in blocks of a group"
