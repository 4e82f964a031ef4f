"""Export a model to ONNX once, into a cache that is addressed by content.

    CACHE/onnx/KEY/        model.onnx, config.json, manifest.json (written last)
    CACHE/onnx/KEY.lock    one exporter at a time
    CACHE/onnx/KEY.partial an export under way; its leftovers are removed by the next exporter

KEY is a hash of the weights, of the versions of what exports, and of the settings that change the
graph. An entry appears by one rename after everything in it is on disk, so a killed export leaves
no entry; its manifest tells a damaged one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slm_energy.cache import file_digest
from slm_energy.engines import decode
from slm_energy.engines import onnx_session as ort
from slm_energy.engines.base import Job
from slm_energy.engines.onnx_simplify import simplify
from slm_energy.errors import EngineError, one_line
from slm_energy.plain import read_json, write_json

PACKAGES = ("optimum-onnx", "optimum", "onnx", "torch", "transformers")
GRAPH = "model.onnx"
MANIFEST = "manifest.json"
_TASK = "text-generation-with-past"
_RECIPE = 1
"""To be raised when this package makes another graph of the same model: part of the address."""
_TOLERANCE = {"float32": 1e-3, "float16": 0.02}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """What an entry holds.

    Attributes:
        files: name to SHA-256.
        attention: the implementation that was traced.
        deviation: largest difference of the graph's logits from torch's on a probe, as a share of
            the largest logit.
        versions: what exported it.
    """

    files: dict[str, str]
    attention: str
    deviation: float
    versions: dict[str, str]


def entry(job: Job, versions: Mapping[str, str]) -> Path:
    """The folder where this job's export is, or will be."""
    identity = {
        "recipe": _RECIPE,
        "graph": "lean" if _is_lean(job) else "stock",
        "model": job.model_digest,
        "attention": job.settings.model.attention,
        "dtype": job.settings.engine.dtype,
        "versions": dict(versions),
    }
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    return job.cache_path / "onnx" / key


def _is_lean(job: Job) -> bool:
    """Our loop gets a graph without needless work; the library's class gets the library's own."""
    return job.settings.engine.decode == "session"


def intact(folder: Path) -> bool:
    """Tell whether an entry is there with every byte that was written (hashed once per process)."""
    if not (folder / MANIFEST).is_file():
        return False
    try:
        files = read_json(folder / MANIFEST, Manifest).files
    except ValueError:
        return False  # not what this version writes: to be exported again
    return all((folder / n).is_file() and file_digest(folder / n) == h for n, h in files.items())


def export(job: Job, versions: Mapping[str, str]) -> None:
    """Make the entry unless it is intact.

    Raises:
        EngineError: the architecture cannot be exported, or the graph computes something else.
    """
    from filelock import FileLock

    folder = entry(job, versions)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if intact(folder):
            return
        partial = folder.with_name(f"{folder.name}.partial")
        for leftover in (folder, partial):
            if leftover.exists():
                shutil.rmtree(leftover)
        try:
            partial.mkdir()
            _fill(partial, job, versions)
            partial.rename(folder)
            _sync(folder.parent)
        finally:
            if partial.exists():
                shutil.rmtree(partial)


def _fill(folder: Path, job: Job, versions: Mapping[str, str]) -> None:
    with warnings.catch_warnings():
        # Tracing warns of every shape it looks at; the comparison below tells whether it was right.
        warnings.simplefilter("ignore")
        model = _traced(folder, job)
        deviation = _deviation(folder, model, job)
    files = sorted(path for path in folder.iterdir() if path.is_file())
    for path in files:
        _sync(path)
    manifest = Manifest(
        files={path.name: file_digest(path) for path in files},
        attention=model.config._attn_implementation,
        deviation=deviation,
        versions=dict(versions),
    )
    write_json(folder / MANIFEST, manifest)
    _sync(folder)


def _traced(folder: Path, job: Job) -> Any:
    """Write the graph and its config; return the torch model it was made from."""
    from slm_energy.engines.torch import attention_deviation, load_weights

    decode.skip_sklearn()
    from optimum.exporters.onnx import onnx_export_from_model

    settings = job.settings
    model = load_weights(settings.model, job.model_path, settings.engine.dtype)
    attention_deviation(model)
    attention = model.config._attn_implementation
    hooks = []
    if _is_lean(job):
        # As in torch, only the last position: a large vocabulary makes the others costly.
        hooks = [model.get_output_embeddings().register_forward_pre_hook(_last_position)]
    try:
        onnx_export_from_model(model, folder, task=_TASK, do_validation=False)
    except (ValueError, RuntimeError, NotImplementedError, KeyError) as error:
        raise EngineError(
            f"engine.name=onnx: optimum cannot export {model.config.model_type}: {one_line(error)}"
        ) from error
    for hook in hooks:
        hook.remove()
    model.config._attn_implementation = attention
    if _is_lean(job):
        _declare_one_position(folder / GRAPH)
        simplify(folder / GRAPH)
    return model


def _last_position(module: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    return (arguments[0][:, -1:], *arguments[1:])


def _declare_one_position(graph: Path) -> None:
    """Give the logits their true shape (b, 1, vocabulary): a bound buffer is made from it."""
    import onnx

    proto = onnx.load(graph, load_external_data=False)
    logits = next(output for output in proto.graph.output if output.name == "logits")
    logits.type.tensor_type.shape.dim[1].dim_value = 1
    onnx.save(proto, graph)


def _deviation(folder: Path, model: Any, job: Job) -> float:
    """Compare the graph with the torch model on padded prompts and one further token."""
    import numpy as np
    import torch

    from slm_energy.engines import torch as reference

    threads = job.settings.engine.threads or len(os.sched_getaffinity(0))
    session = ort.open_session(folder / GRAPH, "cpu", 0, threads, "all", True)
    batch = decode.probe(model.config.vocab_size)
    token = np.full(len(batch.prompts), 2)
    ours = ort.Decoding(ort.Graph(session), batch, False, ("cpu", 0))
    theirs = reference.Decoding(model, batch)
    with torch.inference_mode():
        pairs = [
            (ours.prefill(), theirs.prefill()),
            (ours.step(token), theirs.step(torch.from_numpy(token))),
        ]
    deviation = max(decode.difference(a, b.float().numpy()) for a, b in pairs)
    if deviation > _TOLERANCE[job.settings.engine.dtype]:
        raise EngineError(
            f"engine.name=onnx: the graph made from {model.config.model_type} differs from torch by"
            f" {deviation:.1e} of the largest logit: use another engine for this model"
        )
    return deviation


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
