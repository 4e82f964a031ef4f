"""The options of `report` and `compare`: the keys of their configuration files, as keywords."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from slm_energy.config.compose import compose
from slm_energy.errors import ConfigError


def with_defaults(
    name: str, given: Mapping[str, Any], words: Sequence[str] = (), *, keys: Sequence[str] = ()
) -> dict[str, Any]:
    """The keys of conf/NAME.yaml without the store, with those that were given in their place.

    Args:
        name: the file.
        given: keywords of the call.
        words: overrides of groups, as on the command line.
        keys: see `config.compose.compose`.

    Raises:
        ConfigError: there is no such key.
    """
    composed = compose(name, words, keys=keys)
    del composed["tracking"]
    for key, value in given.items():
        if key not in composed:
            raise ConfigError(f"{key}={value!r}: no such option; there are: {', '.join(composed)}")
        composed[key] = list(value) if isinstance(value, tuple) else value
    return composed
