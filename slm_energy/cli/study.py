"""The key `study` of the verbs that read a stored study."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from slm_energy.config.check import tracking_group
from slm_energy.config.compose import compose
from slm_energy.errors import ConfigError


def compose_study(group: str, words: Sequence[str], keys: Sequence[str] = ()) -> dict[str, Any]:
    """Compose the options of a verb that needs `study=NAME`.

    Args:
        group: their file in conf/.
        words: as on Hydra's command line.
        keys: other keys of the file that a group has for its name too.

    Raises:
        ConfigError: the words cannot be composed, or name no study; then the line lists those of
            the store.
        TrackingError: no study is named, and there is no such store.
    """
    from slm_energy.store.connection import store_uri
    from slm_energy.store.tracking import open_existing

    composed = compose(group, ["study=null", *words], keys=["study", *keys])
    if composed["study"] is None:
        tracking = tracking_group(composed)
        names = ", ".join(open_existing(tracking).studies()) or "none"
        raise ConfigError(
            f"study=NAME is missing; the studies of {store_uri(tracking)} are: {names}"
        )
    return composed
