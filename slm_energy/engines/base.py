"""The contract between the worker and a runtime engine.

An engine module imports nothing heavy at the top: the parent imports it to ask what it cannot do
and which library versions it computes with; torch, onnxruntime and the like are imported inside the
functions that need them, in the worker.
"""

from __future__ import annotations

import dataclasses
import importlib
import os
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from slm_energy.cell import Settings, Trial
from slm_energy.errors import ConfigError
from slm_energy.models.folder import eos_ids
from slm_energy.serialization import Json

TokenIds = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LoadRequest:
    """What an engine is told when it loads.

    Attributes:
        settings: the cell's settings.
        model_path: folder with config.json, tokenizer.json and the weights.
        model_digest: identifies the folder's contents.
        cache_path: where engines keep what they derive from weights (`slm_energy.cache`).
        versions: of the engine's packages, where it runs.
        eos_ids: tokens that end a text.
    """

    settings: Settings
    model_path: Path
    model_digest: str
    cache_path: Path
    versions: dict[str, str]
    eos_ids: tuple[int, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Prompts that are served together.

    Attributes:
        prompts: one sequence of token ids per request, not padded.
        new_tokens: tokens to generate per request.
        stop: `fixed` generates exactly new_tokens, end-of-text or not; `eos` lets each request end
            at its first end-of-text token (which counts).
    """

    prompts: tuple[tuple[int, ...], ...]
    new_tokens: int
    stop: Literal["fixed", "eos"]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Completion:
    """What one request got.

    Attributes:
        output_ids: generated ids, without padding.
        token_ns: monotonic time at which the caller knew each of them.
    """

    output_ids: tuple[int, ...]
    token_ns: tuple[int, ...]


def load_request_of(trial: Trial) -> LoadRequest:
    """What an engine is told about a trial."""
    path = Path(trial.model_path)
    return LoadRequest(
        settings=trial.cell.settings,
        model_path=path,
        model_digest=trial.cell.model_digest,
        cache_path=Path(trial.cache_path),
        versions=trial.cell.versions,
        eos_ids=eos_ids(path),
    )


def derived_from(load_request: LoadRequest, recipe: int) -> dict[str, Json]:
    """What decides the content of all that is derived from a model's weights and attention.

    Args:
        load_request: what is to be loaded.
        recipe: raised when this package derives something else from the same weights.
    """
    return {
        "recipe": recipe,
        "model": load_request.model_digest,
        "attention": load_request.settings.model.attention,
        "dtype": load_request.settings.engine.dtype,
    }


def threads(settings: Settings) -> int:
    """How many threads to compute with: as many as asked, or one per usable processor."""
    return settings.engine.threads or len(os.sched_getaffinity(0))


class Engine(Protocol):
    """One loaded model in one runtime. Built by `create`; used by one thread, in this order."""

    def load(self, load_request: LoadRequest) -> dict[str, Json]:
        """Load the weights and make the device ready, a first inference included.

        Engines that compute with transformers compare SDPA with eager attention here: four short
        passes over three prompts, which lie in the load window.

        Returns:
            Settings really in force, read back from the runtime: at least `provider`, `dtype`,
            `threads`, `kv_cache`, `attention`, `context` (longest sequence in tokens), `decode`.
            The engine may go on to add what shows only while it serves.

        Raises:
            EngineError: it cannot be loaded as asked; a fallback counts as that.
        """

    def generate(self, batch: Batch) -> list[Completion]:
        """Decode greedily; return when the device has finished. One answer per prompt.

        Raises:
            EngineError: logits that are not numbers.
        """

    def close(self) -> None:
        """Free what `load` took."""


@runtime_checkable
class Compiles(Protocol):
    """An engine that compiles for the shapes it will serve, in a window of its own."""

    def compile(self, batches: Sequence[Batch]) -> dict[str, Json] | None:
        """Compile for these batches, between `load` and the first `generate`.

        Returns:
            What it adds to the effective settings that `load` returned, if anything.

        Raises:
            EngineError: it cannot be compiled.
        """


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class EngineSpec:
    """What the parent knows of an engine without loading it. Each engine module has one: `ENGINE`.

    Attributes:
        name: as in conf/engine/NAME.yaml.
        packages: distributions whose versions can change a result; part of a cell's identity.
        create: make an engine; called in the worker.
        imports: import what `load` will for these settings, apart from what depends on the model,
            in the way that `load` does; start and open nothing (`template.py`).
        unsupported: the reason why these settings cannot run on this machine, or None. Cheap: no
            heavy import.
        needs_preparation: something (an export) must be derived from the weights first.
        prepare: derive it; runs in a process of its own before the trial, never inside a window.
        prepares_in_sweep: that process has the sweep's interpreter, whatever `engine.python` is.
        options: the keys of `engine.options` and their allowed values; none listed means any.
    """

    name: str
    packages: tuple[str, ...]
    create: Callable[[], Engine]
    unsupported: Callable[[Settings], str | None]
    needs_preparation: Callable[[LoadRequest], bool] = lambda load_request: False
    prepare: Callable[[LoadRequest], None] = lambda load_request: None
    prepares_in_sweep: bool = False
    imports: Callable[[Settings], object] = lambda settings: None
    options: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)

    def versions(self) -> dict[str, str]:
        """Installed versions of `packages`; a missing one is `absent`."""
        found = {}
        for package in self.packages:
            try:
                found[package] = version(package)
            except PackageNotFoundError:
                found[package] = "absent"
        return found


_BUILT_IN = {
    "torch": "slm_energy.engines.torch.eager",
    "torch_compile": "slm_energy.engines.torch.compiled",
    "torchscript": "slm_energy.engines.torch.torchscript",
    "onnx": "slm_energy.engines.onnx.engine",
    "onnxruntime_genai": "slm_energy.engines.onnx.genai",
    "openvino": "slm_energy.engines.openvino.engine",
    "llama_cpp": "slm_energy.engines.llama_cpp.engine",
    "openai_server": "slm_energy.engines.openai.engine",
    "scripted": "slm_energy.testing.engine",
}


def find(name: str, key: str = "engine.name") -> EngineSpec:
    """The engine of that name: built in, or from the entry-point group `slm_energy.engines`.

    An entry point names a module that has `ENGINE`, an `EngineSpec`.

    Args:
        name: what is looked for.
        key: where it was asked for, for the message.

    Raises:
        ConfigError: there is none.
    """
    if name in _BUILT_IN:
        module = importlib.import_module(_BUILT_IN[name])
        return _spec(module, name)
    others = {point.name: point for point in entry_points(group="slm_energy.engines")}
    if name not in others:
        known = ", ".join(sorted({*_BUILT_IN, *others}))
        raise ConfigError(f"{key}={name!r} is not an engine; installed: {known}")
    return _spec(others[name].load(), name)


def _spec(module: object, name: str) -> EngineSpec:
    spec = getattr(module, "ENGINE", None)
    if not isinstance(spec, EngineSpec):
        raise ConfigError(f"engine.name={name!r}: {module!r} has no ENGINE of type EngineSpec")
    return spec


def left_padded(prompts: Sequence[Sequence[int]], pad_id: int = 0) -> tuple[TokenIds, TokenIds]:
    """Pad prompts on the left to equal length.

    Args:
        prompts: b sequences of token ids.
        pad_id: fills the gap; the mask hides it.

    Returns:
        Token ids and attention mask, both (b, longest).
    """
    longest = max(len(prompt) for prompt in prompts)
    ids = np.full((len(prompts), longest), pad_id, dtype=np.int64)
    mask = np.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = prompt
        mask[row, longest - len(prompt) :] = 1
    return ids, mask
