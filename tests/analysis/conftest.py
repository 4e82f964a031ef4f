"""Synthetic studies: rows as `tracking.Store.frame` gives them."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest

from slm_energy.record import Source
from slm_energy.scope import Scope, of_sources
from slm_energy.serialization import to_plain


def make_study(
    costs: Mapping[str, float],
    rounds: int = 5,
    *,
    noise: float = 0.01,
    drift: float = 0.03,
    seed: int = 1,
    kind: str = "energy",
    machine: str = "lab-1",
    own_interval: float | None = 0.001,
) -> pd.DataFrame:
    """One row per trial of cells `engine/provider`, whose energy per token in J is given.

    Args:
        costs: cell name to energy per output token.
        rounds: how many.
        noise: standard deviation of a trial's log energy.
        drift: standard deviation of a round's log energy.
        seed: of both.
        kind: `energy` or `energy_estimated`.
        machine: its id.
        own_interval: relative half-width of the measurement's own interval.
    """
    generator = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    for number in range(1, rounds + 1):
        shift = generator.normal(0, drift)
        for name in generator.permutation(list(costs)):
            engine, provider = str(name).split("/")
            level = float(np.exp(shift + generator.normal(0, noise)))
            joules = costs[str(name)] * level
            row: dict[str, Any] = {
                "run_id": f"run{len(rows)}", "study": "toy", "sweep": "s1",
                "cell": f"{engine}-{provider}", "label": "old label", "round": number,
                "order": len(rows) + 1, "attempt": 1, "machine": machine, "outcome": "valid",
                "reason": None, "started": f"2026-01-01T{len(rows) // 60:02}:{len(rows) % 60:02}",
                "model.name": "bundled", "engine.name": engine, "provider.name": provider,
                f"{kind}/per_output_token_j": joules,
                "latency/ttft_p50_s": joules * 8, "latency/itl_p50_s": joules,
                "latency/e2e_p50_s": joules * 90, "throughput/output_tokens_per_s": 1 / joules,
                "memory/process_peak_mb": 400 + 30 * len(engine),
            }  # fmt: skip
            if kind == "energy" and own_interval is not None:
                row["energy/per_output_token_low_j"] = joules * (1 - own_interval)
                row["energy/per_output_token_high_j"] = joules * (1 + own_interval)
            rows.append(row)
    return pd.DataFrame(rows)


def make_models(count: int, costs: Mapping[str, float], **keys: Any) -> pd.DataFrame:
    """One study of several models, whose costs all differ a little by model.

    Args:
        count: models m0, m1, ...
        costs: and other arguments of `make_study`, for each of them.
        keys: see there.
    """
    frames = []
    for m in range(count):
        own = {name: cost * (1 + 0.02 * ((m * 7) % 5)) for name, cost in costs.items()}
        frame = make_study(own, seed=m + 1, **keys)
        frame["model.name"], frame["cell"] = f"m{m}", f"m{m}-" + frame["cell"]
        frame["run_id"] = f"m{m}" + frame["run_id"]
        frames.append(frame)
    rows = pd.concat(frames, ignore_index=True).sort_values(["round", "order"], kind="stable")
    return rows.assign(order=range(1, len(rows) + 1)).reset_index(drop=True)


def a_scope(*devices: tuple[str, str]) -> Scope:
    """The scope of counters of these domains and devices."""
    sources = [
        Source(id=device, kind="counter", domain=domain, unit="uJ", summed=True, device=device)
        for domain, device in devices
    ]
    scope = of_sources(sources)
    assert scope is not None
    return scope


PACKAGE, DRAM, GPU = (
    ("cpu_package", "package-0"),
    ("dram", "package-0/dram"),
    ("gpu", "GPU-1 NVIDIA H100"),
)
WHOLE = a_scope(PACKAGE, DRAM, GPU)
WITHOUT_GPU = a_scope(PACKAGE, DRAM)
GPU_ONLY = a_scope(GPU)


def with_scope(rows: pd.DataFrame, *scopes: Scope | None) -> pd.DataFrame:
    """The same trials with one scope for all, or one for each round."""
    chosen = rows["round"].map(lambda number: scopes[min(number, len(scopes)) - 1])
    texts = chosen.map(lambda one: "" if one is None else json.dumps(to_plain(one)))
    return rows.assign(scope=texts)


@pytest.fixture
def study() -> Callable[..., pd.DataFrame]:
    """Build a synthetic study; see `make_study`."""
    return make_study


def with_requests(frame: pd.DataFrame, tokens: int = 100) -> pd.DataFrame:
    """The study with joules per request, which are those of so many tokens."""
    frame = frame.copy()
    for name in [str(c) for c in frame.columns if "/per_output_token" in str(c)]:
        frame[name.replace("output_token", "request")] = frame[name] * tokens
    return frame
