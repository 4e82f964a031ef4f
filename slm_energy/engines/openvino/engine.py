"""OpenVINO on a processor or an Intel GPU or NPU, with a model that is exported once.

With `decode=session` the worker imports neither torch nor transformers, and logits are computed
for the last position alone. With `decode=generate` optimum-intel's `OVModelForCausalLM` serves the
same export, as its users run it.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from slm_energy import cache
from slm_energy.cell import Settings
from slm_energy.config.groups import Dtype
from slm_energy.devices import drm
from slm_energy.engines import decode, precision
from slm_energy.engines.base import Batch, Completion, EngineSpec, LoadRequest, threads
from slm_energy.engines.openvino import decoding, device, weights
from slm_energy.engines.openvino import export as exports
from slm_energy.engines.openvino.compile import compile_graph, operators
from slm_energy.errors import EngineError
from slm_energy.models.folder import graph_context
from slm_energy.serialization import Json

_EXTRA = "pip install 'slm-energy[openvino]'"


_COMPUTED = {"int8": {"i8"}, "int4": {"i4", "u4"}}
"""How the device's linear layers call quantized weights."""


class OpenVinoEngine:
    """A compiled OpenVINO model."""

    def load(self, request: LoadRequest) -> dict[str, Json]:
        """Compile the exported model for the requested device.

        Raises:
            EngineError: the model was not exported yet, or the settings in force differ from the
                requested ones.
        """
        engine, provider = request.settings.engine, request.settings.provider
        folder = exports.cache_folder(request)
        exported = cache.facts(folder)
        self._eos_ids = request.eos_ids
        properties = device.properties(engine.dtype, threads(request.settings))
        compiled, in_force, cut = compile_graph(
            folder / exports.GRAPH,
            device.device_name(provider.name, provider.device),
            properties,
            last_position_only=engine.decode == "session",
            paged=bool(exported["paged"]),
        )
        thread_count = in_force["inference_num_threads"]
        linear, fused = operators(compiled)
        self._request: Any = compiled.create_infer_request()
        self._model: Any = None
        if engine.decode == "generate":
            self._model = _convenience(folder, compiled)
        return {
            "provider": _provider(compiled, provider.name),
            "devices": device.devices(compiled),
            **_device_identity(provider.name, provider.device),
            "dtype": _dtype(engine.dtype, linear),
            "linear_layers": linear,
            "weights": exported["weights"],
            "threads": None if thread_count is None else int(thread_count),
            "kv_cache": decoding.has_cache(self._request),
            "attention_paged": decoding.is_paged(self._request),
            "attention": exported["attention"],
            "attention_fused": fused,
            "logits_of": "last position" if cut else "all positions",
            "export_deviation": exported["deviation"],
            "unused_weights": exported.get("unused_weights"),
            "context": graph_context(request.model_path),
            "decode": engine.decode,
            **in_force,
        }

    def generate(self, batch: Batch) -> list[Completion]:
        """Decode greedily.

        Raises:
            EngineError: NaN logits.
        """
        if self._model is not None:
            return decode.generate(self._model, batch, self._eos_ids, self._model.device)
        return decode.greedy(decoding.decoding(self._request, batch), batch, self._eos_ids)

    def close(self) -> None:
        """Drop the compiled model."""
        del self._model, self._request


def _convenience(folder: Path, compiled: Any) -> Any:
    model_class, config_class = _classes()
    config = config_class.from_pretrained(folder, local_files_only=True)
    model = model_class(compiled, config=config, compile_only=True)
    decode.prepare_generate(model)
    return model


def _classes() -> tuple[Any, Any]:
    decode.skip_extras()
    from optimum.intel import OVModelForCausalLM
    from transformers import AutoConfig

    return OVModelForCausalLM, AutoConfig


def _imports(settings: Settings) -> None:
    device.library()
    if settings.engine.decode == "generate":
        _classes()


def _provider(compiled: Any, requested: str) -> str:
    """Read the provider from the devices that execute.

    Raises:
        EngineError: they are not the requested ones.
    """
    kind, executing = device.DEVICES[requested], device.devices(compiled)
    if not all(name.partition(".")[0] == kind for name in executing):
        raise EngineError(f"provider.name={requested}: OpenVINO executes on {', '.join(executing)}")
    return requested


def _device_identity(provider: str, index: int) -> dict[str, Json]:
    """Which GPU it is: `device_type`, integrated or discrete, and `device_pci`, its address."""
    if provider != "openvino_gpu":
        return {}
    return {"device_type": device.device_type(provider, index), **drm.identity()}


def _dtype(requested: Dtype, linear: dict[str, int]) -> Dtype:
    """Read the type from the precision of the device's linear layers.

    Raises:
        EngineError: it is not the requested one.
    """
    expected = _COMPUTED.get(requested, {device.PRECISIONS[requested]})
    if not linear or not set(linear) <= expected:
        raise EngineError(
            f"engine.dtype={requested}: OpenVINO computes linear layers in"
            f" {', '.join(sorted(linear)) or 'an unknown precision'}: choose another engine.dtype",
            permanent=True,
        )
    return requested


def unsupported(settings: Settings) -> str | None:
    """Why these settings cannot run here, or None."""
    engine, provider = settings.engine, settings.provider
    if provider.name not in device.DEVICES:
        known = ", ".join(device.DEVICES)
        return f"engine openvino has no provider {provider.name}: use one of {known}"
    missing = [name for name, version in ENGINE.versions().items() if version == "absent"]
    for name in ("openvino", "torch", "transformers"):
        if name in missing:
            return f"engine openvino needs {name}: {_EXTRA}"
    if "optimum-intel" in missing and engine.decode == "generate":
        return f"engine openvino with engine.decode=generate needs optimum-intel: {_EXTRA}"
    if "optimum-intel" in missing and not _transformers_exports():
        return f"engine openvino needs optimum-intel to export models: {_EXTRA}"
    if "nncf" in missing and precision.is_quantized(engine.dtype):
        return f"engine openvino with engine.dtype={engine.dtype} needs nncf: {_EXTRA}"
    if provider.name != "cpu" and precision.is_quantized(engine.dtype):
        return f"engine openvino with engine.dtype={engine.dtype}: it can be read back only on cpu"
    if (reason := precision.ineffective(engine.dtype, engine.options)) is not None:
        return reason
    if provider.name == "cpu" and device.PRECISIONS[engine.dtype] == "f32":
        return None  # every processor supports it: no need to load openvino
    return device.missing(provider.name, provider.device, engine.dtype, threads(settings))


def _transformers_exports() -> bool:
    """Return whether transformers has its own exporters, without importing it."""
    spec = importlib.util.find_spec("transformers")
    return bool(spec and spec.origin and (Path(spec.origin).parent / "exporters").is_dir())


ENGINE = EngineSpec(
    name="openvino",
    packages=exports.PACKAGES,
    create=OpenVinoEngine,
    imports=_imports,
    unsupported=unsupported,
    needs_preparation=exports.needed,
    prepare=exports.export,
    options={"scheme": precision.SCHEMES, "group_size": weights.GROUP_SIZES},
    dtypes=("float32", "bfloat16", "float16", "int8", "int4"),
)
