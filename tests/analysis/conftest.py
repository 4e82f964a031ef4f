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


def make_loads(
    engines: Mapping[str, tuple[float, float, float]],
    rates: tuple[float, ...],
    rounds: int = 5,
    *,
    slo_s: float | None = None,
    key: str = "load.rate",
    noise: float = 0.01,
    seed: int = 1,
    kind: str = "energy",
) -> pd.DataFrame:
    """A study of servers with one queue and a fixed time of service, M/D/1, over several loads.

    Joules per request are idle power over the rate served, and what the request itself takes. A
    server whose capacity is exceeded is saturated; its latency has grown for a window of 60 s.

    Args:
        engines: name to idle power in W, joules of a request's own, and its time of service in s.
        rates: requests per second, or clients (each one request per second).
        rounds: how many.
        slo_s: promised longest end-to-end latency.
        key: `load.rate` or `load.clients`.
        noise: standard deviation of log values.
        seed: of the noise.
        kind: `energy` or `energy_estimated`.
    """
    generator = np.random.default_rng(seed)
    opened = key == "load.rate"
    rows: list[dict[str, Any]] = []
    for number in range(1, rounds + 1):
        shift = generator.normal(0, 0.03)
        for engine, rate in generator.permutation(
            np.array([(name, rate) for name in engines for rate in rates], dtype=object)
        ):
            idle_w, own_j, served_s = engines[engine]
            load = rate * served_s
            served = min(rate, 1 / served_s)
            waits = served_s * load / (2 * (1 - load)) if load < 1 else 30 * (load - 1) / load
            mean, p95 = served_s + waits, served_s + 3 * waits
            good = 1.0 if slo_s is None else 1 - 0.05 ** (slo_s / p95)
            per_s = float(np.exp(shift + generator.normal(0, noise)))
            joules = (idle_w / served + own_j) * per_s
            rows.append(
                {
                    "run_id": f"run{len(rows)}", "study": "toy", "sweep": "s1",
                    "cell": f"{engine}-{rate:g}", "label": "old label", "round": number,
                    "order": len(rows) + 1, "attempt": 1, "machine": "lab-1", "outcome": "valid",
                    "reason": None,
                    "started": f"2026-01-01T{len(rows) // 60:02}:{len(rows) % 60:02}",
                    "model.name": "bundled", "engine.name": engine, "provider.name": "cpu",
                    "load.name": "open" if opened else "closed",
                    "load.mode": "open" if opened else "closed",
                    "load.rate": str(float(rate)) if opened else "None",
                    "load.clients": "1" if opened else str(rate), "load.slo.ttft_s": "None",
                    "load.slo.tpot_s": "None", "load.slo.e2e_s": str(slo_s),
                    "load.ramp_s": "60.0",
                    f"{kind}/per_request_j": joules, f"{kind}/per_output_token_j": joules / 64,
                    f"{kind}/per_good_request_j": joules / max(good, 1e-3),
                    "latency/ttft_p50_s": waits * per_s + 0.01,
                    "latency/ttft_p95_s": 3 * waits * per_s + 0.01,
                    "latency/e2e_p50_s": mean * per_s, "latency/e2e_mean_s": mean * per_s,
                    "latency/e2e_p95_s": p95 * per_s,
                    "throughput/output_tokens_per_s": 64 * served,
                    "load/offered_per_s": float(rate), "load/delivered_per_s": served * per_s,
                    "load/saturated": float(load > 1), "load/refused_count": 0.0,
                    "load/failed_count": 0.0, "time/serve_s": 60.0,
                    f"load/idle_{kind}_share": idle_w / (idle_w + served * own_j),
                }
            )  # fmt: skip
            if slo_s is not None:
                rows[-1]["load/good_share"] = min(1.0, good + generator.normal(0, 1e-3))
    return pd.DataFrame(rows)
