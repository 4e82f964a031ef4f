"""ONNX Runtime GenAI: Microsoft's own generation loop.

It runs in a separate environment, because it installs another build of ONNX Runtime, and selects
each prompt's last position itself.
"""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from slm_energy import cache
from slm_energy.cell import Settings
from slm_energy.engines import decode, precision
from slm_energy.engines.base import Batch, Completion, EngineSpec, LoadRequest, threads
from slm_energy.engines.onnx import weights
from slm_energy.engines.onnx.genai_folder import builds, entry_path, needs_preparation, prepare
from slm_energy.errors import EngineError, one_line
from slm_energy.models.folder import graph_context
from slm_energy.serialization import Json


def _library() -> Any:
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # see `session.library`
    import onnxruntime_genai

    return onnxruntime_genai


class GenaiEngine:
    """An ONNX Runtime GenAI model over the exported graph."""

    def load(self, request: LoadRequest) -> dict[str, Json]:
        """Load the graph and configuration that `prepare` made, and run one token through it.

        The library does not report its number of threads or its type: the requested number and the
        type of the graph are reported instead.

        Raises:
            EngineError: nothing is prepared, the library rejects it, or a padded batch computes
                something else (checked if workload.batch_size is above 1).
        """
        folder = entry_path(request)
        facts = cache.facts(folder)
        self.open(folder, int(str(facts["reserved_id"])), request.settings)
        self._eos_ids = request.eos_ids
        padded = None
        if request.settings.workload.batch_size > 1:
            padded = self._require_batches(request.settings.engine.dtype)
        else:
            self._start(Batch(prompts=((0,),), new_tokens=1, stop="fixed"))
        return {
            "provider": self._model.device_type.lower(),
            "dtype": facts["dtype"],
            "weights": facts["weights"],
            "threads": threads(request.settings),
            "spinning": _spins(request.settings),
            "told_by_runtime": ["provider"],
            "graph": "builder" if builds(request.settings) else "exported",
            "kv_cache": True,
            "attention": facts["attention"],
            "export_deviation": facts["deviation"],
            "unused_weights": facts.get("unused_weights"),
            "padding_deviation": padded,
            "exported_by": facts["versions"],
            "context": graph_context(request.model_path),
            "decode": request.settings.engine.decode,
        }

    def open(self, folder: Path, reserved: int, settings: Settings) -> None:
        """Open a graph and its configuration.

        Args:
            folder: of both.
            reserved: the token that the library masks.
            settings: with threads and spinning.

        Raises:
            EngineError: the library rejects them.
        """
        onnxruntime_genai = _library()
        session = {
            "intra_op_num_threads": threads(settings),
            "session.intra_op.allow_spinning": str(int(_spins(settings))),
        }
        config = onnxruntime_genai.Config(str(folder))
        config.overlay(json.dumps({"model": {"decoder": {"session_options": session}}}))
        try:
            self._model = onnxruntime_genai.Model(config)
        except RuntimeError as error:
            raise EngineError(
                f"engine.name=onnxruntime_genai: {folder} cannot be opened: {one_line(error)}"
            ) from error
        self._reserved = reserved

    def generate(self, batch: Batch) -> list[Completion]:
        """Decode greedily.

        Raises:
            EngineError: NaN logits, or the reserved token is read or generated.
        """
        generator = self._start(batch)
        answers = decode.collect(self._steps(generator), batch, self._eos_ids)
        # An earlier NaN stays in the cache and makes every later logit NaN.
        if np.isnan(generator.get_output("logits")).any():
            raise EngineError("NaN logits: try engine.dtype=float32, or another model.source")
        return answers

    def close(self) -> None:
        """Drop the model."""
        del self._model

    def _start(self, batch: Batch) -> Any:
        """Return a generator that has processed the prompts."""
        import onnxruntime_genai

        ids = right_padded(batch.prompts, self._reserved)
        parameters = onnxruntime_genai.GeneratorParams(self._model)
        parameters.set_search_options(
            do_sample=False, batch_size=len(ids), max_length=ids.shape[1] + batch.new_tokens
        )
        generator = onnxruntime_genai.Generator(self._model, parameters)
        generator.append_tokens(ids)
        return generator

    def _require_batches(self, dtype: str) -> float:
        """Compare a padded batch, and one further token, with each prompt alone, by their logits.

        The library pads on the right: a graph that counts positions itself counts the padding, too.

        Returns:
            The largest difference as a share of the largest logit.

        Raises:
            EngineError: it is larger than the tolerance, or there are NaN logits.
        """
        prompts = decode.probe(self._reserved).prompts
        generator = self._start(Batch(prompts=prompts, new_tokens=2, stop="fixed"))
        together = [generator.get_logits().copy()]
        ids = next(self._steps(generator))
        together.append(generator.get_logits())
        longer = tuple((*prompt, token) for prompt, token in zip(prompts, ids, strict=True))
        largest = decode.deviation(together, [self.alone(prompts), self.alone(longer)])
        if largest > decode.TOLERANCE[dtype]:
            raise EngineError(
                f"engine.name=onnxruntime_genai: a padded batch differs by {largest:.1e} of the"
                " largest logit from its prompts alone: set workload.batch_size=1",
                permanent=True,
            )
        return largest

    def alone(self, prompts: tuple[tuple[int, ...], ...]) -> Any:
        """Logits (b, 1, vocabulary) after each prompt, computed one by one."""
        batches = (Batch(prompts=(prompt,), new_tokens=1, stop="fixed") for prompt in prompts)
        return np.concatenate([self._start(batch).get_logits() for batch in batches])

    def _steps(self, generator: Any) -> Iterator[list[int]]:
        while True:
            generator.generate_next_token()
            column: list[int] = generator.get_next_tokens().tolist()
            if self._reserved in column:
                raise _reserved_token_error(self._reserved)
            yield column


def right_padded(prompts: tuple[tuple[int, ...], ...], reserved: int) -> Any:
    """Pad prompts on the right with `reserved`, the token that the library masks.

    Returns:
        Token ids (b, longest).

    Raises:
        EngineError: a prompt contains the reserved token.
    """
    ids = np.full((len(prompts), max(map(len, prompts))), reserved, dtype=np.int32)
    for row, prompt in enumerate(prompts):
        if reserved in prompt:
            raise _reserved_token_error(reserved)
        ids[row, : len(prompt)] = prompt
    return ids


def _reserved_token_error(reserved: int) -> EngineError:
    return EngineError(
        f"engine.name=onnxruntime_genai: token {reserved} occurs, which is reserved as padding"
        " and end-of-text token: use engine.name=onnx",
        permanent=True,
    )


def unsupported(settings: Settings) -> str | None:
    """Why these settings cannot run here, or None."""
    if importlib.util.find_spec("onnxruntime_genai") is None:
        return (
            "engine onnxruntime_genai needs a separate environment: slm-energy env create"
            " onnxruntime_genai, then engine.python=onnxruntime_genai"
        )
    if settings.engine.decode != "generate":
        return "engine onnxruntime_genai supports only its own loop: set engine.decode=generate"
    if settings.provider.name != "cpu":
        return f"engine onnxruntime_genai has no provider {settings.provider.name}: use cpu"
    if builds(settings) and importlib.util.find_spec("torch") is None:
        return (
            "engine.options.graph=builder needs torch and transformers in the environment:"
            " slm-energy env remove onnxruntime_genai, then env create onnxruntime_genai"
        )
    return precision.ineffective(settings.engine.dtype, settings.engine.options)


def _spins(settings: Settings) -> bool:
    return settings.engine.options.get("spinning", "on") == "on"


ENGINE = EngineSpec(
    name="onnxruntime_genai",
    packages=("onnxruntime-genai", "onnxruntime", "onnxruntime-gpu"),
    create=GenaiEngine,
    imports=lambda settings: _library(),
    unsupported=unsupported,
    needs_preparation=needs_preparation,
    prepare=lambda request: prepare(request, GenaiEngine()),
    prepares_in_sweep=lambda settings: not builds(settings),
    options={
        "graph": ("exported", "builder"),
        "spinning": ("on", "off"),
        "scheme": precision.SCHEMES,
        "group_size": weights.GROUP_SIZES,
    },
    dtypes=("float32", "int8", "int4"),
)
