"""ONNX Runtime's execution providers: which ones a build has, and which one computes each node."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from slm_energy.config.groups import ProviderConfig
from slm_energy.devices import cuda
from slm_energy.errors import EngineError
from slm_energy.serialization import Json

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
HEAVY = frozenset(
    {
        "MatMul", "Gemm", "FusedMatMul", "FusedGemm", "MatMulNBits", "Attention",
        "MultiHeadAttention", "GroupQueryAttention",
    }
)  # fmt: skip
"""Operators that do a language model's work; shapes and indices may stay on the CPU."""


class Node(NamedTuple):
    """A node of the optimized graph and the provider that computes it."""

    provider: str
    operator: str
    name: str


def missing(provider: ProviderConfig) -> str | None:
    """Why a provider cannot be used here, or None."""
    if provider.name not in PROVIDERS:
        return f"engine onnx has no provider {provider.name}: use {', '.join(PROVIDERS)}"
    folder = _package("onnxruntime")
    if folder is None:
        return "engine onnx needs onnxruntime: pip install 'slm-energy[onnx]'"
    if provider.name == "cpu":
        return None
    if not any((folder / "capi").glob(f"*onnxruntime_providers_{provider.name}*")):
        return (
            f"provider.name={provider.name}: this build of onnxruntime lacks it; uninstall it,"
            " then pip install onnxruntime-gpu"
        )
    if provider.name == "tensorrt" and _package("tensorrt_libs") is None:
        return "provider.name=tensorrt needs NVIDIA's libraries: pip install tensorrt-cu13-libs"
    return None


def chain(provider: ProviderConfig, tensorrt: dict[str, str] | None = None) -> list[Any]:
    """Providers to request from ONNX Runtime: the requested one first, then its fallbacks.

    Args:
        provider: the requested provider.
        tensorrt: options of the TensorRT provider.
    """
    cpu: list[Any] = [PROVIDERS["cpu"]]
    if provider.name == "cpu":
        return cpu
    device = {"device_id": str(provider.device)}
    # On by default, unlike in torch: products of float32 would lose 13 bits.
    fallbacks = [(PROVIDERS["cuda"], device | {"use_tf32": "0"}), *cpu]
    if provider.name == "cuda":
        return fallbacks
    return [(PROVIDERS["tensorrt"], device | (tensorrt or {})), *fallbacks]


def tf32(in_force: Mapping[str, Mapping[str, str]]) -> dict[str, Json]:
    """Effective setting `tf32`: whether float32 is multiplied as TF32; empty without a GPU.

    Args:
        in_force: options of the session's providers, as it reports them.
    """
    if PROVIDERS["cuda"] not in in_force:
        return {}
    # TensorRT has no option for it: NVIDIA's libraries read the environment.
    allowed = PROVIDERS["tensorrt"] in in_force and os.environ.get("NVIDIA_TF32_OVERRIDE") != "0"
    return {"tf32": allowed or in_force[PROVIDERS["cuda"]]["use_tf32"] != "0"}


def device_identity(in_force: Mapping[str, Mapping[str, str]]) -> dict[str, Json]:
    """`device_uuid` of the GPU that a session uses; empty without a GPU.

    Args:
        in_force: options of the session's providers, as it reports them.
    """
    cuda_options = in_force.get(PROVIDERS["cuda"])
    return cuda.identity(int(cuda_options["device_id"])) if cuda_options else {}


def nodes(session: Any) -> list[Node]:
    """All nodes of a session's graph that are assigned to a provider."""
    return [
        Node(graph.ep_name, node.op_type, node.name)
        for graph in session.get_provider_graph_assignment_info()
        for node in graph.get_nodes()
    ]


def placement(provider: str, in_force: Sequence[str], computed: Sequence[Node]) -> dict[str, Json]:
    """Check that the requested provider does the work.

    Args:
        provider: the requested provider.
        in_force: the session's providers, first choice first.
        computed: the graph's nodes.

    Returns:
        `providers` and `provider_node_share` for the effective settings.

    Raises:
        EngineError: the session fell back entirely, or for operators in `HEAVY`.
    """
    requested = PROVIDERS[provider]
    if in_force[0] != requested:
        raise EngineError(
            f"provider.name={provider}: ONNX Runtime fell back to {in_force[0]};"
            " check that its CUDA and cuDNN libraries load (worker.log names the one that failed)"
        )
    fallen_back = [
        node for node in computed if node.provider != requested and node.operator in HEAVY
    ]
    if fallen_back:
        example = fallen_back[0]
        raise EngineError(
            f"provider.name={provider}: {len(fallen_back)} of the graph's heavy nodes run on other"
            f" providers, for example {example.operator} {example.name!r} on {example.provider}:"
            " use another engine.dtype or provider.name=cpu",
            permanent=True,
        )
    share = sum(node.provider == requested for node in computed) / len(computed)
    return {"providers": list(in_force), "provider_node_share": share}


def _package(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)
    return None if spec is None or spec.origin is None else Path(spec.origin).parent
