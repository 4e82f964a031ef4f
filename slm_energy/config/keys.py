"""All keys: those of the groups, and those of the verbs that have a file of their own in conf/."""

from __future__ import annotations

import dataclasses
import typing

from slm_energy.config.groups import RunConfig
from slm_energy.config.key import KeyInfo, keys_of
from slm_energy.config.options import (
    AnalysisOptions,
    CalibrateOptions,
    CompareOptions,
    ComparisonFiles,
    ExportOptions,
    RecommendOptions,
    ReportFiles,
    ScoreOptions,
    UiOptions,
)
from slm_energy.serialization import field_types

GROUPS: dict[str, type] = {
    name: kind for name, kind in field_types(RunConfig).items() if name != "launcher"
}
"""The folders of conf/ that a run is composed of."""
FILES: dict[str, tuple[type, ...]] = {
    "analysis": (AnalysisOptions, ReportFiles),
    "compare": (CompareOptions, ComparisonFiles),
    "export": (ExportOptions,),
    "calibrate": (CalibrateOptions,),
    "recommend": (RecommendOptions,),
    "score": (ScoreOptions,),
    "ui": (UiOptions,),
}
"""The files of conf/ that the verbs of these names read; `report` reads analysis, and so
does `export`."""


def keys(group: str | None = None) -> tuple[KeyInfo, ...]:
    """The keys of a group (`engine.threads`) or file (`margin`) of conf/, in order.

    Args:
        group: one of `GROUPS` or `FILES`; None is all groups.

    Raises:
        KeyError: there is no such group or file.
    """
    if group is None:
        return tuple(key for name in GROUPS for key in keys(name))
    if group in FILES:
        return tuple(key for kind in FILES[group] for key in keys_of(kind))
    return keys_of(GROUPS[group], f"{group}.")


def known_keys(path: str) -> tuple[str, list[str]]:
    """The part of a dotted path that exists, and the keys directly below it, in order.

    Args:
        path: begins with the name of a group: `measurement.limits.steel`.
    """
    group, *parts = path.split(".")
    known, kind = group, GROUPS[group]
    for part in parts:
        hint = field_types(kind).get(part)
        inner = [k for k in (hint, *typing.get_args(hint)) if dataclasses.is_dataclass(k)]
        if not inner:
            break
        known, kind = f"{known}.{part}", typing.cast(type, inner[0])
    return known, [field.name for field in dataclasses.fields(kind)]
