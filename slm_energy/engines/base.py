"""The contract between the worker and a runtime engine.

Engine modules import nothing heavy at module level: the parent process imports them to learn their
limits and library versions. torch, onnxruntime and the like are imported inside the functions that
need them, in the worker.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from slm_energy import cpu_quota, distributions
from slm_energy.cell import Settings, Trial
from slm_energy.config.groups import Dtype
from slm_energy.engines.precision import STORED
from slm_energy.errors import ConfigError, EngineError
from slm_energy.models import gguf_file, quantization
from slm_energy.prompts import end_ids
from slm_energy.serialization import Json

TokenIds = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LoadRequest:
    """What an engine needs in order to load a model.

    Attributes:
        settings: the cell's settings.
        model_path: folder with config.json, tokenizer.json and the weights.
        model_digest: identifies the folder's contents.
        cache_path: where engines store what they derive from weights (`slm_energy.cache`).
        versions: of the engine's packages, and their builds, in the environment where it runs.
        eos_ids: tokens that end an answer (`prompts.end_ids`).
    """

    settings: Settings
    model_path: Path
    model_digest: str
    cache_path: Path
    versions: dict[str, str]
    eos_ids: tuple[int, ...]

    def versions_of(self, *packages: str) -> dict[str, Json]:
        """Versions of these packages and the digest of all builds, to identify what they make."""
        builds = {distributions.BUILDS} & self.versions.keys()
        return {name: self.versions[name] for name in (*packages, *builds)}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Prompts served together.

    Attributes:
        prompts: one sequence of token ids per request, not padded.
        new_tokens: tokens to generate per request.
        stop: `fixed` generates exactly new_tokens, past any end-of-text token; `eos` ends each
            request at its first end-of-text token; `code` also with the token that completes one
            of its stop texts. The token that ends a request counts (`ends.py`).
        stop_texts: `code`: the texts of each request (b,); a request without any ends as with
            `eos`.
        token_texts: `code`: the text of each token inside a longer text (`TokenTexts`).
    """

    prompts: tuple[tuple[int, ...], ...]
    new_tokens: int
    stop: Literal["fixed", "eos", "code"]
    stop_texts: tuple[tuple[str, ...], ...] = ()
    token_texts: Mapping[int, str] = dataclasses.field(
        default_factory=dict, compare=False, repr=False
    )

    def __post_init__(self) -> None:
        if self.stop == "code" and len(self.stop_texts) != len(self.prompts):
            raise ValueError("stop=code needs the stop texts of each prompt")

    def request(self, row: int) -> Batch:
        """One of the requests, as a batch of its own."""
        return dataclasses.replace(
            self, prompts=self.prompts[row : row + 1], stop_texts=self.stop_texts[row : row + 1]
        )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Completion:
    """The output of one request.

    Attributes:
        output_ids: generated token ids, without padding.
        token_ns: monotonic time at which the caller received each of them.
        decode_ns: from the first to the last of them, as a server timed it; None if none did.
    """

    output_ids: tuple[int, ...]
    token_ns: tuple[int, ...]
    decode_ns: int | None = None


class Refused(EngineError):
    """A server did not take a request: it is overloaded, or its answer is an error."""


class Aborted(Exception):
    """The client gave a request up; `completion` has the tokens that had come by then."""

    def __init__(self, completion: Completion) -> None:
        super().__init__("the client gave the request up")
        self.completion = completion


def load_request_of(trial: Trial) -> LoadRequest:
    """The load request of a trial.

    Raises:
        EngineError: the model is quantized, and `engine.dtype` is not `stored`; or the other way.
    """
    path, dtype = Path(trial.model_path), trial.cell.settings.engine.dtype
    # A plan knows this of what was here already; random weights may still have to be built.
    if (path / "config.json").is_file() and (reason := quantization.mismatch(path, dtype)):
        raise EngineError(reason, permanent=True)
    return LoadRequest(
        settings=trial.cell.settings,
        model_path=path,
        model_digest=trial.cell.model_digest,
        cache_path=Path(trial.cache_path),
        versions=trial.cell.versions,
        eos_ids=end_ids(path, trial.cell.settings),
    )


def derived_from(load_request: LoadRequest, recipe: int) -> dict[str, Json]:
    """Identity of anything derived from a model's weights and attention.

    Args:
        load_request: the model to load and its settings.
        recipe: to be raised when this package derives something else from the same weights.
    """
    return {
        "recipe": recipe,
        "model": load_request.model_digest,
        "attention": load_request.settings.model.attention,
        "dtype": load_request.settings.engine.dtype,
    }


def adopted(effective: Mapping[str, Json]) -> list[int]:
    """Processes of a running server that computes for the engine, as `Engine.load` listed them."""
    listed = effective.get("adopted")
    return [pid for pid in listed if isinstance(pid, int)] if isinstance(listed, list) else []


def threads(settings: Settings) -> int:
    """Number of compute threads: as configured, or one per processor that may be kept busy."""
    return settings.engine.threads or cpu_quota.usable_processors()


class Engine(Protocol):
    """One model loaded in one runtime. Built by `create`; used by one thread, in this order."""

    def load(self, load_request: LoadRequest) -> dict[str, Json]:
        """Load the weights and make the device ready, including a first inference.

        Engines that compute with transformers compare SDPA with eager attention here: four short
        passes over three prompts, inside the load window.

        Returns:
            Effective settings, read back from the runtime: at least `provider`, `dtype`,
            `threads`, `kv_cache`, `attention`, `context` (longest sequence in tokens), `decode`;
            on a GPU `device_uuid` as NVML writes it, if the runtime reports it; and `adopted`, ids
            of processes that compute for the engine and do not descend from this one.
            The engine may later add settings that become known only while it serves.

        Raises:
            EngineError: the model cannot be loaded as requested; a fallback is an error, too.
        """

    def generate(self, batch: Batch) -> list[Completion]:
        """Decode greedily; return one completion per prompt when the device has finished.

        Raises:
            EngineError: NaN logits.
        """

    def close(self) -> None:
        """Free what `load` allocated."""


@runtime_checkable
class Compiles(Protocol):
    """An engine that compiles for the shapes it will serve, in a separate window."""

    def compile(self, batches: Sequence[Batch]) -> dict[str, Json] | None:
        """Compile for these batches, between `load` and the first `generate`.

        Returns:
            Additions to the effective settings that `load` returned, or None.

        Raises:
            EngineError: the model cannot be compiled.
        """


@runtime_checkable
class Concurrent(Protocol):
    """An engine that serves many requests at once, each when it comes."""

    async def begin(self) -> None:
        """Get ready for `answer`, in the event loop that will call it."""

    async def answer(
        self, request: Batch, at_most_s: float, abort_after_s: float | None
    ) -> Completion:
        """Complete one request while others are in progress.

        Args:
            request: a batch of one, which `compile` has got among its batches.
            at_most_s: after this time without its last token it has failed.
            abort_after_s: after this time the client gives it up; None never does.

        Raises:
            Aborted: it was given up; the engine no longer works on it.
            Refused: the engine did not take it.
            EngineError: it failed.
        """

    async def queued(self) -> tuple[float, int] | None:
        """Seconds that requests have waited in the server's queue, and their number.

        Returns:
            Sums since the server's start; None if it does not report them.
        """

    async def end(self) -> None:
        """Close the connections of `answer`.

        Raises:
            EngineError: the engine itself has ended meanwhile.
        """


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class EngineSpec:
    """What the parent process knows of an engine before loading it: `ENGINE` in its module.

    Attributes:
        name: as in conf/engine/NAME.yaml.
        packages: distributions whose content can change a result; part of a cell's identity.
        create: build an engine; called in the worker.
        imports: import what `load` imports for these settings, in the same way, except what depends
            on the model; start and open nothing (`template.py`).
        unsupported: why these settings cannot run with what is installed, or None; whether there is
            an NVIDIA GPU is not its concern (`devices.nvidia.missing`). Cheap: no heavy import.
        needs_preparation: whether something (an export) must be derived from the weights first.
        prepare: derive it; runs in a separate process before the trial, never inside a window.
        prepares_in_sweep: `prepare` runs in the sweep's interpreter, whatever `engine.python` is.
        programs: what identifies the programs that these settings start and no package brings, and
            packages that are not to change the identity of what is derived from the weights.
        concurrent: the engines that `create` builds are `Concurrent`.
        options: the keys of `engine.options` and their allowed values; an empty tuple allows any.
        dtypes: the values of `engine.dtype` that it serves on some device; empty allows any.
        serves_gguf: it takes a GGUF file as `model.source`.
    """

    name: str
    packages: tuple[str, ...]
    create: Callable[[], Engine]
    unsupported: Callable[[Settings], str | None]
    needs_preparation: Callable[[LoadRequest], bool] = lambda load_request: False
    prepare: Callable[[LoadRequest], None] = lambda load_request: None
    prepares_in_sweep: Callable[[Settings], bool] = lambda settings: False
    programs: Callable[[Settings], dict[str, str]] = lambda settings: {}
    concurrent: bool = False
    imports: Callable[[Settings], object] = lambda settings: None
    options: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    dtypes: tuple[Dtype, ...] = ()
    serves_gguf: bool = False

    def versions(self, settings: Settings | None = None) -> dict[str, str]:
        """Installed versions and builds of `packages`; with settings, their `programs` too."""
        installed = distributions.versions(self.packages)
        return installed if settings is None else installed | self.programs(settings)

    def refusal(self, settings: Settings) -> str | None:
        """Why these settings cannot run with what is installed, or None."""
        load = settings.load
        if not self.concurrent and (load.mode == "open" or load.clients > 1):
            return (
                f"load={load.name}: engine {self.name} serves one request at a time: use a server"
                " (engine=openai_server, vllm, llama_cpp_server), or load=closed load.clients=1"
            )
        dtype = settings.engine.dtype
        if gguf_file.is_file(settings.model.source) and settings.model.weights == "stored":
            if not self.serves_gguf:
                return f"engine {self.name} does not read GGUF files: use llama_cpp or its server"
            if dtype != STORED:
                return f"model.source is a GGUF file: set engine.dtype=stored, not {dtype}"
        if self.dtypes and dtype not in self.dtypes:
            known = f"{', '.join(self.dtypes[:-1])} or {self.dtypes[-1]}"
            return f"engine {self.name} with engine.dtype={dtype}: use {known}"
        return self.unsupported(settings)


_BUILT_IN = {
    "torch": "slm_energy.engines.torch.eager",
    "torch_compile": "slm_energy.engines.torch.compiled",
    "torchscript": "slm_energy.engines.torch.torchscript",
    "onnx": "slm_energy.engines.onnx.engine",
    "onnxruntime_genai": "slm_energy.engines.onnx.genai",
    "openvino": "slm_energy.engines.openvino.engine",
    "openvino_genai": "slm_energy.engines.openvino.genai",
    "llama_cpp": "slm_energy.engines.llama_cpp.engine",
    "openai_server": "slm_energy.engines.openai.engine",
    "scripted": "slm_energy.testing.engine",
}


def find(name: str, key: str = "engine.name") -> EngineSpec:
    """The engine with this name: built in, or from the entry-point group `slm_energy.engines`.

    An entry point names a module that defines `ENGINE`, an `EngineSpec`.

    Args:
        name: name of the engine.
        key: config key to name in the error message.

    Raises:
        ConfigError: no engine has this name.
    """
    if name in _BUILT_IN:
        module = importlib.import_module(_BUILT_IN[name])
        return _spec(module, name)
    plugins = {point.name: point for point in entry_points(group="slm_energy.engines")}
    if name not in plugins:
        known = ", ".join(sorted({*_BUILT_IN, *plugins}))
        raise ConfigError(f"{key}={name!r} is not an engine; installed: {known}")
    return _spec(plugins[name].load(), name)


def _spec(module: object, name: str) -> EngineSpec:
    spec = getattr(module, "ENGINE", None)
    if not isinstance(spec, EngineSpec):
        raise ConfigError(f"engine.name={name!r}: {module!r} has no ENGINE of type EngineSpec")
    return spec


def left_padded(prompts: Sequence[Sequence[int]], pad_id: int = 0) -> tuple[TokenIds, TokenIds]:
    """Pad prompts on the left to equal length.

    Args:
        prompts: b sequences of token ids.
        pad_id: padding token; the mask hides it.

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
