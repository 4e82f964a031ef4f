"""The keys of conf/analysis.yaml, checked."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any

from slm_energy.errors import ConfigError
from slm_energy.serialization import convert, from_plain

METRICS = (
    "energy/per_output_token_j",
    "latency/e2e_p50_s",
    "throughput/output_tokens_per_s",
    "latency/ttft_p50_s",
)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class AnalysisOptions:
    """What is compared, and how strictly.

    Attributes:
        study: name of the study.
        metrics: what is compared; the first one decides. An `energy/...` metric stands for its
            estimated twin in cells that have no sensor.
        factors: settings whose effects are estimated: `engine` is short for `engine.name`.
        families: settings that split the cells into families: cells are compared with those that
            have the same levels, and p is adjusted within. None of them: every cell with every one.
        reference: label or id of the cell that the others of its family are compared with, or the
            part of the label that is left without the family's levels; None takes the best.
        margin: a smaller relative difference does not matter; declare it before looking.
        alpha: family-wise error of a metric's comparisons; intervals have confidence 1 - alpha.
        draws: of the reference that p is read from.
        seed: of everything that is drawn at random.
        machine: which machine's trials; needed only where a study has several.
    """

    study: str
    metrics: tuple[str, ...] = METRICS
    factors: tuple[str, ...] = ("model", "engine", "provider")
    families: tuple[str, ...] = ("model",)
    reference: str | None = None
    margin: float = 0.02
    alpha: float = 0.05
    draws: int = 9999
    seed: int = 0
    machine: str | None = None


_RANGES: dict[str, tuple[float, float, str]] = {
    "margin": (0, 0.5, "between 0 and 0.5 (0.02 is 2 %)"),
    "alpha": (0.001, 0.2, "between 0.001 and 0.2"),
    "draws": (999, 1_000_000, "between 999 and 1,000,000"),
    "seed": (0, 2**32 - 1, "between 0 and 4,294,967,295"),
}


def options(mapping: Mapping[str, Any]) -> AnalysisOptions:
    """Check the keys of conf/analysis.yaml and freeze them.

    Raises:
        ConfigError: an unknown or missing key, a wrong type, a value out of range or named twice.
    """
    hints = typing.get_type_hints(AnalysisOptions)
    for key, value in mapping.items():
        if key not in hints:
            raise ConfigError(f"{key}={value!r}: no such key; analysis has: {', '.join(hints)}")
        try:
            convert(hints[key], value, key)
        except ValueError as error:
            raise ConfigError(f"{key}={value!r} is not valid: {error}") from None
    if not mapping.get("study"):
        raise ConfigError("study is missing: name the study to report on with study=NAME")
    result = from_plain(AnalysisOptions, dict(mapping))
    for key, (low, high, text) in _RANGES.items():
        if not low <= getattr(result, key) <= high:
            raise ConfigError(f"{key}={getattr(result, key)} is out of range: {text}")
    if not result.metrics:
        raise ConfigError(f"metrics=[] is empty: name at least one, such as {METRICS[0]}")
    for key in ("metrics", "factors", "families"):
        names = getattr(result, key)
        if twice := [name for name in names if names.count(name) > 1]:
            raise ConfigError(f"{key} names {twice[0]!r} twice: once is enough")
    return result
