"""From what Hydra composed to checked groups.

Hydra turns YAML into a mapping; `run_config` turns that mapping into frozen dataclasses, once. What
comes after knows nothing of Hydra. A wrong key or value is a `ConfigError` of one line that names
the key, the value and the choices.
"""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Collection, Mapping
from typing import Any, Literal, TypeVar

from slm_energy.config.groups import (
    SENTINEL,
    CacheConfig,
    LauncherConfig,
    MeasurementConfig,
    RunConfig,
    TrackingConfig,
)
from slm_energy.config.key import keys_of
from slm_energy.config.keys import GROUPS
from slm_energy.config.sources import named_after_source
from slm_energy.errors import ConfigError
from slm_energy.names import is_name
from slm_energy.serialization import convert, field_types, from_plain

T = TypeVar("T")


def run_config(
    composed: Mapping[str, Any],
    launcher: LauncherConfig | None = None,
    named: Collection[str] = (),
) -> RunConfig:
    """Check a composed configuration and freeze it.

    Args:
        composed: group name to its keys, plain values only.
        launcher: how trials run as jobs, if they do.
        named: groups whose name the user has set: it stays, whatever their source.

    Raises:
        ConfigError: an unknown or missing key, a wrong type, a value out of range.
    """
    if unknown := sorted(set(composed) - set(GROUPS)):
        raise ConfigError(f"unknown key {unknown[0]!r}; known groups: {', '.join(GROUPS)}")
    groups: dict[str, Any] = {}
    for name, kind in GROUPS.items():
        if name == "load" and name not in composed:
            continue  # written before there was this group: batches
        keys = composed.get(name)
        renamed = name in ("model", "workload") and name not in named
        if renamed and isinstance(keys, Mapping):
            keys = named_after_source(name, keys)
        groups[name] = _group(kind, name, keys)
    config = _with_revision(RunConfig(**groups, launcher=launcher))
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
    if config.workload.fim and config.workload.prompt == "chat":
        raise ConfigError(
            "workload.fim=true with workload.prompt=chat: no chat template has a place for the"
            " markers; set workload.prompt=completion or workload.fim=false"
        )
    if reason := _load_error(config):
        raise ConfigError(reason)
    if config.workload.name == SENTINEL:
        raise ConfigError(
            f"workload.name={SENTINEL} is what study.sentinel names its cell: choose another name"
        )
    if not re.fullmatch(r"[\w .+-]{1,100}", config.study.name) or not is_name(config.study.name):
        raise ConfigError(
            f"study.name={config.study.name!r}: letters, digits, space and . _ + - only,"
            " and neither . nor .."
        )
    return config


def _load_error(config: RunConfig) -> str:
    """Why the keys of the load do not fit together; empty if they do."""
    load = config.load
    unused = ("rate", "trace", "abort_after_s") if load.mode == "batch" else ()
    for key in unused:
        if getattr(load, key) is not None:
            return f"load.{key}={getattr(load, key)} with load=batch: set load=open or load=closed"
    if load.mode == "batch" and load.clients != 1:
        return f"load.clients={load.clients} with load=batch: set load=closed"
    if load.mode == "open" and (load.rate is None) == (load.trace is None):
        return "load=open needs one of load.rate, in requests per second, and load.trace"
    if load.mode != "batch" and config.workload.batch_size != 1:
        return (
            f"workload.batch_size={config.workload.batch_size} with load={load.name}: requests come"
            " one by one, and the server batches them; set workload.batch_size=1"
        )
    return ""


def _with_revision(config: RunConfig) -> RunConfig:
    """Fill in a model's revision from `study.revisions`; its own comes first."""
    revision = config.model.revision or (config.study.revisions or {}).get(config.model.name)
    return dataclasses.replace(config, model=dataclasses.replace(config.model, revision=revision))


def tracking_group(composed: dict[str, Any]) -> TrackingConfig:
    """Take the tracking group out of what was composed for a verb.

    Raises:
        ConfigError: it is not valid.
    """
    return _group(TrackingConfig, "tracking", composed.pop("tracking"))


def cache_group(composed: dict[str, Any]) -> CacheConfig:
    """Take the cache group out of what was composed for a verb.

    Raises:
        ConfigError: it is not valid.
    """
    return _group(CacheConfig, "cache", composed.pop("cache"))


def measurement_group(composed: dict[str, Any]) -> MeasurementConfig:
    """Take the measurement group out of what was composed for a verb.

    Raises:
        ConfigError: it is not valid.
    """
    return _group(MeasurementConfig, "measurement", composed.pop("measurement"))


def _group(kind: type[T], name: str, data: Any) -> T:
    if not isinstance(data, Mapping):
        raise ConfigError(f"{name}={data!r}: expected a group file such as {name}/NAME.yaml")
    return checked(kind, data, name, prefix=f"{name}.")


def checked(kind: type[T], data: Mapping[str, Any], name: str, *, prefix: str = "") -> T:
    """Check keys, types and ranges, and freeze the result.

    Args:
        kind: a dataclass whose fields are annotated with `Key`.
        data: key to value.
        name: what has these keys, for errors: a group, or a file of conf/.
        prefix: what goes before each key in errors: `engine.` for a group.

    Raises:
        ConfigError: an unknown or missing key, a wrong type, a value out of range.
    """
    declared: type = kind
    infos, types = keys_of(declared), field_types(declared)
    for key, value in data.items():
        if key not in types:
            known = ", ".join(types)
            raise ConfigError(f"{prefix}{key}={value!r}: no such key; {name} has: {known}")
        _check_type(prefix + key, types[key], value)
    for info in infos:
        if info.name in types and info.required and info.name not in data:
            raise ConfigError(f"{prefix}{info.name} is missing: set {prefix}{info.name}=...")
    frozen = from_plain(kind, dict(data))
    for info in infos:
        value = _value(frozen, info.name)
        if value is not None and not info.allows(value):
            raise ConfigError(f"{prefix}{info.name}={value} is out of range: {info.range}")
    return frozen


def _value(settings: Any, key: str) -> Any:
    """The value at a dotted key; None where a part of the path is null."""
    for name in key.split("."):
        settings = None if settings is None else getattr(settings, name)
    return settings


def _check_type(key: str, kind: Any, value: Any) -> None:
    try:
        convert(kind, value, key)
    except ValueError as error:
        choices = typing.get_args(kind) if typing.get_origin(kind) is Literal else ()
        reason = str(error).removeprefix(f"{key}: ")
        hint = f"choose one of {', '.join(choices)}" if choices else reason
        raise ConfigError(f"{key}={value!r} is not valid: {hint}") from None
