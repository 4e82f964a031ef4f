"""TorchScript: a graph traced once, with keys and values as inputs and outputs.

The worker reads the graph and imports neither transformers nor Python code of the model. Tracing
happens in the prepare step (`trace`).
"""

from __future__ import annotations

import importlib

from slm_energy import cache
from slm_energy.cell import Settings
from slm_energy.engines.base import Batch, Completion, EngineSpec, LoadRequest
from slm_energy.engines.torch import trace
from slm_energy.engines.torch.decoding import greedy
from slm_energy.engines.torch.device import device_identity, set_up, synchronize
from slm_energy.engines.torch.eager import library_unsupported
from slm_energy.errors import EngineError
from slm_energy.models.folder import graph_context
from slm_energy.serialization import Json


class TorchScriptEngine:
    """A traced module."""

    def load(self, request: LoadRequest) -> dict[str, Json]:
        """Load the traced module onto the requested device.

        Raises:
            EngineError: the model was not traced yet, or the trace cannot be read.
        """
        import torch

        device = set_up(request.settings)
        folder = trace.entry_path(request)
        facts = cache.facts(folder)
        self._eos_ids = request.eos_ids
        self._module = trace.read(folder, device)
        first = next(self._module.parameters())
        if first.device != device:
            raise EngineError(
                f"provider.name={request.settings.provider.name}: weights are on {first.device}"
            )
        self._empty_caches = trace.empty_caches(facts, first)
        with torch.inference_mode():
            decoding = trace.Decoding(
                self._module, self._empty_caches, Batch(prompts=((1,),), new_tokens=1, stop="fixed")
            )
            decoding.prefill()
        synchronize(device)
        return {
            "provider": first.device.type,
            "device": str(first.device),
            **device_identity(first.device),
            "dtype": "/".join(sorted({str(p.dtype)[6:] for p in self._module.parameters()})),
            **({"weights": facts["weights"]} if "weights" in facts else {}),
            "unused_weights": facts.get("unused_weights"),
            "threads": torch.get_num_threads(),
            "kv_cache": decoding.caches[0].shape[2] == 1,
            "attention": facts["attention"],
            "trace_deviation": facts["deviation"],
            "context": graph_context(request.model_path),
            "decode": request.settings.engine.decode,
        }

    def generate(self, batch: Batch) -> list[Completion]:
        """Decode greedily.

        Raises:
            EngineError: NaN logits.
        """
        decoding = trace.Decoding(self._module, self._empty_caches, batch)
        return greedy(decoding, batch, self._eos_ids)

    def close(self) -> None:
        """Drop the module."""
        del self._module


def unsupported(settings: Settings) -> str | None:
    """Why these settings cannot run here, or None."""
    if settings.engine.decode == "generate":
        return "engine torchscript with engine.decode=generate: use engine.decode=session"
    return library_unsupported(settings)


def _needs_preparation(request: LoadRequest) -> bool:
    return not cache.intact(trace.entry_path(request))


ENGINE = EngineSpec(
    name="torchscript",
    packages=("torch", "transformers"),
    create=TorchScriptEngine,
    imports=lambda settings: importlib.import_module("torch"),
    unsupported=unsupported,
    needs_preparation=_needs_preparation,
    prepare=trace.trace,
    dtypes=("float32", "bfloat16", "float16"),
)
