"""PyTorch compiled by inductor: one decoding step as one graph, with a cache of fixed size.

The prompts are read eagerly, as engine torch does it: they differ in length, and large matrix
products gain nothing from inductor. Their keys and values are copied into the fixed cache, and each
further token is one call of the compiled step.

All compiling happens in `compile`, in a window of its own; afterwards a recompilation is an error.
What inductor made in the prepare step lies in the cache, so every trial compiles equally warm.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle, islice, pairwise
from pathlib import Path
from typing import Any

from slm_energy import cache, workload
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
from slm_energy.engines.torch import eager as eager
from slm_energy.engines.torch.explicit_forward import Explicit
from slm_energy.engines.torch.static_cache import InPlace, Slots
from slm_energy.errors import EngineError, one_line
from slm_energy.machine import processor
from slm_energy.models.tokenizer import load_tokenizer
from slm_energy.serialization import Json

_KIND = "torch_compile"
_RECIPE = 2
"""To be raised when this package makes another graph of the same model: part of the address."""
_INDUCTOR: dict[str, dict[str, Any]] = {
    "default": {},
    "max_autotune": {"max_autotune": True, "freezing": True},
}
_ALIGNED = 16
"""The cache's places are rounded up to this, so that vector instructions need no remainder."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Shapes:
    """What is compiled for.

    Attributes:
        sizes: numbers of prompts in a batch.
        places: keys in the cache, enough for the longest prompt and its answer.
    """

    sizes: tuple[int, ...]
    places: int


def shapes_of(sizes: set[int], longest: int) -> Shapes:
    """The shapes for batches of these sizes and at most `longest` tokens, answers included."""
    return Shapes(sizes=tuple(sorted(sizes)), places=-(-longest // _ALIGNED) * _ALIGNED)


class TorchCompileEngine:
    """A transformers model whose decoding step is compiled."""

    def load(self, request: LoadRequest) -> dict[str, Json]:
        """Read the weights; nothing is compiled yet.

        Raises:
            EngineError: see engine torch.
        """
        self._job = request
        self._model, effective = eager.opened(request)
        self._mode = str(request.settings.engine.options.get("mode", "default"))
        return {**effective, "cache": "static", "compile_mode": self._mode}

    def compile(self, batches: Sequence[Batch]) -> dict[str, Json]:
        """Compile the step for the sizes of these batches.

        Raises:
            EngineError: inductor cannot compile this model, or compiles something else.
        """
        longest = max(max(map(len, batch.prompts)) + batch.new_tokens for batch in batches)
        shapes = shapes_of({len(batch.prompts) for batch in batches}, longest)
        folder = cache.place(self._job.cache_path, _KIND, identity(self._job, shapes))
        with tempfile.TemporaryDirectory() as own:
            if cache.intact(folder):  # a copy: inductor writes into the folder that it reads
                shutil.copytree(folder, own, dirs_exist_ok=True)
            # One thread: helper processes of inductor would live on into windows that are metered.
            return self.compile_in(Path(own), shapes, threads=1)

    def compile_in(self, folder: Path, shapes: Shapes, threads: int) -> dict[str, Json]:
        """Compile with inductor's own cache in `folder`, on so many threads; see `compile`."""
        import torch
        from torch._dynamo.utils import counters
        from torch._inductor import config
        from torch._inductor.runtime.cache_dir_utils import temporary_cache_dir

        torch.compiler.reset()
        counters.clear()
        self._step: Any = torch.compile(_step(Explicit(self._model)), fullgraph=True, dynamic=False)
        self._slots = {size: Slots(self._model, size, shapes.places) for size in shapes.sizes}
        deviations = []
        settings = config.patch(compile_threads=threads, **_INDUCTOR[self._mode])
        with settings, temporary_cache_dir(str(folder)), torch.inference_mode():
            for size in shapes.sizes:
                deviations.append(self._deviation(size))
        found = counters["inductor"]
        warm = found["fxgraph_cache_hit"] > 0 and not found["fxgraph_cache_miss"]
        return {
            "compiled_sizes": list(shapes.sizes),
            "cache_places": shapes.places,
            "compile_cache": "hit" if warm and not found["fxgraph_cache_bypass"] else "miss",
            "compile_deviation": max(deviations),
            "recompilation": "refused",
        }

    def generate(self, batch: Batch) -> list[Completion]:
        """Decode greedily.

        Raises:
            EngineError: NaN logits, or a batch for which nothing was compiled.
        """
        import torch

        longest = max(map(len, batch.prompts)) + batch.new_tokens
        slots = self._slots.get(len(batch.prompts))
        if slots is None or longest > slots.places:
            raise EngineError(
                f"engine.name=torch_compile: not compiled for {len(batch.prompts)} prompts and"
                f" {longest} tokens"
            )
        # Guards cost 0.1 ms per token and are for callers who do not know their shapes.
        stance: Any = torch.compiler.set_stance
        with stance("fail_on_recompile", skip_guard_eval_unsafe=True):
            return eager.collected(self._choices(batch), batch, self._job.eos_ids)

    def close(self) -> None:
        """Drop the weights and what was compiled."""
        import torch

        del self._model, self._step, self._slots
        torch.compiler.reset()

    def _choices(self, batch: Batch) -> Iterator[tuple[Any, Any]]:
        decoding = eager.Decoding(self._model, batch)
        best = decoding.prefill().max(dim=-1)
        ids, peak = best.indices[:, None], best.values
        slots = self._slots[len(batch.prompts)]
        places, first = slots.fill(decoding.cache, batch)
        while True:
            yield ids[:, 0], peak
            ids, peak, places = self._step(ids, places, first, slots.keys, slots.values)

    def _deviation(self, size: int) -> float:
        """Compile for a batch size by decoding a probe; compare with torch that is fed the same.

        The compiled step tells no logits but the largest, so two things are compared with torch's
        largest: that one, and what torch has for the token that was chosen.
        """
        probe = decode.probe(self._model.config.vocab_size).prompts
        batch = Batch(prompts=tuple(islice(cycle(probe), size)), new_tokens=3, stop="fixed")
        kind = self._model.config.model_type
        try:
            choices = list(islice(self._choices(batch), batch.new_tokens))
        except Exception as error:  # inductor's errors have no common base
            raise EngineError(
                f"engine.name=torch_compile: {kind} cannot be compiled: {one_line(error)}"
            ) from error
        torch = eager.Decoding(self._model, batch)
        torch.prefill()
        ours, theirs = [], []
        for (fed, _), (ids, peak) in pairwise(choices):
            logits = torch.step(fed)
            best = logits.scatter(1, ids[:, None], logits.max(dim=-1, keepdim=True).values)
            ours += [logits.scatter(1, ids[:, None], peak[:, None]), logits]
            theirs += [best, best]
        return decode.require_close(
            [logits.float().cpu() for logits in ours],
            [logits.float().cpu() for logits in theirs],
            self._job.settings.engine.dtype,
            f"engine.name=torch_compile: what inductor made of {kind}",
        )


def _step(model: Explicit) -> Any:
    """The function that is compiled: one token id per request in, the next one out."""

    def step(ids: Any, places: Any, first: Any, keys: list[Any], values: list[Any]) -> Any:
        slots = InPlace(keys, values, places)
        best = model(ids, places, first, slots, keys[0].shape[2]).max(dim=-1)
        return best.indices[:, None], best.values, places + 1

    return step


def identity(request: LoadRequest, shapes: Shapes) -> Mapping[str, Json]:
    """What decides what inductor makes."""
    settings = request.settings
    return {
        **derived_from(request, _RECIPE),
        "mode": settings.engine.options.get("mode", "default"),
        "threads": threads(settings),
        "provider": settings.provider.name,
        "machine": _machine(settings.provider),
        "sizes": list(shapes.sizes),
        "places": shapes.places,
        "versions": dict(request.versions),
    }


def _machine(provider: ProviderConfig) -> str:
    """What inductor makes machine code for: all that this processor or GPU can do."""
    if provider.name == "cpu":
        return processor()
    return visible_devices()[provider.device].name


def _expected(request: LoadRequest) -> Shapes:
    """The shapes that the request's workload will have."""
    asked = request.settings.workload
    tokenizer = load_tokenizer(request.model_path)
    lengths = [len(tokenizer.encode(task.prompt).ids) for task in workload.load(asked)]
    whole, rest = divmod(len(lengths), asked.batch_size)
    sizes = ({asked.batch_size} if whole else set()) | ({rest} if rest else set())
    return shapes_of(sizes, max(lengths) + asked.new_tokens)


def _needs_preparation(request: LoadRequest) -> bool:
    return not cache.intact(
        cache.place(request.cache_path, _KIND, identity(request, _expected(request)))
    )


def _prepare(request: LoadRequest) -> None:
    shapes = _expected(request)
    wanted = identity(request, shapes)

    def fill(folder: Path) -> Mapping[str, Json]:
        engine = TorchCompileEngine()
        engine.load(request)
        told = engine.compile_in(folder, shapes, threads=len(os.sched_getaffinity(0)))
        shutil.rmtree(folder / "locks", ignore_errors=True)
        engine.close()
        return told

    cache.make(cache.place(request.cache_path, _KIND, wanted), wanted, fill)


def unsupported(settings: Settings) -> str | None:
    """Why these settings cannot run here, or None."""
    engine = settings.engine
    if engine.decode == "generate":
        return (
            "engine torch_compile with engine.decode=generate: transformers would compile again"
            " while it serves; use decode=session"
        )
    if engine.dtype == "int8":
        return "engine torch_compile with engine.dtype=int8 is not checked: use engine=torch"
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
)
