"""The keys of conf/analysis.yaml, checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slm_energy.carbon_factors import carbon_factor
from slm_energy.config.check import checked
from slm_energy.config.options import METRICS, AnalysisOptions
from slm_energy.errors import ConfigError

__all__ = ["METRICS", "AnalysisOptions", "options"]


def options(mapping: Mapping[str, Any]) -> AnalysisOptions:
    """Check the keys of conf/analysis.yaml and freeze them.

    Raises:
        ConfigError: an unknown or missing key, a wrong type, a value out of range or named twice,
            a location without a carbon factor.
    """
    result = checked(AnalysisOptions, mapping, "analysis")
    if not result.study:
        raise ConfigError("study is missing: name the study to report on with study=NAME")
    if not result.metrics:
        raise ConfigError(f"metrics=[] is empty: name at least one, such as {METRICS[0]}")
    for key in ("metrics", "factors", "families"):
        names = getattr(result, key)
        if twice := [name for name in names if names.count(name) > 1]:
            raise ConfigError(f"{key} names {twice[0]!r} twice: once is enough")
    if result.carbon.location is not None:
        carbon_factor(result.carbon.location)
    return result
