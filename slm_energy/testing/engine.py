"""A scripted engine: real processes, files and time stamps, no weights, and optional faults.

It generates token ids that depend only on the prompt, takes a given time per token, and fails as
real engines do: always, once, or at random. With provider=cuda it names the GPU that it would use,
and computes nothing there either. Use it with the configuration shipped with it:

    slm-energy --config-dir "$(python -c 'from slm_energy.testing import CONF; print(CONF)')" \
        engine=scripted
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from slm_energy import cache
from slm_energy.cell import Settings
from slm_energy.config.groups import Scalar
from slm_energy.devices import cuda
from slm_energy.engines.base import (
    Batch,
    Completion,
    Engine,
    EngineSpec,
    LoadRequest,
    derived_from,
    threads,
)
from slm_energy.engines.ends import Ends
from slm_energy.errors import EngineError
from slm_energy.serialization import Json

EXPORTING = ("export", "export_kill")
"""Faults of the exporting process: an error, or it is killed in the middle."""

SERVING = (
    *("load", "generate", "nan_logits", "drift", "mute", "unstamped", "garbage"),
    *("memory", "kill", "exit", "hang"),
)
"""Faults of the serving process. `drift`: outputs change from pass to pass; `mute`: there are none;
`unstamped`: tokens have no times; `garbage`: their times are not numbers."""

_VOCABULARY = 256
_EXPORT_FILE = "export.bin"
_PIECES, _PIECE = 8, bytes(range(256)) * 256


class ScriptedEngine:
    """Serves made-up tokens on schedule."""

    def load(self, request: LoadRequest) -> dict[str, Json]:
        """Read the script from `engine.options`."""
        options = request.settings.engine.options
        self._fail = _fault(options, SERVING)
        self._token_s = float(options.get("token_s") or 0.0)
        self._batches = 0
        self._eos_ids = request.eos_ids
        if self._fail == "load":
            raise EngineError("engine.options.fail=load: the script says that loading fails")
        if _exports(request):
            _read_export(request)
        provider = request.settings.provider
        return {
            **(cuda.identity(provider.device) if provider.name == "cuda" else {}),
            "provider": provider.name,
            "dtype": request.settings.engine.dtype,
            "threads": threads(request.settings),
            "kv_cache": True,
            "attention": "none",
            "context": 512,
            "decode": request.settings.engine.decode,
        }

    def generate(self, batch: Batch) -> list[Completion]:
        """Answer every prompt with ids that depend only on it."""
        self._batches += 1
        if self._batches == 2:
            self._misbehave()
        if self._fail == "mute":
            return []
        ids = [
            [self._token(prompt, n) for n in range(batch.new_tokens)] for prompt in batch.prompts
        ]
        ends = Ends(batch, self._eos_ids)
        stamps: list[Any] = []
        for column in zip(*ids, strict=True):
            time.sleep(self._token_s)
            stamps.append("noon" if self._fail == "garbage" else time.monotonic_ns())
            if ends.after(column):
                break
        if self._fail == "unstamped":
            stamps.clear()
        return [
            Completion(output_ids=tuple(row[:length]), token_ns=tuple(stamps[:length]))
            for row, length in zip(ids, ends.lengths, strict=True)
        ]

    def close(self) -> None:
        """Do nothing: no resources are held."""

    def _token(self, prompt: tuple[int, ...], position: int) -> int:
        salt = self._batches if self._fail == "drift" else 0
        text = f"{prompt}:{position}:{salt}".encode()
        return hashlib.sha256(text).digest()[0] % _VOCABULARY

    def _misbehave(self) -> None:
        if self._fail == "generate":
            raise EngineError("engine.options.fail=generate: the script says that generation fails")
        if self._fail == "nan_logits":
            raise EngineError("NaN logits at token 0 of request 0")
        if self._fail == "memory":
            bytearray(2**48)  # more than can be addressed: a real MemoryError
        if self._fail == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self._fail == "exit":
            sys.exit(0)
        if self._fail == "hang":
            time.sleep(3600)


def _fault(options: Mapping[str, Scalar], possible: Sequence[str]) -> str:
    """Fault of this process, one of `possible`; `never` if none."""
    fail = str(options.get("fail", "never"))
    if fail == "any":
        return _random_fault(options, possible)
    if fail not in possible:
        return "never"
    once = options.get("fail_once")
    if once is not None:
        try:
            Path(str(once)).touch(exist_ok=False)
        except FileExistsError:
            return "never"
    return fail


def _random_fault(options: Mapping[str, Scalar], possible: Sequence[str]) -> str:
    """Fault of the n-th process of a study: the same for the same seed."""
    with Path(str(options["fail_log"])).open("a+", encoding="utf-8") as log:
        log.seek(0)
        number = len(log.readlines()) + 1
        rng = random.Random(f"{options['fail_seed']}:{number}")
        fails = rng.random() < float(options["fail_rate"] or 0.0)
        fault = rng.choice(possible) if fails else "never"
        log.write(f"{number} {fault}\n")
    return fault


def _exports(request: LoadRequest) -> bool:
    return request.settings.engine.options.get("export_s") is not None


def _identity(request: LoadRequest) -> dict[str, Json]:
    """Identity of the export in the cache; differs from cell to cell."""
    engine = request.settings.engine
    script = {"decode": engine.decode, "threads": engine.threads, "options": dict(engine.options)}
    return derived_from(request, recipe=1) | script


def _export_folder(request: LoadRequest) -> Path:
    return cache.place(request.cache_path, "scripted", _identity(request))


def _needs_export(request: LoadRequest) -> bool:
    return _exports(request) and not cache.intact(_export_folder(request))


def _export(request: LoadRequest) -> None:
    """Write a file, slowly."""
    options = request.settings.engine.options
    fail = _fault(options, EXPORTING)

    def fill(partial: Path) -> dict[str, Json]:
        with (partial / _EXPORT_FILE).open("wb") as file:
            for number in range(_PIECES):
                if number == _PIECES // 2 and fail == "export":
                    raise EngineError(
                        "engine.options.fail=export: the script says that exporting fails"
                    )
                if number == _PIECES // 2 and fail == "export_kill":
                    os.kill(os.getpid(), signal.SIGKILL)
                file.write(_PIECE)
                time.sleep(float(options.get("export_s") or 0.0) / _PIECES)
        return {}

    cache.make(_export_folder(request), _identity(request), fill, request.settings.model.name)


def _read_export(request: LoadRequest) -> None:
    cache.facts(_export_folder(request))
    if (_export_folder(request) / _EXPORT_FILE).read_bytes() != _PIECE * _PIECES:
        raise EngineError(f"{_export_folder(request)} differs from the export")


def _create() -> Engine:
    return ScriptedEngine()


def _unsupported(settings: Settings) -> str | None:
    if settings.provider.name not in ("cpu", "cuda"):
        return f"engine scripted has no provider {settings.provider.name}"
    return None


ENGINE = EngineSpec(
    name="scripted",
    packages=(),
    create=_create,
    unsupported=_unsupported,
    needs_preparation=_needs_export,
    prepare=_export,
    options={
        "fail": ("never", *EXPORTING, *SERVING, "any"),
        "fail_once": (),
        "fail_rate": (),
        "fail_seed": (),
        "fail_log": (),
        "token_s": (),
        "export_s": (),
    },
)
