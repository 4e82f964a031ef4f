"""What a verb's `--help` says of keys and groups, read from the files of conf/."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Iterator, Sequence

from slm_energy.config.check import GROUPS
from slm_energy.config.compose import CONF

RUN = ("model", "engine", "provider", "measurement", "workload", "study", "tracking", "cache")
"""The groups that decide a trial."""
_DEFAULTS = {
    "model": "bundled", "engine": "torch", "provider": "cpu", "measurement": "auto",
    "workload": "bundled", "study": "default", "tracking": "local", "cache": "local",
}  # fmt: skip
_COLUMN = 32


def help_text(
    examples: Sequence[tuple[str, str]], names: Sequence[str] = (), note: str = ""
) -> str:
    """What stands below the options in a verb's `--help`.

    Args:
        examples: commands, and what each does.
        names: groups, and files at the top of conf/, whose keys the verb reads.
        note: a paragraph between both.
    """
    parts = ["\n".join(["examples:", *(_entry(*example) for example in examples)])]
    if note:
        parts.append(textwrap.fill(note, _width()))
    if names:
        parts.append("\n".join(["keys and their defaults:", *key_lines(names)]))
    return "\n\n".join(parts)


def key_lines(names: Sequence[str]) -> list[str]:
    """One entry for each key of these groups or files, with its default and meaning."""
    return [
        _entry(f"{key}={default}" if default else key, meaning)
        for name in names
        for key, default, meaning in _keys(name)
    ]


def group_lines() -> list[str]:
    """One entry for each group, with its choices."""
    choices = {name: sorted(path.stem for path in (CONF / name).glob("*.yaml")) for name in GROUPS}
    choices["hydra/launcher"] = ["basic", "slurm", "processes"]
    return [_entry(f"{group}=", ", ".join(names)) for group, names in choices.items()]


def _width() -> int:
    """As `argparse` takes it."""
    return shutil.get_terminal_size().columns - 2


def _entry(name: str, meaning: str) -> str:
    """A name and its meaning beside it, or below it where the name is long."""
    lines = textwrap.wrap(meaning, _width() - _COLUMN, break_on_hyphens=False)
    head = textwrap.fill(f"  {name}", _width(), subsequent_indent=" " * 6)
    if lines and len(head) < _COLUMN - 1:
        head = head.ljust(_COLUMN) + lines.pop(0)
    return "\n".join([head, *(" " * _COLUMN + line for line in lines)])


def _keys(name: str) -> Iterator[tuple[str, str, str]]:
    """Key, default and meaning, from a file's lines `KEY: VALUE # MEANING`."""
    default = _DEFAULTS.get(name)
    path = CONF / (f"{name}.yaml" if default is None else f"{name}/{default}.yaml")
    parents = [] if default is None else [(-1, name)]
    for line in path.read_text(encoding="utf-8").splitlines():
        match = re.fullmatch(r"( *)(\w+):(.*?)(?: # *(.*))?", line)
        if match is None or match[2] in ("name", "defaults"):
            continue
        depth = len(match[1])
        parents = [parent for parent in parents if parent[0] < depth]
        dotted = ".".join([*(parent for _, parent in parents), match[2]])
        yield dotted, match[3].strip(), match[4] or ""
        parents.append((depth, match[2]))
