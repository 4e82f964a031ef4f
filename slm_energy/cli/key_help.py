"""What a verb's `--help` says about keys and groups."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence

from slm_energy.config.compose import CONF
from slm_energy.config.key import KeyInfo
from slm_energy.config.keys import FILES, GROUPS, keys

RUN = ("model", "engine", "provider", "measurement", "workload", "study", "tracking", "cache")
"""The groups that decide a trial."""
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
    """One entry for each key of these groups or files, with its default, meaning and values."""
    return [
        _entry(_assignment(key), _explanation(key))
        for name in names
        if name in GROUPS or name in FILES
        for key in keys(name)
        if key.default_text and key.name.partition(".")[2] != "name"
    ]


def _assignment(key: KeyInfo) -> str:
    return f"{key.name}=..." if key.required else f"{key.name}={key.default_text}"


def _explanation(key: KeyInfo) -> str:
    """What the key does, and its values where the default does not suggest them."""
    return f"{key.summary} [{key.values}]" if key.choices or key.range else key.summary


def group_lines() -> list[str]:
    """One entry for each group, with its choices."""
    choices = {name: sorted(path.stem for path in (CONF / name).glob("*.yaml")) for name in GROUPS}
    choices["hydra/launcher"] = ["basic", "slurm", "processes"]
    return [_entry(f"{group}=", ", ".join(names)) for group, names in choices.items()]


def sweep_lines() -> list[str]:
    """One entry for each ready sweep, with the first sentence of its file."""
    entries = []
    for path in sorted(CONF.with_name("sweeps").glob("*.yaml")):
        comment, _, _ = path.read_text(encoding="utf-8").partition("\ndefaults:")
        sentence, _, _ = comment.replace("\n#", "").removeprefix("# ").partition(". ")
        entries.append(_entry(path.stem, sentence.rstrip(".")))
    return entries


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
