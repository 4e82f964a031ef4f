"""PyTorch compiled by inductor: one decoding step as one graph, with a cache of fixed size.

The prompts are read eagerly, as in engine torch: they differ in length, and large matrix products
gain nothing from inductor. Their keys and values are copied into the fixed cache, and each further
token is one call of the compiled step.

All compilation happens in `compile`, in a separate window; a later recompilation is an error. The
prepare step stores inductor's output in the cache, so every trial compiles from a warm cache.
"""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle, islice, pairwise
from pathlib import Path
from typing import Any

from slm_energy import cache, cpu_quota, prompts, workload
from slm_energy.cell import Settings
from slm_energy.config.groups import ProviderConfig
from slm_energy.devices.nvidia import visible_devices
from slm_energy.engines import decode
from slm_energy.engines.base import (
    Batch,
    Completion,
    EngineSpec,
    LoadRequest,
    derived_from,
    threads,
)
from slm_energy.engines.torch import eager
from slm_energy.engines.torch.decoding import Decoding, collect_choices
from slm_energy.engines.torch.explicit_forward import ExplicitForward
from slm_energy.engines.torch.static_cache import InPlaceCache, StaticCache
from slm_energy.errors import EngineError, one_line
from slm_energy.machine import processor
from slm_energy.models.folder import graph_context
from slm_energy.models.tokenizer import load_tokenizer
from slm_energy.serialization import Json

_KIND = "torch_compile"
_RECIPE = 2
"""To be raised when this package makes another graph of the same model: part of the identity."""
_INDUCTOR: dict[str, dict[str, Any]] = {
    "default": {},
    "max_autotune": {"max_autotune": True, "freezing": True},
}
_ALIGNMENT = 16
"""The cache's capacity is a multiple of this, so that vector instructions leave no remainder."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Shapes:
    """Shapes to compile for.

    Attributes:
        sizes: numbers of prompts in a batch.
        capacity: tokens in the cache, enough for the longest prompt and its completion.
    """

    sizes: tuple[int, ...]
    capacity: int


def shapes_of(sizes: set[int], longest: int) -> Shapes:
    """The shapes for batches of these sizes and at most `longest` tokens, completions included."""
    return Shapes(sizes=tuple(sorted(sizes)), capacity=-(-longest // _ALIGNMENT) * _ALIGNMENT)


class TorchCompileEngine:
    """A transformers model whose decoding step is compiled."""

    def load(self, request: LoadRequest) -> dict[str, Json]:
        """Load the weights; nothing is compiled yet.

        Raises:
            EngineError: see engine torch.
        """
        self._request = request
        self._model, effective = eager.load_model(request)
        self._mode = str(request.settings.engine.options.get("mode", "default"))
        return {
            **effective,
            "cache": "static",
            "compile_mode": self._mode,
            "context": graph_context(request.model_path),
        }

    def compile(self, batches: Sequence[Batch]) -> dict[str, Json]:
        """Compile the step for the sizes of these batches.

        Raises:
            EngineError: inductor cannot compile this model, or the result computes something else.
        """
        longest = max(max(map(len, batch.prompts)) + batch.new_tokens for batch in batches)
        shapes = shapes_of({len(batch.prompts) for batch in batches}, longest)
        folder = _entry_path(self._request, shapes)
        with tempfile.TemporaryDirectory() as copy:
            if cache.intact(folder):  # a copy: inductor writes into the folder that it reads
                shutil.copytree(folder, copy, dirs_exist_ok=True)
            # One thread: helper processes of inductor would still run during metered windows.
            return self.compile_in(Path(copy), shapes, threads=1)

    def compile_in(self, folder: Path, shapes: Shapes, threads: int) -> dict[str, Json]:
        """Compile on this many threads, with inductor's own cache in `folder`; see `compile`."""
        import torch
        from torch._dynamo.utils import counters
        from torch._inductor import config
        from torch._inductor.runtime.cache_dir_utils import temporary_cache_dir

        torch.compiler.reset()
        counters.clear()
        step = _step(ExplicitForward(self._model))
        self._step: Any = torch.compile(step, fullgraph=True, dynamic=False)
        self._caches = {
            size: StaticCache(self._model, size, shapes.capacity) for size in shapes.sizes
        }
        deviations = []
        settings = config.patch(compile_threads=threads, **_INDUCTOR[self._mode])
        with settings, temporary_cache_dir(str(folder)), torch.inference_mode():
            for size in shapes.sizes:
                deviations.append(self._deviation(size))
        counts = counters["inductor"]
        warm = counts["fxgraph_cache_hit"] > 0 and not counts["fxgraph_cache_miss"]
        return {
            "compiled_sizes": list(shapes.sizes),
            "cache_places": shapes.capacity,
            "compile_cache": "hit" if warm and not counts["fxgraph_cache_bypass"] else "miss",
            "compile_deviation": max(deviations),
            "recompilation": "refused",
        }

    def generate(self, batch: Batch) -> list[Completion]:
        """Decode greedily.

        Raises:
            EngineError: NaN logits, or a batch of shapes that were not compiled.
        """
        import torch

        longest = max(map(len, batch.prompts)) + batch.new_tokens
        static = self._caches.get(len(batch.prompts))
        if static is None or longest > static.capacity:
            raise EngineError(
                f"engine.name=torch_compile: not compiled for {len(batch.prompts)} prompts and"
                f" {longest} tokens"
            )
        # Guards cost 0.1 ms per token, and only callers whose shapes vary need them.
        stance: Any = torch.compiler.set_stance
        with stance("fail_on_recompile", skip_guard_eval_unsafe=True):
            return collect_choices(self._choices(batch), batch, self._request.eos_ids)

    def close(self) -> None:
        """Drop the weights and the compiled step."""
        import torch

        del self._model, self._step, self._caches
        torch.compiler.reset()

    def _choices(self, batch: Batch) -> Iterator[tuple[Any, Any]]:
        decoding = Decoding(self._model, batch)
        best = decoding.prefill().max(dim=-1)
        ids, peak = best.indices[:, None], best.values
        static = self._caches[len(batch.prompts)]
        positions, starts = static.fill(decoding.cache, batch)
        while True:
            yield ids[:, 0], peak
            ids, peak, positions = self._step(ids, positions, starts, static.keys, static.values)

    def _deviation(self, size: int) -> float:
        """Compile for a batch size by decoding a probe; compare with torch on the same input.

        The compiled step returns only the largest logit, so two values are compared with torch's
        largest: that logit, and torch's logit of the chosen token.
        """
        probe = decode.probe(self._model.config.vocab_size).prompts
        batch = Batch(prompts=tuple(islice(cycle(probe), size)), new_tokens=3, stop="fixed")
        model_type = self._model.config.model_type
        try:
            choices = list(islice(self._choices(batch), batch.new_tokens))
        except Exception as error:  # inductor's errors have no common base
            raise EngineError(
                f"engine.name=torch_compile: {model_type} cannot be compiled: {one_line(error)}"
            ) from error
        decoding = Decoding(self._model, batch)
        decoding.prefill()
        ours, theirs = [], []
        for (fed_ids, _), (ids, peak) in pairwise(choices):
            logits = decoding.step(fed_ids)
            best = logits.scatter(1, ids[:, None], logits.max(dim=-1, keepdim=True).values)
            ours += [logits.scatter(1, ids[:, None], peak[:, None]), logits]
            theirs += [best, best]
        return decode.require_close(
            [logits.float().cpu() for logits in ours],
            [logits.float().cpu() for logits in theirs],
            self._request.settings.engine.dtype,
            f"engine.name=torch_compile: the graph compiled from {model_type}",
        )


def _step(model: ExplicitForward) -> Any:
    """The function to compile: takes one token id per request, returns the next one."""

    def step(ids: Any, positions: Any, starts: Any, keys: list[Any], values: list[Any]) -> Any:
        in_place = InPlaceCache(keys, values, positions)
        best = model(ids, positions, starts, in_place, keys[0].shape[2]).max(dim=-1)
        return best.indices[:, None], best.values, positions + 1

    return step


def identity(request: LoadRequest, shapes: Shapes) -> Mapping[str, Json]:
    """Identity of inductor's output."""
    settings = request.settings
    return {
        **derived_from(request, _RECIPE),
        "mode": settings.engine.options.get("mode", "default"),
        "threads": threads(settings),
        "provider": settings.provider.name,
        "machine": _machine(settings.provider),
        "sizes": list(shapes.sizes),
        "places": shapes.capacity,
        "versions": dict(request.versions),
    }


def _entry_path(request: LoadRequest, shapes: Shapes) -> Path:
    return cache.place(request.cache_path, _KIND, identity(request, shapes))


def _machine(provider: ProviderConfig) -> str:
    """Model of the CPU or GPU: inductor generates machine code for all its features."""
    if provider.name == "cpu":
        return processor()
    return visible_devices()[provider.device].name


def _expected(request: LoadRequest) -> Shapes:
    """The shapes of the request's workload."""
    config = request.settings.workload
    tokenizer = load_tokenizer(request.model_path)
    tasks = workload.load(config)
    asked = prompts.rendered(tasks, request.settings.model, request.model_path, config)
    lengths = [len(prompts.token_ids(tokenizer, task.prompt, config)) for task in asked]
    whole, rest = divmod(len(lengths), config.batch_size)
    sizes = ({config.batch_size} if whole else set()) | ({rest} if rest else set())
    return shapes_of(sizes, max(lengths) + config.new_tokens)


def _needs_preparation(request: LoadRequest) -> bool:
    return not cache.intact(_entry_path(request, _expected(request)))


def _prepare(request: LoadRequest) -> None:
    shapes = _expected(request)

    def fill(folder: Path) -> Mapping[str, Json]:
        engine = TorchCompileEngine()
        engine.load(request)
        facts = engine.compile_in(folder, shapes, threads=cpu_quota.usable_processors())
        shutil.rmtree(folder / "locks", ignore_errors=True)
        engine.close()
        return facts

    cache.make(
        _entry_path(request, shapes), identity(request, shapes), fill, request.settings.model.name
    )


def unsupported(settings: Settings) -> str | None:
    """Why these settings cannot run here, or None."""
    if settings.engine.decode == "generate":
        return (
            "engine torch_compile with engine.decode=generate: transformers would recompile while"
            " it serves; use engine.decode=session"
        )
    if settings.provider.name == "cpu" and not any(map(shutil.which, ("g++", "clang++", "c++"))):
        return "engine torch_compile needs a C++ compiler: install g++ or clang++"
    return eager.library_unsupported(settings)


ENGINE = EngineSpec(
    name="torch_compile",
    packages=("torch", "transformers"),
    create=TorchCompileEngine,
    imports=eager.imports,
    unsupported=unsupported,
    needs_preparation=_needs_preparation,
    prepare=_prepare,
    options={"mode": tuple(_INDUCTOR)},
    dtypes=("float32", "bfloat16", "float16"),
)
