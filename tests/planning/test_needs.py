"""What a cell needs: memory, exports and a guess of its time."""

from __future__ import annotations

import dataclasses
import itertools
import re
from pathlib import Path
from typing import Any

import pytest

from slm_energy.cache import CacheEntry
from slm_energy.cell import Cell
from slm_energy.config.groups import (
    EngineConfig,
    LoadConfig,
    ProviderConfig,
    RunConfig,
    WorkloadConfig,
)
from slm_energy.planning import grid
from slm_energy.planning.memory import refusal
from slm_energy.planning.needs import guess_s, needs_of
from slm_energy.planning.size import size_of
from slm_energy.planning.speed import Speed
from tests.conftest import Command, a_cell
from tests.shipped import shipped

GB = 10**9
PROMPTS = ["x" * 300]


def a_tinyllama(config: RunConfig, engine: str = "torch", **changes: Any) -> Cell:
    levels = {"dtype": "float32", **changes}
    return a_cell(
        config,
        model=shipped("tinyllama-1.1b"),
        engine=EngineConfig(name=engine, **levels),
        workload=WorkloadConfig(name="own", source="own", new_tokens=100),
    )


def in_cache(kind: str, **identity: Any) -> CacheEntry:
    return CacheEntry(
        kind=kind, path=Path("x"), size_bytes=1, used_unix_s=0.0, state="whole", identity=identity
    )


def needed(cell: Cell, **changes: Any) -> Any:
    arguments = {"prompts": PROMPTS, "cached": []} | changes
    return needs_of(cell, size_of(cell.settings.model.architecture), **arguments)


def test_nothing_is_predicted_of_an_unknown_size(config: RunConfig) -> None:
    cell, speed = a_tinyllama(config), Speed(bytes_per_s=1e9, flop_per_s=1e9)
    needs = needs_of(cell, None, PROMPTS, [])
    assert needs.memory_bytes is None
    assert guess_s(needs, cell.settings, speed) is None
    assert refusal(needs.memory_bytes, 1, "this machine") is None


def test_a_gpu_and_a_server_have_no_prediction(config: RunConfig) -> None:
    on_cpu = a_tinyllama(config)
    gpu = dataclasses.replace(on_cpu.settings, provider=ProviderConfig(name="cuda"))
    assert needed(dataclasses.replace(on_cpu, settings=gpu)).memory_bytes is None
    assert needed(a_tinyllama(config, "openai_server")).memory_bytes is None


def test_memory_grows_with_type_batch_and_sequence(config: RunConfig) -> None:
    """TinyLlama: 45 KB of keys and values per token and sequence in float32."""
    exact, half = (needed(a_tinyllama(config, dtype=d)) for d in ("float32", "bfloat16"))
    assert exact.serve_bytes - half.serve_bytes == pytest.approx(2 * 1.1 * GB, rel=0.01)
    long = dataclasses.replace(
        a_tinyllama(config).settings,
        workload=WorkloadConfig(name="own", source="own", new_tokens=1100, batch_size=1),
    )
    more = needed(dataclasses.replace(a_tinyllama(config), settings=long))
    assert more.serve_bytes - exact.serve_bytes == pytest.approx(1000 * 22 * 2 * 256 * 4, rel=0.01)


def test_an_export_counts_until_the_cache_has_it(config: RunConfig) -> None:
    cell = dataclasses.replace(a_tinyllama(config, "onnx"), versions={"onnx": "1"})
    fresh = needed(cell)
    assert fresh.memory_bytes == fresh.prepare_bytes > 2 * fresh.serve_bytes * 0.9
    assert list(fresh.exports.values()) == [pytest.approx(4.4 * GB, rel=0.01)]
    own = {"model": cell.model_digest, "attention": "auto", "dtype": "float32", "graph": "fused"}
    kept = needed(cell, cached=[in_cache("onnx", **own, versions={})])
    assert (kept.exports, kept.prepare_bytes, kept.memory_bytes) == ({}, None, fresh.serve_bytes)
    for other in ({"graph": "stock"}, {"dtype": "int8"}, {"versions": {"onnx": "2"}}):
        assert needed(cell, cached=[in_cache("onnx", **own | other)]).exports == fresh.exports


def test_an_export_that_another_engine_makes_is_found_whatever_the_cell_s_own_versions(
    config: RunConfig,
) -> None:
    cell = a_tinyllama(config, "onnxruntime_genai", decode="generate")
    cell = dataclasses.replace(cell, versions={"onnxruntime": "1", "builds": "own"})
    own = {"model": cell.model_digest, "attention": "auto", "dtype": "float32", "graph": "stock"}
    made = in_cache("onnx", **own, versions={"onnxruntime": "absent", "builds": "of the sweep"})
    assert needed(cell).exports
    assert needed(cell, cached=[made]).exports == {}


def test_a_built_graph_of_other_versions_is_not_the_cell_s(config: RunConfig) -> None:
    levels = {"decode": "generate", "options": {"graph": "builder"}}
    cell = a_tinyllama(config, "onnxruntime_genai", **levels)
    cell = dataclasses.replace(cell, versions={"onnxruntime": "2"})
    own = {"model": cell.model_digest, "attention": "auto", "dtype": "float32", "graph": "builder"}
    for version, exports in (("2", 0), ("1", 1)):
        built = in_cache("onnxruntime_genai", **own, versions={"onnxruntime": version})
        assert len(needed(cell, cached=[built]).exports) == exports


@pytest.mark.parametrize(
    ("engine", "options", "bits"),
    [
        ("onnx", {}, 5.0),  # a scale of 32 bits for 32 weights
        ("openvino", {}, 4.5),  # of 16 bits
        ("openvino", {"scheme": "asymmetric", "group_size": 64}, 4.3125),
        ("openvino", {"group_size": -1}, 4.0),
    ],
)
def test_4_bits_are_counted_with_their_scales(
    config: RunConfig, engine: str, options: dict[str, Any], bits: float
) -> None:
    """TinyLlama: 1.034 B weights in linear layers, 0.066 B in its embedding, in float32."""
    cell = a_tinyllama(config, engine, dtype="int4", options=options)
    stored = list(needed(cell).exports.values())[-1]
    assert stored == pytest.approx(0.0655e9 * 4 + 1.034e9 * bits / 8, rel=0.01)


def test_an_export_of_llama_cpp_is_known_by_what_it_has(config: RunConfig) -> None:
    cell = a_tinyllama(config, "llama_cpp")
    made = in_cache("gguf", model=cell.model_digest, dtype="float32")  # attention has no variants
    assert needed(cell).exports
    assert needed(cell, cached=[made]).exports == {}


def test_fewer_bits_take_less_memory_and_disk_in_llama_cpp(config: RunConfig) -> None:
    found = [
        needed(a_tinyllama(config, "llama_cpp", dtype=dtype))
        for dtype in ("float32", "int8", "int6", "int5", "int4")
    ]
    for wider, narrower in itertools.pairwise(found):
        assert narrower.serve_bytes < wider.serve_bytes
        assert sum(narrower.exports.values()) < sum(wider.exports.values())
        assert narrower.pass_bytes < wider.pass_bytes
    assert sum(found[-1].exports.values()) == pytest.approx(0.61 * 1.1 * GB, rel=0.01)
    assert needed(a_tinyllama(config, "llama_cpp", dtype="stored")).memory_bytes is None


def test_a_long_prompt_takes_memory_for_attention_in_onnx_runtime(config: RunConfig) -> None:
    short, long = (
        needed(a_tinyllama(config, "onnx"), prompts=["x" * 3 * tokens]).serve_bytes
        for tokens in (100, 1024)
    )
    assert long - short > 32 * 1024**2 * 4 * 3  # three matrices of scores for each of 32 heads


def test_eight_bits_in_onnx_need_the_exact_export_too(config: RunConfig) -> None:
    exact, rounded = needed(a_tinyllama(config, "onnx", dtype="int8")).exports.values()
    assert exact > 3 * rounded


def test_a_guess_is_the_time_to_read_the_weights_once_per_token(config: RunConfig) -> None:
    measurement = dataclasses.replace(
        config.measurement, baseline_s=0.0, warmup_requests=0, prefill_s=0.0, serve_s=1.0
    )
    cell = a_tinyllama(config)
    needs, levels = needed(cell), dataclasses.replace(cell.settings, measurement=measurement)
    slow, fast = (
        guess_s(needs, levels, Speed(bytes_per_s=each, flop_per_s=1e18)) for each in (1e9, 2e9)
    )
    assert slow is not None
    assert fast is not None
    assert slow - fast == pytest.approx(100 * 4.14 / 2, rel=0.01)  # 1.03 B weights a token
    under_load = LoadConfig(name="open", mode="open", rate=1.0, ramp_s=50.0)
    loaded = dataclasses.replace(levels, load=under_load)
    [guess] = {guess_s(needs, loaded, Speed(bytes_per_s=b, flop_per_s=1e18)) for b in (1e9, 2e9)}
    assert guess == pytest.approx(51 + slow - 2 * (slow - fast), abs=2)


def test_only_what_certainly_does_not_fit_is_refused(config: RunConfig) -> None:
    needs = needed(a_tinyllama(config))
    assert needs.memory_bytes is not None
    assert refusal(needs.memory_bytes, round(needs.memory_bytes / 1.14), "this machine") is None
    reason = refusal(needs.memory_bytes, 2 * GB, "the control group /pod")
    assert reason is not None
    assert reason.startswith("a trial needs about 4.9 GB of memory, and the control group /pod has")
    assert "raise that limit (docker --memory" in reason
    assert "raise" not in str(refusal(needs.memory_bytes, 2 * GB, "this machine"))


def test_a_cell_that_does_not_fit_cannot_run(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slm_energy.memory_limit.allowed", lambda: (100_000_000, "this machine"))
    found = grid.resolve([dataclasses.replace(config, engine=EngineConfig(name="torch"))])
    assert found.cells == ()
    assert "this machine has 0.1 GB: try a smaller" in found.unsupported[0][1]


def test_plan_says_what_a_grid_needs(slm_energy: Command) -> None:
    done = slm_energy("plan", "model=tinyllama-1.1b", "model.weights=random", "engine=onnx")
    line = next(line for line in done.stdout.splitlines() if line.startswith("tinyllama"))
    assert re.search(r" 9\.\d GB +~\d+ *$", line)
    assert "to export, once: 6.60 GB (random 2.20 GB, onnx 4.40 GB)" in done.stdout
    assert "a guess: cells marked ~ have not run yet" in done.stdout
