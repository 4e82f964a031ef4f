"""The key `out` of the verbs that write files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from slm_energy.errors import ConfigError
from slm_energy.serialization import write_files


def write_out(out: str | None, files: Mapping[str, bytes]) -> None:
    """Write files to the folder `out=DIR`, if one is given.

    Raises:
        ConfigError: they cannot be written.
    """
    if out is None:
        return
    try:
        write_files(Path(out), files)
    except OSError as error:
        raise ConfigError(f"out={out} cannot be written: {error.strerror or error}") from error
