"""The checklist as tables: for the terminal, Markdown and LaTeX."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from slm_energy.analysis.checklist import SOURCES, Item
from slm_energy.analysis.render import latex
from slm_energy.analysis.render.markdown import table_lines
from slm_energy.analysis.render.tables import Grid
from slm_energy.escape import markdown


def summary(items: Sequence[Item]) -> str:
    """How many items are met."""
    return f"{sum(item.met for item in items)} of {len(items)} items are met"


def grids(items: Sequence[Item]) -> list[Grid]:
    """One table per group."""
    return [
        Grid(
            title=group,
            head=("Item", "Met", "This study", "Asked for by"),
            rows=tuple(
                (item.name, "yes" if item.met else "NO", _text(item), "; ".join(item.sources))
                for item in own
            ),
        )
        for group, own in itertools.groupby(items, key=lambda item: item.group)
    ]


def _text(item: Item) -> str:
    study, remedy = item.answer
    return study if item.met else f"{study}. To meet it: {remedy}"


def to_markdown(items: Sequence[Item], study: str) -> str:
    """All tables, then the sources."""
    lines = [f"# Checklist of {markdown(study)}: {summary(items)}", ""]
    for grid in grids(items):
        lines += [*table_lines(grid), ""]
    lines += ["## Sources", ""]
    for name in dict.fromkeys(name for item in items for name in item.sources):
        text, url = SOURCES[name]
        lines.append(f"- {name}: {text}" + (f", <{url}>" if url else ""))
    return "\n".join([*lines, ""])


def to_latex(items: Sequence[Item]) -> str:
    """One table per group; needs booktabs and longtable."""
    return "\n".join(
        latex.table(grid, f"checklist-{number}")
        for number, grid in enumerate(grids(items), start=1)
    )


def files(items: Sequence[Item], study: str) -> dict[str, bytes]:
    """File name to content: checklist.md and checklist.tex."""
    return {
        "checklist.md": to_markdown(items, study).encode(),
        "checklist.tex": to_latex(items).encode(),
    }
