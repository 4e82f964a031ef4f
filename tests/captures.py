"""A small, exact capture: two prompts, two passes, a counter at a constant 10 W, a gauge."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from slm_energy.record import (
    Capture,
    ClockAnchor,
    Generation,
    Reference,
    ReferenceAnswer,
    SamplerReport,
    Series,
    Source,
    Window,
)

S = 1_000_000_000
WATTS = 10


def a_generation(task: str, number: int, start_ns: int, **changes: Any) -> Generation:
    """4 tokens: the first after 0.4 s, then one every 0.2 s."""
    values: dict[str, Any] = {
        "task_id": task,
        "pass_index": number,
        "batch_index": 0 if task == "a" else 1,
        "prompt_digest": f"prompt {task}",
        "input_tokens": 5,
        "output_ids": (1, 2, 3, 4),
        "start_ns": start_ns,
        "token_ns": tuple(start_ns + (4 + 2 * n) * S // 10 for n in range(4)),
        "stop": "length",
        "text": "pass" if number == 0 else None,
    }
    return Generation(**values | changes)


def a_reference(generations: Iterable[Generation], **changes: Any) -> Reference:
    """Engine torch said the same to these prompts; changes are of its answers."""
    answers = [
        ReferenceAnswer(task_id=g.task_id, prompt_digest=g.prompt_digest, output_ids=g.output_ids)
        for g in generations
        if g.pass_index == 0
    ]
    return Reference(
        engine="torch",
        dtype="float32",
        provider="cpu",
        answers=tuple(dataclasses.replace(answer, **changes) for answer in answers),
    )


def a_counter(kind: str = "counter", **changes: Any) -> Series:
    """Readings every 0.1 s, none at a window's edge, exactly on a counter at WATTS."""
    times = tuple(range(S // 25, 10 * S + 1, S // 10))
    values: dict[str, Any] = {
        "source": Source(
            id="fake/package",
            kind=kind,  # type: ignore[arg-type]
            domain="machine" if kind == "estimate" else "cpu_package",
            unit="uJ",
            summed=kind == "counter",
            gain_pct=5.0,
        ),
        "before_ns": times,
        "raw": tuple(t * WATTS // 1000 for t in times),
        "after_ns": times,
    }
    return Series(**values | changes)


def a_gauge() -> Series:
    """Processor utilization: 25 % before 4 s, 75 % from then on."""
    times = tuple(range(0, 10 * S + 1, S // 2))
    return Series(
        source=Source(
            id="cpu_utilization_percentage", kind="gauge", domain="cpu_utilization", unit="pct"
        ),
        before_ns=times,
        raw=tuple(25.0 if t < 4 * S else 75.0 for t in times),
        after_ns=times,
    )


def a_flat_gauge(name: str, value: float) -> Series:
    """The same value at all times."""
    times = tuple(range(0, 10 * S + 1, S // 2))
    return Series(
        source=Source(id=name, kind="gauge", domain=name, unit="pct"),
        before_ns=times,
        raw=(value,) * len(times),
        after_ns=times,
    )


def a_capture(**changes: Any) -> Capture:
    """Load 1 s, baseline 2 s, serve 4 s (4 to 8 s) with 16 tokens."""
    values: dict[str, Any] = {
        "windows": (
            Window(name="load", start_ns=S, end_ns=2 * S),
            Window(name="baseline", start_ns=2 * S, end_ns=4 * S),
            Window(name="serve", start_ns=4 * S, end_ns=8 * S, passes=2),
        ),
        "generations": tuple(
            a_generation(task, number, (4 + 2 * number) * S + at * S)
            for number in (0, 1)
            for at, task in enumerate("ab")
        ),
        "effective": {
            "provider": "cpu",
            "dtype": "float32",
            "threads": 2,
            "kv_cache": True,
            "decode": "session",
        },
        "environment": {"python": "3.11"},
        "clock": ClockAnchor(monotonic_ns=0, unix_ns=1_700_000_000 * S),
        "series": (a_counter(), a_gauge()),
        "sampler": SamplerReport(period_s=0.1, cpu_s=0.01, wall_s=10.0, finished=True),
    }
    return Capture(**values | changes)


def without(capture: Capture, window: str) -> Capture:
    """The same capture less one window."""
    kept = tuple(each for each in capture.windows if each.name != window)
    return dataclasses.replace(capture, windows=kept)
