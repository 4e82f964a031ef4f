"""What the pages say, as data: commands, and files that they tell the reader to write."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w+)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<code>.*?)^ *```$",
    re.MULTILINE | re.DOTALL,
)
_INLINE = re.compile(r"`(slm-energy [^`\n]+)`")
_PLACEHOLDER = re.compile(r"\b[A-Z]+\b|\.\.\.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Block:
    """A block of code of a page; `title` is the file that it belongs into."""

    page: str
    language: str
    title: str | None
    code: str


def blocks() -> Iterator[Block]:
    for page in PAGES:
        for found in _FENCE.finditer(page.read_text(encoding="utf-8")):
            code = re.sub(f"^{found['indent']}", "", found["code"], flags=re.MULTILINE)
            name = str(page.relative_to(ROOT))
            yield Block(page=name, language=found["language"], title=found["title"], code=code)


def commands() -> list[str]:
    """Each distinct command: all in blocks, and those within text that have no placeholder.

    What text only names (`slm-energy report`) is asked for its help.
    """
    lines = [line for each in blocks() if each.language == "sh" for line in each.code.splitlines()]
    for page in PAGES:
        found = _INLINE.findall(page.read_text(encoding="utf-8"))
        complete = [line for line in found if not _PLACEHOLDER.search(line)]
        lines += [f"{line} --help" if line.count(" ") == 1 else line for line in complete]
    return list(dict.fromkeys(line.partition("  #")[0].strip() for line in lines if line.strip()))
