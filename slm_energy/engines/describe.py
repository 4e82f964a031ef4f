"""What an engine says of a cell before anything is loaded, in the environment where this runs."""

from __future__ import annotations

import dataclasses
import platform

from slm_energy.cell import Settings
from slm_energy.engines.base import EngineSpec, find
from slm_energy.errors import ConfigError, did_you_mean


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Description:
    """What an engine says of a cell.

    Attributes:
        versions: of Python and of the packages that can change a result.
        unsupported: why the cell cannot run here, or None.
        error: what is wrong with the configuration wherever it runs, or None.
    """

    versions: dict[str, str]
    unsupported: str | None
    error: str | None = None


def describe(settings: Settings) -> Description:
    """Ask the engine of these settings; imports none of its libraries."""
    try:
        spec = find(settings.engine.name)
        _check_options(spec, settings)
    except ConfigError as error:
        return Description(versions={}, unsupported=None, error=str(error))
    versions = {"python": platform.python_version(), **spec.versions()}
    return Description(versions=versions, unsupported=spec.unsupported(settings))


def _check_options(spec: EngineSpec, settings: Settings) -> None:
    for key, value in settings.engine.options.items():
        if key not in spec.options:
            known = f"it has: {', '.join(spec.options) or 'none'}"
            advice = did_you_mean(key, spec.options, otherwise=known, prefix="engine.options.")
            raise ConfigError(
                f"engine.options.{key}={value}: engine {spec.name} has no such option; {advice}"
            )
        allowed = spec.options[key]
        if allowed and str(value) not in allowed:
            raise ConfigError(
                f"engine.options.{key}={value} is not valid: choose one of {', '.join(allowed)}"
            )
