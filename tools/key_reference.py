#!/usr/bin/env python3
"""Write what people read about keys from where they are declared.

docs/reference/keys.md is written whole. In conf/, the file of each group that shows all its keys
gets its comments from there; other files have comments only where they say something of their own.

Examples:
    python tools/key_reference.py
    python tools/key_reference.py --check
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from slm_energy.analysis.external.columns import Columns
from slm_energy.config.key import KeyInfo, keys_of
from slm_energy.config.keys import FILES, GROUPS, keys
from slm_energy.engines.base import find

ROOT = Path(__file__).parents[1]
COMMENTED = {
    "model/bundled": GROUPS["model"],
    "engine/torch": GROUPS["engine"],
    "provider/cpu": GROUPS["provider"],
    "measurement/auto": GROUPS["measurement"],
    "measurement/wall": GROUPS["measurement"],
    "workload/bundled": GROUPS["workload"],
    "study/default": GROUPS["study"],
    "tracking/local": GROUPS["tracking"],
    "cache/local": GROUPS["cache"],
    "columns/tidy": Columns,
}
INTRODUCTION = """\
# Keys

Everything that can be set, made from the code by `python tools/key_reference.py`.

A key is set on the command line: `slm-energy study.rounds=5`. With `-m`, a list of values is a
sweep: `slm-energy -m workload.batch_size=1,4`. A file of a group, `conf/GROUP/NAME.yaml`, is chosen
by `GROUP=NAME` and may set its keys to other values than the defaults below. A key without a
default is *required*; the files of a group set most of these.
"""
VERBS = {
    "analysis": "`slm-energy report`",
    "recommend": "`slm-energy recommend`",
    "export": "`slm-energy export`, beside those of analysis",
    "compare": "`slm-energy compare A B`",
    "calibrate": "`slm-energy calibrate`",
    "ui": "`slm-energy ui`",
}


def reference() -> str:
    """docs/reference/keys.md: a table for each group and verb."""
    parts = [INTRODUCTION, "## Keys of a run\n"]
    for name, kind in GROUPS.items():
        parts.append(_section(f"`{name}`", _summary(kind), keys(name)))
    parts.append(
        "## Keys of the verbs\n\nEach of these verbs also reads the group `tracking`;"
        " `calibrate` reads `measurement` instead.\n"
    )
    for name, verb in VERBS.items():
        note = f"{_summary(FILES[name][0])} File: `conf/{name}.yaml`."
        parts.append(_section(verb, note, keys(name)))
    note = (
        "What the columns of `slm-energy report data=FILE.csv` mean. Files:"
        " `conf/columns/NAME.yaml`, chosen by `columns=NAME`."
    )
    parts.append(_section("`columns`", note, keys_of(Columns, "columns.")))
    return "\n".join(parts)


def _summary(kind: type) -> str:
    return (kind.__doc__ or "").strip().splitlines()[0]


def _section(title: str, note: str, infos: Sequence[KeyInfo]) -> str:
    lines = [f"### {title}", "", note, "", "| key | default | values | meaning |"]
    lines.append("| --- | --- | --- | --- |")
    for info in infos:
        default = info.default_text
        default = f"`{default}`" if default not in ("", "required") else default
        lines.append(f"| `{info.name}` | {default} | {info.values} | {info.meaning} |")
    return "\n".join([*lines, ""])


def commented(text: str, infos: Mapping[str, KeyInfo]) -> str:
    """A YAML file in which each key of `infos` has its meaning as an aligned comment.

    Args:
        text: the file; each key stands on a line of its own.
        infos: name within the file (`limits.steal_pct`) to what is declared.
    """
    lines, path = text.splitlines(), list[str]()
    found: dict[int, tuple[str, KeyInfo]] = {}
    for number, line in enumerate(lines):
        key = re.match(r"(?P<code>(?P<indent> *)(?P<name>\w+):.*?) *(#.*)?$", line)
        if key is None:
            continue
        path = [*path[: len(key["indent"]) // 2], key["name"]]  # two spaces a level
        if ".".join(path) in infos:
            found[number] = (key["code"], infos[".".join(path)])
    width = max(len(code) for code, _ in found.values())
    for number, (code, info) in found.items():
        lines[number] = f"{code:{width}} # {_comment(info)}"
    return "\n".join([*lines, ""])


def _comment(info: KeyInfo) -> str:
    return f"{info.values}: {info.summary}" if info.choices else info.summary


def outdated() -> dict[Path, str]:
    """Files that differ from what the declarations make of them, and what they should contain."""
    contents = {ROOT / "docs" / "reference" / "keys.md": reference()}
    infos = {name: {info.name: info for info in keys_of(kind)} for name, kind in COMMENTED.items()}
    torch = infos["engine/torch"]
    torch["dtype"] = dataclasses.replace(torch["dtype"], choices=find("torch").dtypes)
    infos |= {name: {info.name: info for info in keys(name)} for name in FILES}
    for name, known in infos.items():
        path = ROOT / "conf" / f"{name}.yaml"
        contents[path] = commented(path.read_text(encoding="utf-8"), known)
    return {
        path: content
        for path, content in contents.items()
        if not path.exists() or path.read_text(encoding="utf-8") != content
    }


def main() -> int:
    """Write the files, or only list those that are out of date."""
    parser = argparse.ArgumentParser(description="Write the page of keys, and comments in conf/.")
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if one is outdated")
    check = parser.parse_args().check
    files = outdated()
    for path, content in files.items():
        print(f"{'outdated' if check else 'written'}: {path.relative_to(ROOT)}")
        if not check:
            path.write_text(content, encoding="utf-8")
    return 1 if check and files else 0


if __name__ == "__main__":
    sys.exit(main())
