"""Models and workloads that are named by their source: a folder, a file, or a hub id.

`model=ORG/NAME` and `model=FOLDER` are choices that no file in conf/model has: they are
conf/model/bundled.yaml with that source (`SourceChoices` in `hydra_plugins/`). A shipped file's
name stands for its own source only; another source is named after its folder, file or id, so that
no table calls it `bundled`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

_CONF = Path(__file__).parents[1] / "conf"
_COMMIT = re.compile(r"[0-9a-f]{40}")
_PATH = re.compile(r"(/|~|\.{1,2}/)")
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")


def is_source(choice: str) -> bool:
    """Whether a choice in the group `model` is a folder or hub id, if no file has its name."""
    return _PATH.match(choice) is not None or _HUB_ID.fullmatch(choice) is not None


def model_of(source: str) -> dict[str, Any]:
    """The keys of conf/model's default file, with this source."""
    return _shipped("model")["bundled"] | {"source": source}


def named_after_source(group: str, keys: Mapping[str, Any]) -> Mapping[str, Any]:
    """The keys of a group, renamed if the name is that of a shipped file with another source.

    Args:
        group: `model` or `workload`.
        keys: as composed.
    """
    shipped = _shipped(group).get(str(keys.get("name")))
    source = keys.get("source")
    if shipped is None or not isinstance(source, str) or shipped["source"] == source:
        return keys
    return {**keys, "name": source_name(source)}


def source_name(source: str) -> str:
    """What a source is called: the last part of its path or id, without the ending of a file.

    A snapshot in the hub's cache, `models--ORG--NAME/snapshots/COMMIT`, is called NAME.
    """
    parts = [part for part in Path(source).expanduser().absolute().parts if part != "/"]
    while len(parts) > 1 and (_COMMIT.fullmatch(parts[-1]) or parts[-1] == "snapshots"):
        parts.pop()
    name = parts[-1].rpartition("--")[2] if parts else source
    return re.sub(r"\.(jsonl|json|parquet|txt)(\.gz)?$", "", name) or source


@functools.cache
def _shipped(group: str) -> dict[str, dict[str, Any]]:
    files = sorted((_CONF / group).glob("*.yaml"))
    keys = [yaml.safe_load(file.read_text(encoding="utf-8")) for file in files]
    return {each["name"]: each for each in keys}
