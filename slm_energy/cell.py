"""A cell is one combination of factor levels; a trial is one cell in one round.

Both are plain data that travels to the worker as JSON. What identifies a cell is defined here, and
nowhere else.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from slm_energy.config import (
    EngineConfig,
    MeasurementConfig,
    ModelConfig,
    ProviderConfig,
    RunConfig,
    Scalar,
    WorkloadConfig,
)
from slm_energy.plain import to_plain


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """What can change a trial's result, and nothing else: what the worker is told."""

    model: ModelConfig
    engine: EngineConfig
    provider: ProviderConfig
    measurement: MeasurementConfig
    workload: WorkloadConfig


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One combination of factor levels.

    Attributes:
        id: `cell_id` of the rest.
        settings: the levels.
        model_digest: identifies the weights, tokenizer and config by content.
        workload_digest: identifies the prompts by content.
        versions: versions of the libraries that the engine computes with.
    """

    id: str
    settings: Settings
    model_digest: str
    workload_digest: str
    versions: dict[str, str]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """One cell in one round: one fresh process, one MLflow run.

    Attributes:
        id: unique; a trial tried twice has two.
        study: name of the study.
        sweep: id of the sweep invocation.
        cell: what is run.
        label: the cell's name in tables.
        round: 1, 2, ...; 0 for an unsupported cell, which is noted once.
        order: place in the planned order over all rounds, from 1.
        attempt: 1, 2, ...
        model_path: absolute path of the model's folder; empty when it never came that far.
        cache_path: absolute path of the cache of exported models.
        timeout_s: the worker is ended after this long.
        reference: the engine whose tokens this trial's are compared with; None compares nothing.
    """

    id: str
    study: str
    sweep: str
    cell: Cell
    label: str
    round: int
    order: int
    attempt: int
    model_path: str
    cache_path: str
    timeout_s: float
    reference: str | None = None


def settings(config: RunConfig) -> Settings:
    """The part of a configuration that can change a result."""
    return Settings(**{f.name: getattr(config, f.name) for f in dataclasses.fields(Settings)})


def flat(value: Settings) -> dict[str, Scalar]:
    """Dotted keys to scalars: `engine.decode`, `engine.options.io_binding`, ..."""
    result: dict[str, Scalar] = {}

    def walk(prefix: str, item: Any) -> None:
        if isinstance(item, dict):
            for key, inner in item.items():
                walk(f"{prefix}.{key}" if prefix else key, inner)
        else:
            result[prefix] = json.dumps(item) if isinstance(item, list) else item

    walk("", to_plain(value))
    return result


PLACES = (
    "model.source", "model.revision", "workload.source", "workload.revision", "measurement.name",
    "measurement.powercap_root", "measurement.wall_meter.url", "engine.python",
)  # fmt: skip
"""Where things are, not what they are: no part of a cell's identity or label."""

_TOLD_BY = {"model.digest": "model.name", "workload.digest": "workload.name"}


def cell_id(
    settings: Settings, model_digest: str, workload_digest: str, versions: Mapping[str, str]
) -> str:
    """Hash of everything that can change a result: 12 hex digits.

    Paths are left out: what they point at is covered by the two digests. Names are not, because an
    A/A study compares a cell with itself under another name.
    """
    identity: dict[str, Any] = {k: v for k, v in flat(settings).items() if k not in PLACES}
    identity |= {"model.digest": model_digest, "workload.digest": workload_digest}
    identity["versions"] = dict(versions)
    text = json.dumps(identity, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def cell_labels(cells: Iterable[tuple[str, Mapping[str, Scalar]]]) -> dict[str, str]:
    """Short, distinct names for cells: `model / engine / provider`, then what else differs.

    Args:
        cells: pairs of cell id and its flat settings.

    Returns:
        Cell id to label. Cells that differ in nothing visible (library versions, say) get their id.
    """
    table = dict(cells)
    core = ("model.name", "engine.name", "provider.name")
    keys = sorted({key for row in table.values() for key in row} - set(core) - set(PLACES))
    varying = [key for key in keys if _tells_apart(key, table.values())]
    labels = {}
    for cell, row in table.items():
        parts = [str(row.get(key)) for key in core]
        parts += [f"{_short(key)}={row.get(key)}" for key in varying if key in row]
        labels[cell] = " / ".join(parts)
    times = Counter(labels.values())
    return {
        cell: f"{label} / {cell[:6]}" if times[label] > 1 else label
        for cell, label in labels.items()
    }


def _tells_apart(key: str, rows: Iterable[Mapping[str, Scalar]]) -> bool:
    """Whether a label needs the key.

    An option that only one engine has, always alike, is noise; so is a digest that follows a name.
    """
    teller = _TOLD_BY.get(key, "engine.name")
    groups: dict[str, set[str | None]] = {}
    for row in rows:
        value = str(row[key]) if key in row else None
        groups.setdefault(str(row.get(teller)), set()).add(value)
    everywhere = {value for values in groups.values() for value in values if value is not None}
    differs_within = any(len(values) > 1 for values in groups.values())
    return differs_within or (key not in _TOLD_BY and len(everywhere) > 1)


def _short(key: str) -> str:
    """`engine.decode` is `decode`; `workload.name` is `workload`."""
    group, _, field = key.rpartition(".")
    return group if field == "name" else field
