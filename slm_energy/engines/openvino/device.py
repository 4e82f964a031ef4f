"""The devices on which OpenVINO computes, and the properties with which it does.

Every precision is set, because the library's defaults depend on the processor (bfloat16 where
supported) and keep the cache in 8 bits; every setting is read back from the compiled model.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from slm_energy import machine
from slm_energy.errors import EngineError

DEVICES = {"cpu": "CPU", "openvino_gpu": "GPU", "openvino_npu": "NPU"}
PRECISIONS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"} | dict.fromkeys(
    ("int8", "int4"), "f32"
)
"""Precision of activations and cache per type; with int8 and int4 only weights have fewer bits."""

_AMX = {"bf16": "amx_bf16", "f16": "amx_fp16"}
"""Features of processors whose matrix units compute in these precisions."""


def library() -> Any:
    """Import openvino without its telemetry, which writes to the home folder and uses the network.

    openvino and nncf work without the package `openvino_telemetry` where it cannot be imported.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def device_name(provider: str, index: int) -> str:
    """Return OpenVINO's name of a device; a processor has no index."""
    kind = DEVICES[provider]
    return kind if kind == "CPU" else f"{kind}.{index}"


def device_type(provider: str, index: int) -> str:
    """`integrated` with the processor or `discrete`: decides which sensors contain its energy.

    https://docs.openvino.ai/2025/openvino-workflow/running-inference/inference-devices-and-modes/query-device-properties.html
    """
    # An enumeration's member: Type.INTEGRATED.
    kind = library().Core().get_property(device_name(provider, index), "DEVICE_TYPE")
    return str(kind).rpartition(".")[2].lower()


def missing(provider: str, index: int, dtype: str, threads: int) -> str | None:
    """Return why this machine cannot compute a type on a device, or None. Takes about 0.4 s."""
    core, device = library().Core(), device_name(provider, index)
    try:
        capabilities = core.get_property(device, "OPTIMIZATION_CAPABILITIES")
    except RuntimeError:
        available = ", ".join(core.available_devices)
        return f"provider.name={provider}: OpenVINO finds no {device} here, only {available}"
    needed = {"f32": "FP32", "bf16": "BF16", "f16": "FP16"}[PRECISIONS[dtype]]
    if needed not in capabilities:
        return f"engine openvino with engine.dtype={dtype}: not supported by {device} here"
    if (
        device == "CPU"
        and threads == 1
        and _AMX.get(PRECISIONS[dtype]) in machine.processor_flags()
    ):
        return (
            f"engine openvino with engine.dtype={dtype} and one thread: on a processor with AMX"
            " OpenVINO divides by half the number of threads, which ends the process: set"
            " engine.threads=2"
        )
    return None


def properties(dtype: str, threads: int) -> dict[str, str]:
    """Properties to compile with: one request at a time, in exactly the requested precision."""
    precision = PRECISIONS[dtype]
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": "1",
        "INFERENCE_NUM_THREADS": str(threads),
        "INFERENCE_PRECISION_HINT": precision,
        "KV_CACHE_PRECISION": precision,
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",  # otherwise activations are rounded to 8 bits
    }


def in_force(compiled: Any, requested: Mapping[str, str]) -> dict[str, str | None]:
    """Read the requested settings back from a compiled model.

    Returns:
        Name in lower case to value; None for one that the device does not support.

    Raises:
        EngineError: one of them is not as requested.
    """
    supported = compiled.get_property("SUPPORTED_PROPERTIES")
    values: dict[str, str | None] = {}
    for name, value in requested.items():
        actual = _property(compiled, name) if name in supported else None
        if actual not in (None, value):
            raise EngineError(
                f"engine.name=openvino: {name} was set to {value}, but is {actual}: choose another"
                " engine.dtype or engine.threads"
            )
        values[name.lower()] = actual
    return values


def devices(compiled: Any) -> list[str]:
    """The devices that execute a compiled model."""
    return [str(name) for name in compiled.get_property("EXECUTION_DEVICES")]


def _property(compiled: Any, name: str) -> str:
    value = compiled.get_property(name)
    if hasattr(value, "get_type_name"):
        return str(value.get_type_name())
    return str(getattr(value, "name", value))
