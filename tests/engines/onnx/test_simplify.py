from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from slm_energy.engines.onnx.simplify import simplify


def constant(name: str, value: object) -> onnx.NodeProto:
    return helper.make_node(
        "Constant", [], [name], value=numpy_helper.from_array(np.array(value, dtype=np.int64))
    )


def dimension(source: str, axis: int, name: str) -> list[onnx.NodeProto]:
    """Nodes traced from `source.size(axis)`."""
    return [
        helper.make_node("Shape", [source], [f"{name}_shape"]),
        constant(f"{name}_axis", axis),
        helper.make_node("Gather", [f"{name}_shape", f"{name}_axis"], [name]),
    ]


def target(names: list[str]) -> list[onnx.NodeProto]:
    """Nodes traced from a tuple of sizes."""
    nodes = [constant("zero", [0])]
    nodes += [helper.make_node("Unsqueeze", [n, "zero"], [f"{n}_1"]) for n in names]
    return [*nodes, helper.make_node("Concat", [f"{n}_1" for n in names], ["target"], axis=0)]


def write(path: Path, nodes: list[onnx.NodeProto], before: list, after: list) -> Path:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, before)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, after)
    graph = helper.make_graph(nodes, "g", [x], [y])
    opset = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), path)
    return path


def operators(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(path).graph.node]


def run(path: Path, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


@pytest.fixture
def split_heads(tmp_path: Path) -> Path:
    """x.view(batch, length, 2, 4)."""
    nodes = dimension("x", 0, "b") + dimension("x", 1, "l")
    nodes += [constant("two", 2), constant("four", 4), *target(["b", "l", "two", "four"])]
    nodes += [helper.make_node("Reshape", ["x", "target"], ["y"])]
    return write(tmp_path / "g.onnx", nodes, ["b", "l", 8], ["b", "l", 2, 4])


def test_a_reshape_of_dynamic_batch_and_length_needs_no_arithmetic(split_heads):
    simplify(split_heads)
    assert operators(split_heads) == ["Reshape"]


@pytest.mark.parametrize("shape", [(1, 1, 8), (3, 5, 8), (2, 0, 8)])
def test_the_reshape_still_follows_its_input(split_heads, shape):
    x = np.random.default_rng(0).random(shape, dtype=np.float32)
    before = run(split_heads, x)
    simplify(split_heads)
    np.testing.assert_array_equal(run(split_heads, x), before)
    assert before.shape == (*shape[:2], 2, 4)


def test_an_expand_keeps_dynamic_dimensions(tmp_path):
    nodes = dimension("x", 0, "b") + dimension("x", 2, "l")
    nodes += [constant("three", 3), *target(["b", "three", "l"])]
    nodes += [helper.make_node("Expand", ["x", "target"], ["y"])]
    path = write(tmp_path / "g.onnx", nodes, ["b", 1, "l"], ["b", 3, "l"])
    simplify(path)
    assert operators(path) == ["Expand"]
    x = np.arange(8, dtype=np.float32).reshape(2, 1, 4)
    np.testing.assert_array_equal(run(path, x), np.repeat(x, 3, axis=1))


def test_half_of_a_fixed_dimension_is_a_constant(tmp_path):
    nodes = [*dimension("x", 2, "width"), constant("two", 2), constant("zero", [0])]
    nodes += [
        helper.make_node("Div", ["width", "two"], ["half"]),
        helper.make_node("Unsqueeze", ["half", "zero"], ["ends"]),
        constant("axes", [2]),
        helper.make_node("Slice", ["x", "zero", "ends", "axes"], ["y"]),
    ]
    path = write(tmp_path / "g.onnx", nodes, ["b", "l", 8], ["b", "l", 4])
    simplify(path)
    assert "Shape" not in operators(path)
    x = np.random.default_rng(0).random((2, 3, 8), dtype=np.float32)
    np.testing.assert_array_equal(run(path, x), x[:, :, :4])


def test_a_graph_with_branches_is_unchanged(tmp_path):
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    branch = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "branch", [], [y])
    condition = helper.make_node(
        "Constant", [], ["c"], value=numpy_helper.from_array(np.array(True))
    )
    choice = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    path = write(tmp_path / "g.onnx", [condition, choice], ["b"], ["b"])
    before = path.read_bytes()
    simplify(path)
    assert path.read_bytes() == before
