"""Results in a notebook: plain HTML that takes the notebook's own style, and a quiet console.

Labels, reasons and notes come from runs and are not trusted: all text is escaped, and none is read
as a formula.
"""

from __future__ import annotations

import html
import io
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from rich.console import Console

from slm_energy.escape import visible

if TYPE_CHECKING:
    import pandas as pd

_WIDTH = 100


def progress_console(*, quiet: bool = False) -> Console:
    """Where a sweep reports its progress: the terminal, or plain lines in a notebook or a pipe.

    Without a terminal nothing is drawn over: rich's own support of Jupyter needs ipywidgets and
    makes an output of every line, and ipykernel sets FORCE_COLOR, which rich takes for a terminal.
    """
    if sys.stdout.isatty():
        return Console(quiet=quiet, force_jupyter=False)
    return Console(quiet=quiet, force_jupyter=False, force_terminal=False, width=_WIDTH)


def as_text(show: Callable[[Console], None]) -> str:
    """What `show` prints, without colours, 100 characters wide."""
    buffer = io.StringIO()
    show(Console(file=buffer, width=_WIDTH, force_jupyter=False, force_terminal=False))
    return buffer.getvalue()


def block(*parts: str) -> str:
    """Parts as one piece of HTML in which a dollar sign is a dollar sign."""
    return f'<div class="tex2jax_ignore mathjax_ignore">{"".join(filter(None, parts))}</div>'


def paragraph(text: str, *, strong: bool = False) -> str:
    """One paragraph; empty for an empty text."""
    escaped = _escaped(text)
    if not text:
        return ""
    return f"<p><b>{escaped}</b></p>" if strong else f"<p>{escaped}</p>"


def bullets(lines: Iterable[str], summary: str) -> str:
    """A list that opens under its summary; empty without lines."""
    items = "".join(f"<li>{_escaped(line)}</li>" for line in lines)
    return items and f"<details><summary>{_escaped(summary)}</summary><ul>{items}</ul></details>"


def table(frame: pd.DataFrame, title: str = "") -> str:
    """A table under its title; empty without rows."""
    if frame.empty:
        return ""
    shown = frame.map(lambda value: visible(value) if isinstance(value, str) else value)
    return paragraph(title, strong=True) + shown.to_html(
        index=False, na_rep="-", float_format="{:.4g}".format, border=0
    )


def _escaped(text: str) -> str:
    return html.escape(visible(text))
