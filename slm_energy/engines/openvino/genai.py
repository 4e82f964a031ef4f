"""OpenVINO GenAI: Intel's own generation loop, over the graph that engine openvino exports.

`attention=paged` serves through the library's continuous batching, whose cache is in blocks;
`attention=sdpa` through its stateful pipeline, which tells the tokens of one request only. Both
take token ids, so no tokenizer is converted.

The library hands out no compiled model and no logits: properties are set as for engine openvino and
are reported as they were asked for (`told_by_runtime` is empty), and NaN is not noticed.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from slm_energy import cache, distributions, extras
from slm_energy.cell import Settings
from slm_energy.engines.base import Batch, Completion, EngineSpec, LoadRequest, left_padded, threads
from slm_energy.engines.ends import Ends
from slm_energy.engines.openvino import engine as plain
from slm_energy.engines.openvino import export as exports
from slm_energy.engines.openvino.device import library, properties
from slm_energy.engines.openvino.mapped_weights import releasing
from slm_energy.errors import EngineError, one_line
from slm_energy.models.folder import graph_context
from slm_energy.serialization import Json

_NO_LIMIT = 2**31 - 1


def _library() -> Any:
    library()  # without its telemetry
    import openvino_genai

    return openvino_genai


class OpenVinoGenaiEngine:
    """One of the library's pipelines over the exported graph."""

    def load(self, request: LoadRequest) -> dict[str, Json]:
        """Compile the exported model, and decode two tokens.

        Raises:
            EngineError: the model was not exported yet, cannot be served with its caches in blocks,
                or the library rejects it.
        """
        engine = request.settings.engine
        folder = exports.cache_folder(request)
        exported = cache.facts(folder)
        asked = properties(engine.dtype, threads(request.settings))
        self._eos_ids = request.eos_ids
        self._paged = engine.options.get("attention", "paged") == "paged"
        if self._paged and not exported["paged"]:
            raise EngineError(
                f"engine.options.attention=paged: rewriting {request.settings.model.name} to caches"
                " in blocks fails, or changes its logits: use sdpa",
                permanent=True,
            )
        try:
            with releasing((folder / exports.GRAPH).with_suffix(".bin")):
                self._pipeline = (_paged if self._paged else _stateful)(folder, asked)
                self.generate(Batch(prompts=((1,),), new_tokens=2, stop="fixed"))
        except RuntimeError as error:
            raise EngineError(
                f"engine.name=openvino_genai: {folder} cannot be opened: {one_line(error)}"
            ) from error
        return {
            "provider": "cpu",
            "dtype": engine.dtype,
            "weights": exported["weights"],
            "threads": int(asked["INFERENCE_NUM_THREADS"]),
            "told_by_runtime": [],
            "kv_cache": True,
            "attention": exported["attention"],
            "attention_backend": "paged" if self._paged else "sdpa",
            "export_deviation": exported["deviation"],
            "unused_weights": exported.get("unused_weights"),
            "context": graph_context(request.model_path),
            "decode": engine.decode,
            **{name.lower(): value for name, value in asked.items()},
        }

    def generate(self, batch: Batch) -> list[Completion]:
        """Decode greedily."""
        return (self._step_all if self._paged else self._stream_one)(batch)

    def close(self) -> None:
        """Drop the pipeline."""
        del self._pipeline

    def _step_all(self, batch: Batch) -> list[Completion]:
        """Take every step of continuous batching, and stamp what it produced."""
        tensor, config = library().Tensor, _greedy(batch)
        answers = [_Answer(batch, row, self._eos_ids) for row in range(len(batch.prompts))]
        running = {
            answer: self._pipeline.add_request(row, tensor(np.array([prompt])), config)
            for row, (answer, prompt) in enumerate(zip(answers, batch.prompts, strict=True))
        }
        while self._pipeline.has_non_finished_requests():
            self._pipeline.step()
            now_ns = time.monotonic_ns()
            for answer, handle in list(running.items()):
                if not handle.can_read():
                    continue
                (output,) = handle.read().values()
                if answer.add(output.generated_ids, now_ns):
                    handle.stop()
                    del running[answer]
        return [answer.completion() for answer in answers]

    def _stream_one(self, batch: Batch) -> list[Completion]:
        """Stamp the tokens of one request as the library tells them."""
        genai, tensor = _library(), library().Tensor
        base: Any = genai.StreamerBase
        answer = _Answer(batch, 0, self._eos_ids)

        class Streamer(base):  # type: ignore[misc]
            """Takes each token as it comes."""

            def write(self, token: int | list[int]) -> Any:
                """Return whether to go on."""
                ids = token if isinstance(token, list) else [token]
                ended = answer.add(ids, time.monotonic_ns())
                return genai.StreamingStatus.STOP if ended else genai.StreamingStatus.RUNNING

            def end(self) -> None:
                """Do nothing: required by the base class."""

        inputs = genai.TokenizedInputs(*map(tensor, left_padded(batch.prompts)))
        self._pipeline.generate(inputs, _greedy(batch), Streamer())
        return [answer.completion()]


class _Answer:
    """The tokens of one request so far."""

    def __init__(self, batch: Batch, row: int, eos_ids: tuple[int, ...]) -> None:
        self._limit = batch.new_tokens
        self._ends = Ends(batch.request(row), eos_ids)
        self._ids: list[int] = []
        self._times_ns: list[int] = []

    def add(self, ids: list[int], now_ns: int) -> bool:
        """Take tokens that came at this time; return whether the request has ended."""
        for token in ids:
            self._ids.append(token)
            self._times_ns.append(now_ns)
            if self._ends.after([token]) or len(self._ids) == self._limit:
                return True
        return False

    def completion(self) -> Completion:
        return Completion(output_ids=tuple(self._ids), token_ns=tuple(self._times_ns))


def _paged(folder: Path, asked: dict[str, str]) -> Any:
    genai = _library()
    scheduler = genai.SchedulerConfig()
    scheduler.max_num_batched_tokens = _NO_LIMIT  # otherwise long prompts are read in parts
    return genai.ContinuousBatchingPipeline(folder, scheduler, "CPU", asked)


def _stateful(folder: Path, asked: dict[str, str]) -> Any:
    return _library().LLMPipeline(folder, "CPU", ATTENTION_BACKEND="SDPA", **asked)


def _greedy(batch: Batch) -> Any:
    config = _library().GenerationConfig()
    config.max_new_tokens = batch.new_tokens
    config.ignore_eos = True  # where a request ends is ours to say, as for all engines
    return config


def unsupported(settings: Settings) -> str | None:
    """Why these settings cannot run here, or None."""
    if lacking := extras.missing("openvino", "openvino_genai"):
        return f"engine openvino_genai needs {lacking}"
    if settings.engine.decode != "generate":
        return "engine openvino_genai supports only its own loop: set engine.decode=generate"
    if settings.provider.name != "cpu":
        return f"engine openvino_genai has no provider {settings.provider.name}: use cpu"
    attention, rows = settings.engine.options.get("attention"), settings.workload.batch_size
    if attention == "sdpa" and rows > 1:
        return (
            "engine openvino_genai with engine.options.attention=sdpa and"
            f" workload.batch_size={rows}: it tells the tokens of one request only: use paged"
        )
    return plain.unsupported(settings)


def _libraries(settings: Settings) -> dict[str, str]:
    """Versions of what serves the export and does not make it; their builds under another name."""
    found = distributions.versions(("openvino-genai", "openvino-tokenizers"))
    builds = found.pop(distributions.BUILDS, "absent")
    return found | {"openvino-genai/builds": builds}


ENGINE = EngineSpec(
    name="openvino_genai",
    packages=exports.PACKAGES,
    programs=_libraries,
    create=OpenVinoGenaiEngine,
    imports=lambda settings: _library(),
    unsupported=unsupported,
    needs_preparation=exports.needed,
    prepare=exports.export,
    options={"attention": ("paged", "sdpa"), **plain.ENGINE.options},
    dtypes=("float32", "bfloat16", "float16", "int8", "int4"),
)
