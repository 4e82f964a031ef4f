"""The figure, table and files of loads."""

import csv
import io
import re
from xml.etree import ElementTree

import pandas as pd
import pytest

from slm_energy.analysis import build, options
from slm_energy.analysis.render import load_figure, load_tables
from slm_energy.analysis.render.files import files, with_slides
from slm_energy.analysis.render.html import to_html
from slm_energy.analysis.render.markdown import to_markdown
from slm_energy.analysis.result.report import Report
from tests.analysis.conftest import make_loads

SERVERS = {"slow": (20.0, 20.0, 0.2), "fast": (40.0, 10.0, 0.1)}
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def report() -> Report:
    frame = make_loads(SERVERS, (0.5, 1.0, 4.0, 8.0), rounds=3, slo_s=0.4)
    return build(frame, options({"study": "toy", "draws": 999}))


def drawn(report: Report) -> ElementTree.Element:
    [family] = load_tables.families(report)
    return ElementTree.fromstring(load_figure.to_svg(report, family))


def of_class(picture: ElementTree.Element, tag: str, style: str) -> list[ElementTree.Element]:
    return [each for each in picture.iter(SVG + tag) if each.get("class") == style]


def test_saturated_points_are_ringed_and_not_joined(report: Report) -> None:
    picture = drawn(report)
    slow, fast = (of_class(picture, "polyline", f"curve{i}") for i in (0, 1))
    joined = sorted(len(line.get("points", "").split()) for line in (*slow, *fast))
    assert joined == [3, 3, 4, 4]  # joules and latency of each
    assert len(of_class(picture, "circle", "flag")) == 2
    tips = [tip.text or "" for tip in picture.iter(SVG + "title")][1:]
    assert sum("8 requests/s" in tip for tip in tips) == 4


def test_the_promised_limit_is_a_line_between_the_points_that_keep_and_break_it(
    report: Report,
) -> None:
    picture = drawn(report)
    [limit] = of_class(picture, "line", "zero")
    heights = {
        (found[0], float(found[1])): float(circle.get("cy", ""))
        for circle in picture.iter(SVG + "circle")
        if (tip := circle.find(SVG + "title")) is not None
        and (found := re.fullmatch(r"(.*), (.*) requests?/s: .*", tip.text or "").groups())  # type: ignore[union-attr]
    }  # of two panels the lower one, with latency, comes last
    at = float(limit.get("y1", ""))
    assert heights["fast", 4.0] > at > heights["fast", 8.0]
    assert heights["slow", 1.0] > at > heights["slow", 4.0]
    assert "limit 400 ms" in "".join(picture.itertext())


def test_every_interval_is_drawn(report: Report) -> None:
    picture = drawn(report)
    for style in ("curve0", "curve1"):
        upright = [
            line for line in of_class(picture, "line", style) if line.get("x1") == line.get("x2")
        ]
        assert len(upright) == 8  # four loads, two panels


def test_the_page_has_a_section_with_figure_and_table(report: Report) -> None:
    page = to_html(report)
    section = page.partition('id="load"')[2].partition("</section>")[0]
    assert "Under load" in section
    assert "<svg" in section
    assert "promise broken" in section
    assert "saturated in 3 of 3" in section
    assert page.count("Least energy per request at a load") == 1


def test_more_families_than_a_page_opens_with_are_told_of_in_the_section() -> None:
    frames = []
    for name in ("a", "b", "c", "d"):
        frame = make_loads(SERVERS, (1.0, 4.0), rounds=2).assign(**{"model.name": name})
        frames.append(frame.assign(cell=name + frame["cell"]))
    many = build(pd.concat(frames, ignore_index=True), options({"study": "toy", "draws": 999}))
    section = to_html(many).partition('id="load"')[2].partition("</section>")[0]
    assert section.count("Least energy per request of ") == 4
    assert "families" in to_markdown(many)


def test_files_have_the_curve_as_table_figure_and_rows(report: Report) -> None:
    made = with_slides(files(report))
    assert made.failures == ()
    assert {"figures/load-1.svg", "figures/load-1.png", "figures/load-1.pdf"} <= set(made.contents)
    assert rb"\label{tab:load-1}" in made.contents["tables/load-1.tex"]
    rows = list(csv.DictReader(io.StringIO(made.contents["load.csv"].decode())))
    assert [(row["configuration"], row["level"]) for row in rows[:2]] == [
        (rows[0]["configuration"], "0.5"),
        (rows[0]["configuration"], "1.0"),
    ]
    fast = next(row for row in rows if (row["configuration"], row["level"]) == ("fast", "4.0"))
    assert float(fast["energy"]) == pytest.approx(20, rel=0.1)
    assert float(fast["energy_low"]) < float(fast["energy"]) < float(fast["energy_high"])
    assert fast["promise"] == "kept"


def test_the_short_report_has_the_table(report: Report) -> None:
    text = to_markdown(report)
    assert "| Configuration | Offered requests/s | Energy per request, J |" in text
    assert "## Under load, 95 % intervals" in text
    assert "cheapest" in text


def test_more_configurations_than_colours_are_numbered() -> None:
    servers = {f"server{i}": (20.0 + i, 10.0, 0.1) for i in range(6)}
    result = build(
        make_loads(servers, (1.0, 4.0), rounds=2), options({"study": "toy", "draws": 999})
    )
    picture = drawn(result)
    numbers = [text for text in picture.iter(SVG + "text") if (text.text or "") in set("123456")]
    assert len(numbers) >= 18  # one by each curve in three panels


def test_names_are_text() -> None:
    servers = {"<b>": (20.0, 10.0, 0.1), "ok": (20.0, 10.0, 0.1)}
    result = build(
        make_loads(servers, (1.0, 4.0), rounds=2), options({"study": "toy", "draws": 999})
    )
    [family] = load_tables.families(result)
    assert "<b>" not in load_figure.to_svg(result, family)
