"""The result of a check, and functions that read files of /proc and /sys.

A host check takes the folder that holds `proc`, `sys`, `dev` and `run`: `/` in production, a folder
with prepared files in tests. A missing or unreadable file is not an error here: the verdict is then
`unknown` or `not applicable`, never `ok`.
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
        name: what was checked; stable, for scripts.
        verdict: `fail` prevents measuring, `warn` makes figures less steady or less complete,
            `unknown` could not be determined.
        detail: one line with the observation.
        remedy: the command to run or the key to set; None if no action is needed.
    """

    name: str
    verdict: Status
    detail: str
    remedy: str | None = None


def text(path: Path) -> str | None:
    """Content of a file, stripped; None if it is missing or unreadable."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def each_cpu(root: Path, name: str) -> list[str]:
    """Content of the file `name` of each processor that has it."""
    contents = (text(path) for path in sorted((root / CPUS).glob(f"cpu[0-9]*/{name}")))
    return [content for content in contents if content is not None]


def field(root: Path, file: str, key: str) -> str | None:
    """Value of the first line `key: value` of a file below `root`; None if there is none."""
    match = re.search(rf"^{re.escape(key)}\s*:(.*)$", text(root / file) or "", re.MULTILINE)
    return match[1].strip() if match else None


def seconds(value_s: float) -> str:
    """Format a duration with three significant digits: `1.18 ms`, `0.12 s`, `1,000 s`."""
    if value_s < 0.1:
        return f"{value_s * 1e3:.3g} ms"
    return f"{value_s:.3g} s" if value_s < 999.5 else f"{value_s:,.0f} s"
