"""Description of a cell by its engine, in the current environment, before anything is loaded."""

from __future__ import annotations

import dataclasses
import platform

from slm_energy.cell import Settings
from slm_energy.devices import nvidia
from slm_energy.engines.base import EngineSpec, find
from slm_energy.errors import ConfigError, did_you_mean


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Description:
    """What an engine reports about a cell.

    Attributes:
        versions: of Python and of the packages that can change a result.
        unsupported: why the cell cannot run with what is installed here, or None.
        error: what makes the configuration invalid on any machine, or None.
    """

    versions: dict[str, str]
    unsupported: str | None
    error: str | None = None


def describe(settings: Settings) -> Description:
    """Describe a cell without importing the engine's libraries."""
    try:
        spec = find(settings.engine.name)
        _check_options(spec, settings)
    except ConfigError as error:
        return Description(versions={}, unsupported=None, error=str(error))
    versions = {"python": platform.python_version(), **spec.versions(settings)}
    return Description(versions=versions, unsupported=spec.refusal(settings))


def refusal(settings: Settings) -> str | None:
    """Why settings cannot run where this process does, or None: their engine, or their GPU."""
    provider = settings.provider
    reason = find(settings.engine.name).refusal(settings)
    return reason or nvidia.missing(provider.name, provider.device)


def _check_options(spec: EngineSpec, settings: Settings) -> None:
    for key, value in settings.engine.options.items():
        if key not in spec.options:
            known = f"valid options: {', '.join(spec.options) or 'none'}"
            advice = did_you_mean(key, spec.options, otherwise=known, prefix="engine.options.")
            raise ConfigError(
                f"engine.options.{key}={value}: engine {spec.name} has no such option; {advice}"
            )
        allowed = spec.options[key]
        if allowed and str(value) not in allowed:
            raise ConfigError(
                f"engine.options.{key}={value} is not valid: choose one of {', '.join(allowed)}"
            )
