from __future__ import annotations

import dataclasses
import math
import re
from typing import Any

import pytest

from slm_energy.cell import cell_id, cell_labels, flat, settings
from slm_energy.config.check import run_config
from slm_energy.config.groups import RunConfig
from slm_energy.config.key import KeyInfo
from slm_energy.config.keys import keys
from slm_energy.errors import ConfigError


def changed(composed: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    group, _, field = key.partition(".")
    return composed | {group: composed[group] | {field: value}}


def test_a_composed_mapping_becomes_frozen_dataclasses(composed: dict[str, Any]) -> None:
    config = run_config(composed)
    assert config.engine.name == "scripted"
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.engine.name = "torch"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("engine.decod", "session", ["engine.decod='session'", "decode", "threads"]),
        ("engine.dtype", "fp32", ["engine.dtype='fp32'", "float32, bfloat16, float16"]),
        ("engine.threads", 0, ["engine.threads=0", "at least 1"]),
        ("engine.threads", "two", ["engine.threads='two'", "int"]),
        ("engine.options", {"token_s": math.nan}, ["engine.options=", "finite number, got nan"]),
        ("study.rounds", 0, ["study.rounds=0", "at least 1"]),
        ("study.rounds", True, ["study.rounds=True", "int"]),
        ("study.name", "a/b", ["study.name='a/b'"]),
        ("study.name", "..", ["study.name='..'", "neither . nor .."]),
        ("workload.new_tokens", 0, ["workload.new_tokens=0"]),
        (
            "measurement.period_s",
            0.0,
            ["measurement.period_s=0.0", "at most 60, or null"],
        ),
        ("measurement.period_s", 1.0, ["measurement.max_gap_s=1.0", "invalid"]),
        ("measurement.mode", False, ["measurement.mode=False", "auto, strict, off"]),
        ("measurement.target_error", 0.0, ["measurement.target_error=0.0", "at least 0.0001"]),
        (
            "measurement.limits",
            {"steal_pct": 101},
            ["limits.steal_pct=101", "at most 100"],
        ),
        ("study.precision_pct", 0.0, ["study.precision_pct=0.0", "or null"]),
        ("study.sentinel", "torch", ["study.sentinel='torch'", "expected a mapping"]),
        ("workload.name", "sentinel", ["workload.name=sentinel", "choose another name"]),
        ("study.gate", {"load_pct": 101}, ["study.gate.load_pct=101", "at least 0, at most 100"]),
        ("measurement.wall_meter", {"url": "http://x"}, ["measurement.wall_meter", "is missing"]),
        ("measurement.limits", {"steal_pct": "x"}, ["limits.steal_pct: expected float, got 'x'"]),
    ],
)
def test_a_wrong_value_is_one_line_with_key_value_and_choices(
    composed: dict[str, Any], key: str, value: Any, words: list[str]
) -> None:
    with pytest.raises(ConfigError) as raised:
        run_config(changed(composed, key, value))
    text = str(raised.value)
    assert "\n" not in text
    for word in words:
        assert word in text


@pytest.mark.parametrize("key", [key for key in keys() if key.range], ids=lambda key: key.name)
def test_every_range_is_checked_at_both_ends(composed: dict[str, Any], key: KeyInfo) -> None:
    *path, last = key.name.split(".")
    mapping = composed
    for name in path:
        mapping = mapping.setdefault(name, {})
    if "wall_meter" in path:
        mapping |= {"url": "http://meter", "path": "power", "unit": "W"}
    assert key.low is not None
    assert key.high is not None
    for value in (key.low - 1, key.high + 1):
        mapping[last] = value
        with pytest.raises(ConfigError) as raised:
            run_config(composed)
        assert re.fullmatch(rf"{key.name}=\S+ is out of range: {key.range}", str(raised.value))


def test_a_machine_is_shared_only_where_nothing_is_metered(composed: dict[str, Any]) -> None:
    shared = changed(composed, "study.busy", "share")
    assert run_config(shared).study.busy == "share"
    with pytest.raises(ConfigError, match=r"study\.busy=share with measurement\.mode=auto: energy"):
        run_config(changed(shared, "measurement.mode", "auto"))


@pytest.mark.parametrize(
    ("load", "batch_size", "words"),
    [
        ({"mode": "open", "rate": 0}, 1, "load.rate=0.0 is out of range: at least 1e-06"),
        ({"mode": "open"}, 1, "load=open needs one of load.rate, in requests per second, and"),
        ({"mode": "open", "rate": 1, "trace": "a.csv"}, 1, "load=open needs one of load.rate"),
        (
            {"mode": "open", "rate": 1, "slo": {"ttft": 1}},
            1,
            "unknown key 'ttft'; known: ttft_s, tpot_s, e2e_s",
        ),
        ({"mode": "open", "rate": 1}, 4, "workload.batch_size=4 with load=open: requests come"),
        ({"mode": "closed", "clients": 0}, 1, "load.clients=0 is out of range: at least 1"),
        ({"mode": "batch", "rate": 2}, 1, "load.rate=2.0 with load=batch: set load=open or"),
        ({"mode": "batch", "clients": 2}, 1, "load.clients=2 with load=batch: set load=closed"),
    ],
)
def test_a_load_that_does_not_fit_together_is_one_line(
    composed: dict[str, Any], load: dict[str, Any], batch_size: int, words: str
) -> None:
    composed = changed(composed, "workload.batch_size", batch_size)
    with pytest.raises(ConfigError) as refused:
        run_config(composed | {"load": {"name": load["mode"], **load}})
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_without_its_group_a_configuration_has_no_load(composed: dict[str, Any]) -> None:
    """Those stored before there was one; and the cells of their studies go on."""
    before = run_config(composed)
    assert before.load.mode == "batch"
    batches = run_config(composed | {"load": {"name": "batch", "ramp_s": 5.0}})
    identities = {cell_id(settings(config), "m", "w", {}) for config in (before, batches)}
    assert len(identities) == 1
    loaded = run_config(composed | {"load": {"name": "open", "mode": "open", "rate": 1.0}})
    assert cell_id(settings(loaded), "m", "w", {}) not in identities


def test_a_missing_key_and_an_unknown_group_are_named(composed: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"study\.name is missing"):
        run_config(composed | {"study": {}})
    with pytest.raises(ConfigError, match="unknown key 'modle'"):
        run_config(composed | {"modle": {}})


def test_a_cell_is_identified_by_what_can_change_its_result(composed: dict[str, Any]) -> None:
    composed = changed(composed, "workload.name", "mine")
    config = run_config(composed)

    def identity(config: RunConfig, digest: str = "m", **versions: str) -> str:
        return cell_id(settings(config), digest, "w", versions)

    same = [
        changed(composed, "study.rounds", 9),
        changed(composed, "tracking.folder", "elsewhere"),
        changed(composed, "workload.source", "moved.jsonl"),
        changed(composed, "measurement.powercap_root", "/tmp/powercap"),
    ]
    other = [
        changed(composed, "engine.decode", "generate"),
        changed(composed, "workload.new_tokens", 5),
        changed(composed, "measurement.serve_s", 9.0),
        changed(composed, "model.name", "the same under another label"),
    ]
    assert {identity(run_config(each)) for each in same} == {identity(config)}
    others = {identity(run_config(each)) for each in other}
    others |= {identity(config, digest="other"), identity(config, torch="2.13.1")}
    assert len(others) == 6
    assert identity(config) not in others


def test_labels_name_model_engine_provider_and_what_else_differs(composed: dict[str, Any]) -> None:
    def row(key: str, value: Any) -> Any:
        return flat(settings(run_config(changed(composed, key, value))))

    plain = cell_labels([("a", row("engine.name", "torch")), ("b", row("engine.name", "onnx"))])
    assert plain == {"a": "bundled / torch / cpu", "b": "bundled / onnx / cpu"}
    decoded = cell_labels(
        [("a", row("engine.decode", "session")), ("b", row("engine.decode", "generate"))]
    )
    assert decoded["b"] == "bundled / scripted / cpu / decode=generate"
    several = cell_labels(
        [
            ("a", row("model.name", "a") | {"model.digest": "1"}),
            ("b", row("model.name", "b") | {"model.digest": "2"}),
            ("c", row("model.name", "b") | {"model.digest": "2", "workload.name": "other"}),
        ]
    )
    assert several["a"] == "a / scripted / cpu / workload=bundled"
    assert several["c"] == "b / scripted / cpu / workload=other"
    twins = cell_labels([("a1", row("study.rounds", 1)), ("b1", row("study.rounds", 1))])
    assert len(set(twins.values())) == 2
