"""Hub ids and the commits that pin them.

A hub id names a repository (`org/name`) whose content changes over time; only a commit fixes the
content. Models and workloads from a hub therefore require a commit.
"""

from __future__ import annotations

import re
from pathlib import Path

from slm_energy.config.groups import BUNDLED
from slm_energy.errors import ConfigError, one_line
from slm_energy.places import file_error


def is_hub_id(source: str) -> bool:
    """Whether a source is a hub id: `org/name`, and no such path exists."""
    return (
        source != BUNDLED
        and re.fullmatch(r"[\w.-]+/[\w.-]+", source) is not None
        and not source.startswith(".")
        and not source.endswith((".jsonl", ".gz", ".gguf", ".safetensors"))
        and not Path(source).exists()
    )


def pinned_commit(group: str, source: str, revision: str | None) -> str:
    """The commit that `GROUP.revision` pins.

    Args:
        group: `model` or `workload`.
        source: `GROUP.source`, a hub id.
        revision: `GROUP.revision`.

    Raises:
        ConfigError: the revision is not a commit; branches and tags move.
    """
    if revision is None or not re.fullmatch(r"[0-9a-f]{40}", revision):
        kind = "datasets/" if group == "workload" else ""
        raise ConfigError(
            f"{group}.source={source} is a hub id: pin it with {group}.revision=COMMIT (40 hex"
            f" digits, see https://huggingface.co/{kind}{source}/commits/main), or give a path that"
            f" exists; revision is {revision!r}"
        )
    return revision


def failure(error: OSError) -> str:
    """Why a download failed, in one line: the hub's answer, or the file that cannot be used."""
    if error.filename is None:
        return one_line(error)
    from huggingface_hub import constants

    return str(file_error(error, [("HF_HUB_CACHE", constants.HF_HUB_CACHE)]))
