"""From what Hydra composed to checked groups.

Hydra turns YAML into a mapping; `run_config` turns that mapping into frozen dataclasses, once. What
comes after knows nothing of Hydra. A wrong key or value is a `ConfigError` of one line that names
the key, the value and the choices.
"""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Mapping
from typing import Any, Literal

from slm_energy.config.groups import SENTINEL, LauncherConfig, RunConfig, TrackingConfig
from slm_energy.errors import ConfigError
from slm_energy.serialization import convert, field_types, from_plain


class _Range(typing.NamedTuple):
    low: float
    high: float
    text: str


_RANGES: dict[str, _Range] = {
    "engine.threads": _Range(1, 4096, "at least 1, or null for one per processor"),
    "provider.device": _Range(0, 1023, "at least 0"),
    "measurement.target_error": _Range(0.0001, 1, "a share between 0.0001 and 1"),
    "measurement.period_s": _Range(
        0.001, 60, "between 0.001 and 60 seconds, or null for each source's own"
    ),
    "measurement.baseline_s": _Range(0, 86400, "at least 0 seconds"),
    "measurement.warmup_requests": _Range(0, 1e6, "at least 0"),
    "measurement.warmup_s": _Range(0, 86400, "at least 0 seconds"),
    "measurement.prefill_s": _Range(0, 86400, "at least 0 seconds"),
    "measurement.serve_s": _Range(0, 86400, "at least 0 seconds"),
    "measurement.max_gap_s": _Range(0.01, 86400, "at least 0.01 seconds"),
    "measurement.wall_meter.period_s": _Range(0.01, 3600, "between 0.01 and 3600 seconds"),
    "measurement.wall_meter.gain_pct": _Range(0, 100, "between 0 and 100 percent"),
    "measurement.wall_meter.timeout_s": _Range(0.01, 60, "between 0.01 and 60 seconds"),
    "measurement.limits.foreign_cpu_pct": _Range(0, 100, "between 0 and 100 percent"),
    "measurement.limits.steal_pct": _Range(0, 100, "between 0 and 100 percent"),
    "measurement.limits.throttled_pct": _Range(0, 100, "between 0 and 100 percent"),
    "measurement.limits.gpu_processes": _Range(0, 1e6, "at least 0"),
    "measurement.limits.disagreement_pct": _Range(0, 1000, "at least 0 percent"),
    "measurement.limits.divergence_pct": _Range(0, 100, "between 0 and 100 percent"),
    "cache.limit_gb": _Range(0, 1e9, "at least 0"),
    "workload.limit": _Range(1, 1e9, "at least 1, or null for all"),
    "workload.batch_size": _Range(1, 4096, "at least 1"),
    "workload.new_tokens": _Range(1, 1e6, "at least 1"),
    "study.rounds": _Range(1, 1e6, "at least 1"),
    "study.attempts": _Range(1, 1000, "at least 1"),
    "study.timeout_s": _Range(1, 1e7, "at least 1 second"),
    "study.gate.pause_s": _Range(0, 86400, "at least 0 seconds"),
    "study.gate.at_most_s": _Range(0, 86400, "at least 0 seconds; 0 does not wait"),
    "study.gate.load_pct": _Range(0, 100, "between 0 and 100 points"),
    "study.gate.temperature_c": _Range(0, 100, "between 0 and 100 degrees"),
    "study.gate.power_pct": _Range(0, 1000, "at least 0 percent"),
    "study.precision_pct": _Range(0.01, 100, "between 0.01 and 100 percent, or null"),
}

GROUPS: dict[str, type] = {
    name: kind for name, kind in typing.get_type_hints(RunConfig).items() if name != "launcher"
}


def group_keys(group: str) -> list[str]:
    """The keys of a group, in order."""
    return known_keys(group)[1]


def known_keys(path: str) -> tuple[str, list[str]]:
    """The part of a dotted path that exists, and the keys that stand there, in order.

    Args:
        path: begins with the name of a group: `measurement.limits.steel`.
    """
    group, *parts = path.split(".")
    found, kind = group, GROUPS[group]
    for part in parts:
        hint = field_types(kind).get(part)
        inner = [k for k in (hint, *typing.get_args(hint)) if dataclasses.is_dataclass(k)]
        if not inner:
            break
        found, kind = f"{found}.{part}", typing.cast(type, inner[0])
    return found, [field.name for field in dataclasses.fields(kind)]


def run_config(composed: Mapping[str, Any], launcher: LauncherConfig | None = None) -> RunConfig:
    """Check a composed configuration and freeze it.

    Args:
        composed: group name to its keys, plain values only.
        launcher: how trials run as jobs, if they do.

    Raises:
        ConfigError: an unknown or missing key, a wrong type, a value out of range.
    """
    if unknown := sorted(set(composed) - set(GROUPS)):
        raise ConfigError(f"unknown key {unknown[0]!r}; known groups: {', '.join(GROUPS)}")
    groups = {name: _group(name, kind, composed.get(name)) for name, kind in GROUPS.items()}
    config = RunConfig(**groups, launcher=launcher)
    for key, allowed in _RANGES.items():
        value = _value(config, key)
        if value is not None and not allowed.low <= value <= allowed.high:
            raise ConfigError(f"{key}={value} is out of range: {allowed.text}")
    measurement = config.measurement
    if measurement.period_s is not None and measurement.period_s >= measurement.max_gap_s:
        raise ConfigError(
            f"measurement.period_s={measurement.period_s} is not below measurement.max_gap_s="
            f"{measurement.max_gap_s}: every window would be invalid"
        )
    if config.study.busy == "share" and measurement.mode != "off":
        raise ConfigError(
            f"study.busy=share with measurement.mode={measurement.mode}: energy counters are the"
            " whole machine's, so trials side by side would count each other; set measurement=off"
        )
    if config.workload.name == SENTINEL:
        raise ConfigError(
            f"workload.name={SENTINEL} is what study.sentinel names its cell: choose another name"
        )
    if not re.fullmatch(r"[\w .+-]{1,100}", config.study.name):
        raise ConfigError(
            f"study.name={config.study.name!r}: letters, digits, space and . _ + - only"
        )
    return config


def tracking_group(composed: dict[str, Any]) -> TrackingConfig:
    """Take the tracking group out of what was composed for a verb.

    Raises:
        ConfigError: it is not valid.
    """
    try:
        return from_plain(TrackingConfig, composed.pop("tracking"))
    except ValueError as error:
        raise ConfigError(f"tracking: {error}") from None


def _value(config: RunConfig, key: str) -> Any:
    """What stands at a dotted key; None where a part of the way is left out."""
    value: Any = config
    for name in key.split("."):
        value = None if value is None else getattr(value, name)
    return value


def _group(name: str, kind: type, data: Any) -> Any:
    if not isinstance(data, Mapping):
        raise ConfigError(f"{name}={data!r}: expected a group file such as {name}/NAME.yaml")
    known = group_keys(name)
    if unknown := sorted(set(data) - set(known)):
        value = data[unknown[0]]
        raise ConfigError(
            f"{name}.{unknown[0]}={value!r}: no such key; {name} has: {', '.join(known)}"
        )
    for field in dataclasses.fields(kind):
        required = (
            field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        )
        if field.name not in data and required:
            raise ConfigError(f"{name}.{field.name} is missing: set {name}.{field.name}=...")
        if field.name in data:
            _check_type(f"{name}.{field.name}", field_types(kind)[field.name], data[field.name])
    return from_plain(kind, data)


def _check_type(key: str, kind: Any, value: Any) -> None:
    try:
        convert(kind, value, key)
    except ValueError as error:
        choices = typing.get_args(kind) if typing.get_origin(kind) is Literal else ()
        hint = f"choose one of {', '.join(choices)}" if choices else str(error).partition(": ")[2]
        raise ConfigError(f"{key}={value!r} is not valid: {hint}") from None
