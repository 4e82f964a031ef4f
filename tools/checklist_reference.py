#!/usr/bin/env python3
"""Write docs/reference/checklist.md: the items of `slm-energy checklist` and who asks for them.

Examples:
    python tools/checklist_reference.py
"""

from __future__ import annotations

from pathlib import Path

from slm_energy.analysis.checklist import ENTRIES, SOURCES
from slm_energy.escape import markdown

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "checklist.md"

_HEAD = """# The reporting checklist

`slm-energy checklist study=NAME` answers what reviewers ask of an energy study, item by item, from
what its trials recorded. `out=FOLDER` writes `checklist.md` and `checklist.tex` (booktabs,
longtable). An item that the study does not meet names the key or command that would meet it.
What no trial records, such as the temperature of a room, is not answered.

Margin, registration and carbon are keys of `slm-energy report`; give both verbs the same.
Thresholds are the sources' own: 30 rounds with at least 25 valid trials of each cell (Cruz),
windows of 60 s (MLPerf Power), one sample per second (MLPerf). A study may have reasons to differ;
the list only says that it does."""


def reference() -> str:
    """The page."""
    lines, group = [_HEAD], ""
    for entry in ENTRIES:
        if entry.group != group:
            group = entry.group
            lines += ["", f"## {group}", ""]
            lines += ["| Item | What is asked | Asked for by |", "|:--|:--|:--|"]
        asked = (entry.answer.__doc__ or "").strip()
        lines.append(f"| {entry.name} | {markdown(asked)} | {'; '.join(entry.sources)} |")
    lines += ["", "## Sources", "", "| Name | Source |", "|:--|:--|"]
    for name, (text, url) in SOURCES.items():
        lines.append(f"| {name} | {f'[{text}]({url})' if url else text} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
