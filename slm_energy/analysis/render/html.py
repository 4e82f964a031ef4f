"""The report as one page: no scripts, nothing fetched, light and dark, figures with a text form.

Each part of a section is made and laid out on its own; where that fails, the part says so.

All text goes through Jinja's escaping, because labels, reasons and generated code come from runs
and are not trusted.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from slm_energy.analysis.render import tables
from slm_energy.analysis.render.generated import Generated
from slm_energy.analysis.render.page import sections
from slm_energy.analysis.render.page_blocks import Block, Part, Section, Text
from slm_energy.analysis.render.tables import Grid
from slm_energy.analysis.result.report import Report
from slm_energy.analysis.sections import Sections
from slm_energy.escape import visible
from slm_energy.svg import HATCHES, STYLE

_TEMPLATES = Path(__file__).parent / "templates"


def to_html(
    report: Report,
    generated: Sequence[Generated] = (),
    more: Sequence[Grid] = (),
    makes: Sections | None = None,
) -> str:
    """The whole page.

    Args:
        report: what it shows.
        generated: what cells generated, for the section of generated code.
        more: tables to put below the findings.
        makes: makes the parts of its sections, and keeps what failed.
    """
    makes = makes or Sections()
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
    return environment.get_template("report.html.j2").render(
        title=f"Study {report.study}",
        lead=f"{tables.counts(report)}, on {report.machine}",
        shared=", ".join(report.shared),
        scope=report.scope,
        badges=_badges(report),
        style=Markup(STYLE + "\n" + style),
        hatches=Markup(HATCHES),
        sections=_laid_out(
            sections(report, generated, more), environment.get_template("blocks.html.j2"), makes
        ),
        foot=_foot(report),
    )


def _laid_out(
    sections: Sequence[Section], template: jinja2.Template, makes: Sections
) -> list[tuple[str, str, Markup]]:
    """Id, title and markup of the sections that have something to show."""
    result = []
    for section in sections:
        parts = [
            (part.fold, _part(section.title, part, f"{section.id}-{number}", template, makes))
            for number, part in enumerate(section.parts, start=1)
        ]
        if any(part.strip() for _, part in parts):
            texts = (
                _together(fold, Markup("").join(part for _, part in group))
                for fold, group in itertools.groupby(parts, key=lambda part: part[0])
            )
            result.append((section.id, section.title, Markup("").join(texts)))
    return result


def _together(fold: str, parts: Markup) -> Markup:
    if not fold or not parts.strip():
        return parts
    return Markup("<details><summary>{}</summary>{}</details>").format(visible(fold), parts)


def _part(
    title: str, part: Part, prefix: str, template: jinja2.Template, makes: Sections
) -> Markup:
    """The markup of a part, or of the sentence that takes its place.

    Args:
        title: of its section.
        part: what it shows.
        prefix: of the ids in it: a part has the same markup whatever becomes of the others.
        template: lays out blocks.
        makes: makes it.
    """

    def markup(blocks: Iterable[Block]) -> Markup:
        number = itertools.count(1).__next__
        return Markup(template.render(blocks=list(blocks), prefix=prefix, number=number))

    return makes.make(
        f"{title}: {part.name}",
        lambda: markup(part.blocks()),
        lambda failure: markup([Text(text=failure.sentence(), style="failed")]),
    )


def _badges(report: Report) -> list[tuple[str, str]]:
    """Where joules come from, for the head of the page: class and words."""
    if report.origin:
        return [("foreign", report.origin)]
    estimated = {r.metric.estimated for r in report.deciding if r.metric.is_energy}
    kinds = ["estimated" if is_model else "measured" for is_model in sorted(estimated)]
    return [(kind, f"energy {kind}") for kind in kinds]


def _visible(value: Any) -> Any:
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _kind(block: Block) -> str:
    """A block's name in the template: `text`, `heading`, `table`, ..."""
    return type(block).__name__.lower()


def _foot(report: Report) -> str:
    span = report.provenance
    version = span.versions.get("slm_energy", "")
    when = f"{span.first_started} to {span.last_started}" if span.first_started else ""
    return ", ".join(part for part in (f"slm_energy {version}".strip(), when) if part)
