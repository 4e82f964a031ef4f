"""A scripted engine: real processes, files and time stamps, no weights. It can be told to fail.

It generates token ids that depend on the prompt alone, takes a given time per token, and, after
`fail`, does what faulty engines do. Use it with the configuration that comes with it:

    slm-energy --config-dir "$(python -c 'from slm_energy.testing import CONF; print(CONF)')" \
        engine=scripted
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import time
from pathlib import Path

from slm_energy.cell import Settings
from slm_energy.engines.base import Answer, Batch, Engine, EngineSpec, Job
from slm_energy.errors import EngineError
from slm_energy.plain import Json

_VOCABULARY = 256


class ScriptedEngine:
    """Serves made-up tokens on schedule."""

    def load(self, job: Job) -> dict[str, Json]:
        """Take the script from `engine.options`."""
        options = job.settings.engine.options
        self._fail = str(options.get("fail", "never"))
        self._token_s = float(options.get("token_s") or 0.0)
        self._once = options.get("fail_once")
        self._answered = 0
        if self._fail == "load" and self._trip():
            raise EngineError("engine.options.fail=load: the script says that loading fails")
        return {
            "provider": job.settings.provider.name,
            "dtype": job.settings.engine.dtype,
            "threads": job.settings.engine.threads or len(os.sched_getaffinity(0)),
            "kv_cache": True,
            "attention": "none",
            "context": 512,
            "decode": job.settings.engine.decode,
        }

    def generate(self, batch: Batch) -> list[Answer]:
        """Answer every prompt with ids that depend on it alone."""
        self._answered += 1
        if self._answered == 2:
            self._act()
        ids = [
            [self._token(prompt, n) for n in range(batch.new_tokens)] for prompt in batch.prompts
        ]
        stamps = []
        for _ in range(batch.new_tokens):
            time.sleep(self._token_s)
            stamps.append(time.monotonic_ns())
        return [Answer(output_ids=tuple(row), token_ns=tuple(stamps)) for row in ids]

    def close(self) -> None:
        """Nothing is held."""

    def _token(self, prompt: tuple[int, ...], position: int) -> int:
        salt = self._answered if self._fail == "drift" else 0
        text = f"{prompt}:{position}:{salt}".encode()
        return hashlib.sha256(text).digest()[0] % _VOCABULARY

    def _act(self) -> None:
        if self._fail in ("never", "drift") or not self._trip():
            return
        if self._fail == "generate":
            raise EngineError("engine.options.fail=generate: the script says that generation fails")
        if self._fail == "nan":
            raise EngineError("NaN logits at token 0 of request 0")
        if self._fail == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self._fail == "exit":
            sys.exit(0)
        if self._fail == "hang":
            time.sleep(3600)

    def _trip(self) -> bool:
        """Whether to fail now; with `fail_once` only the first process that gets here does."""
        if self._once is None:
            return True
        try:
            Path(str(self._once)).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True


def _create() -> Engine:
    return ScriptedEngine()


def _unsupported(settings: Settings) -> str | None:
    if settings.provider.name != "cpu":
        return f"engine scripted has no provider {settings.provider.name}"
    return None


ENGINE = EngineSpec(
    name="scripted",
    packages=(),
    create=_create,
    unsupported=_unsupported,
    options={
        "fail": ("never", "load", "generate", "nan", "kill", "exit", "hang", "drift"),
        "fail_once": (),
        "token_s": (),
    },
)
