"""What a check says, and how checks read the files of /proc and /sys.

A check of the host is a function of the folder that holds `proc`, `sys`, `dev` and `run`: `/` in
earnest, a folder with chosen files in tests. A file that is not there or may not be read is no
error here: the verdict is then `unknown` or `not applicable`, never `ok`.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Literal

Status = Literal["ok", "warn", "fail", "unknown", "not applicable"]

ROOT = Path("/")
CPUS = "sys/devices/system/cpu"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """The result of one check.

    Attributes:
        name: what was looked at; stable, for scripts.
        verdict: `fail` stands in the way of measuring, `warn` makes figures less steady or less
            complete, `unknown` could not be found out.
        detail: one line with what was seen.
        remedy: the command to type or the key to set; None where nothing needs to be done.
    """

    name: str
    verdict: Status
    detail: str
    remedy: str | None = None


def text(path: Path) -> str | None:
    """What a file says, stripped; None where the kernel does not have it or does not show it."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def each_cpu(root: Path, name: str) -> list[str]:
    """What the file `name` says for each processor that has it."""
    found = (text(path) for path in sorted((root / CPUS).glob(f"cpu[0-9]*/{name}")))
    return [each for each in found if each is not None]


def field(root: Path, file: str, key: str) -> str | None:
    """The value of the first line `key: value` of a file below `root`; None if there is none."""
    found = re.search(rf"^{re.escape(key)}\s*:(.*)$", text(root / file) or "", re.MULTILINE)
    return found[1].strip() if found else None


def seconds(value_s: float) -> str:
    """A length of time with three significant digits: `1.18 ms`, `0.12 s`, `1,000 s`."""
    if value_s < 0.1:
        return f"{value_s * 1e3:.3g} ms"
    return f"{value_s:.3g} s" if value_s < 999.5 else f"{value_s:,.0f} s"
