"""What Hydra says over several lines, in one: what is wrong, and what was probably meant.

Knows the texts of Hydra and OmegaConf, but imports neither.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from slm_energy.config.keys import GROUPS, keys, known_keys
from slm_energy.errors import did_you_mean
from slm_energy.serialization import field_types


def one_line(error: BaseException, names: Sequence[str]) -> str:
    """Say in one line what Hydra says in several, and what a mistyped name probably meant.

    Args:
        error: Hydra's or OmegaConf's.
        names: groups and keys at the top of what is composed.
    """
    text = str(error) if error.__cause__ is None else f"{error}\n{error.__cause__}"
    if "hydra/launcher/submitit_" in text:
        return "hydra/launcher=slurm and processes need submitit: pip install 'slm-energy[slurm]'"
    if resolver := re.search(r"Unsupported interpolation type (\S+)", text):
        where = getattr(error, "full_key", None) or "the configuration"
        return f"{where}: ${{{resolver[1]}:...}} is not available here; write the value itself"
    if group := re.search(r"Could not find '([\w/]+)/([^']+)'", text):
        block = re.search(r"Available options in .*?:\n((?:\t.*\n?)*)", text)
        choices = block[1].split() if block else []
        listed = f"choose one of {', '.join(choices) or 'none'}"
        advice = did_you_mean(group[2], choices, otherwise=listed)
        return f"{group[1]}={group[2]}: there is no such {group[1]}; {advice}"
    if key := re.search(r"Could not override '([\w.]+)'", text):
        cause: Any = error.__cause__
        parent = cause.parent_node if getattr(cause, "full_key", None) == key[1] else None
        return _no_such_key(key[1], parent, names)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    noise = (
        "full_key:",
        "object_type=",
        "reference_type=",
        "Config search path",
        "provider=",
        "See ",
    )
    return "; ".join(line for line in lines if not line.startswith(noise))


def _no_such_key(key: str, parent: Mapping[str, Any] | None, names: Sequence[str]) -> str:
    """What is wrong with a key that the composed configuration lacks.

    Args:
        key: dotted.
        parent: the part of the configuration that could have the key, if that exists.
        names: as in `one_line`.
    """
    group = key.partition(".")[0]
    if group == key:
        of_this_name = [each for each in _all_keys(names) if each.endswith(f".{key}")]
        similar = did_you_mean(key, names, otherwise=f"there are {', '.join(names)}")
        advice = f"did you mean {of_this_name[0]}?" if of_this_name else similar
        return f"{key}: no such key or group; {advice}"
    folder, _, name = key.rpartition(".")
    path, known = known_keys(key) if group in GROUPS else ("", list[str]())
    if path != folder and parent is not None:  # such as engine.options, whose keys a file decides
        infos = keys(group) if group in GROUPS else ()
        if any(each.name == folder and each.nullable for each in infos):
            return f"{key}: give the whole mapping: {folder}={{{name}: VALUE}}"
        path, known = folder, [each for each in parent if not each.startswith("_")]
    elif path == folder and name in known:
        if parent:
            return f"{key}: this {group} leaves it out; +{key}=VALUE adds it"
        return f"{key}: {path} is null here; choose a {group} that has one, or set all of {path}"
    has = f"{path} has: {', '.join(known) or 'none'}" if path else ""
    if path == folder:
        advice = did_you_mean(name, known, otherwise=has, prefix=f"{path}.")
    else:
        advice = did_you_mean(key, _all_keys(names), otherwise=has)
    return f"{key}: no such key; {advice}".removesuffix("; ")


def _all_keys(groups: Sequence[str]) -> list[str]:
    """Every dotted key of these groups that is always there."""

    def below(prefix: str, kind: type) -> Iterator[str]:
        for name, hint in field_types(kind).items():
            yield f"{prefix}.{name}"
            if dataclasses.is_dataclass(hint):
                yield from below(f"{prefix}.{name}", cast(type, hint))

    return [key for name in groups if name in GROUPS for key in below(name, GROUPS[name])]
