"""The report as one page: no scripts, nothing fetched, light and dark, figures with a text form.

All text goes through Jinja's escaping, because labels, reasons and generated code come from runs
and are not trusted.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from slm_energy.analysis.output import tables
from slm_energy.analysis.output.escape import visible
from slm_energy.analysis.output.generated import Generated
from slm_energy.analysis.output.page import Block, sections
from slm_energy.analysis.output.svg import HATCHES, STYLE
from slm_energy.analysis.result import Report

_TEMPLATES = Path(__file__).parent / "templates"


def to_html(report: Report, generated: Sequence[Generated] = ()) -> str:
    """The whole page.

    Args:
        report: what it shows.
        generated: what cells generated, for the section of generated code.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["kind"] = _kind
    style = (_TEMPLATES / "report.css").read_text(encoding="utf-8")
    kinds = {result.metric.estimated for result in report.deciding if result.metric.is_energy}
    return environment.get_template("report.html.j2").render(
        title=f"Study {report.study}",
        lead=f"{tables.counts(report)}, on {report.machine}",
        shared=", ".join(report.shared),
        kinds=["estimated" if estimated else "measured" for estimated in sorted(kinds)],
        style=Markup(STYLE + "\n" + style),
        hatches=Markup(HATCHES),
        sections=sections(report, generated),
        number=itertools.count(1).__next__,
        foot=_foot(report),
    )


def _visible(value: Any) -> Any:
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _kind(block: Block) -> str:
    """What the template asks a block for: `text`, `heading`, `table`, ..."""
    return type(block).__name__.lower()


def _foot(report: Report) -> str:
    span = report.provenance
    version = span.versions.get("slm_energy", "")
    when = f"{span.first_started} to {span.last_started}" if span.first_started else ""
    return ", ".join(part for part in (f"slm_energy {version}".strip(), when) if part)
