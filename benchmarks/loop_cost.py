"""How long our own Python takes per decoded token, beside the runtime's call.

The runtime's call is what no loop could leave out: the model's forward pass, `session.run`,
`llama_decode`. It is wrapped so that it notes when it was entered and left, on the clock of the
tokens' stamps. What passes from one token's stamp to the next and is not inside such a call is
ours: choosing the token, the check for NaN, handing over inputs, taking outputs, stamping. The
figure is the median over all tokens, which other load on the machine disturbs least. Two readings
of the clock per call, some 0.2 us, are in it; what a request costs once, before its first token and
after its last, is not.
"""

from __future__ import annotations

import time
import types
from collections.abc import Callable
from itertools import pairwise
from statistics import median
from typing import Any

from slm_energy.engines.base import Batch, Engine

Spans = list[tuple[int, int]]
"""When calls were entered and left, in monotonic ns."""


def us_per_token(name: str, engine: Engine, batch: Batch, rounds: int) -> float:
    """Microseconds of our loop per token; the engine keeps its watched calls afterwards.

    Args:
        name: of the engine.
        engine: loaded, compiled and warm.
        batch: is served `rounds` times; two or more new tokens.
        rounds: how often.
    """
    owner, names = _RUNTIME_CALLS[name]
    spans: Spans = []
    for call in names:
        setattr(owner(engine), call, _watched(getattr(owner(engine), call), spans))
    found: list[float] = []
    for _ in range(rounds):
        spans.clear()
        stamps = engine.generate(batch)[0].token_ns
        for before, after in pairwise(stamps):
            inside = sum(left - entered for entered, left in spans if before <= entered < after)
            found.append((after - before - inside) / 1000)
    return median(found)


def _watched(call: Callable[..., Any], spans: Spans) -> Callable[..., Any]:
    def watched(*positional: Any, **named: Any) -> Any:
        entered = time.monotonic_ns()
        result = call(*positional, **named)
        spans.append((entered, time.monotonic_ns()))
        return result

    return watched


def _llama_library(engine: Any) -> Any:
    """What the engine calls llama.cpp through: a copy of the module, so that no other changes."""
    session = engine._runtime
    if isinstance(session.library, types.ModuleType):
        session.library = types.SimpleNamespace(**vars(session.library))
    return session.library


_RUNTIME_CALLS: dict[str, tuple[Callable[[Any], Any], tuple[str, ...]]] = {
    "torch": (lambda engine: engine._model, ("forward",)),
    "torch_compile": (lambda engine: engine, ("_step",)),
    "torchscript": (lambda engine: engine, ("_module",)),
    "onnx": (lambda engine: engine._session, ("run", "run_with_iobinding")),
    "openvino": (lambda engine: engine._request, ("start_async", "wait")),
    "llama_cpp": (_llama_library, ("llama_decode",)),
}
"""Where each engine keeps its runtime, and which of its attributes are called for a token."""
