"""The page as a file; tests/test_browser.py looks at it in a browser."""

import dataclasses
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from slm_energy.analysis.render.generated import Generated
from slm_energy.analysis.render.html import to_html
from slm_energy.analysis.result.report import Report
from tests.analysis.render.conftest import HOSTILE, widened

VOID = {"meta", "br", "img", "hr", "input", "link"}


class Outline(HTMLParser):
    """What the page is made of; refuses tags that do not match."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.ids: list[str] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        self.ids += [value for key, value in attrs if key == "id" and value]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        self.ids += [value for key, value in attrs if key == "id" and value]

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="session")
def page(report: Report) -> str:
    wrote = Generated(label="torch", task_id="t/1", completion=f"def f(): pass\n{HOSTILE}")
    twin = dataclasses.replace(wrote, label="onnx")
    other = Generated(label="numpy", task_id="t/1", completion="def g(): pass")
    return to_html(report, [wrote, twin, other])


def test_the_page_is_well_formed_and_every_reference_leads_somewhere(page: str) -> None:
    outline = Outline(page)
    assert len(set(outline.ids)) == len(outline.ids)
    wanted = {value for key, value in outline.attributes if key == "aria-labelledby"}
    wanted |= {value[1:] for key, value in outline.attributes if key == "href" and value}
    wanted |= set(re.findall(r"url\(#([\w-]+)\)", page))
    assert wanted <= set(outline.ids)


def test_the_page_fetches_and_runs_nothing(page: str) -> None:
    outline = Outline(page)
    assert not {"script", "img", "iframe", "object", "link", "base", "form"} & set(outline.tags)
    assert not [key for key, _ in outline.attributes if key.startswith("on") or key == "src"]
    linked = {value for key, value in outline.attributes if key in ("href", "action")}
    assert all(value and value.startswith("#") for value in linked)
    assert "@import" not in page
    assert "default-src 'none'" in page


def test_hostile_text_is_shown_everywhere_it_comes_from(page: str) -> None:
    shown = HOSTILE.replace("\x1b", "␛").replace("\u202e", "<U+202E>")
    text = Outline(page).text
    assert text.count(shown) >= 3  # the title, the reason of a failure, a completion
    assert "<script>" not in page
    assert "\x1b" not in page


def test_every_figure_is_svg_with_a_title_and_the_figures_in_words(page: str) -> None:
    drawn = re.findall(r"<figure>.*?(<svg.*?</svg>)\s*</figure>", page, re.DOTALL)
    assert len(drawn) > 10
    for svg in drawn:
        root = ElementTree.fromstring(svg)
        assert root.get("role") == "img"
        assert [child.tag.rpartition("}")[2] for child in root[:2]] == ["title", "desc"]
        assert all(child.text for child in root[:2])


def test_what_is_estimated_is_hatched_and_says_so(page: str) -> None:
    drawn = re.findall(r"<figure>.*?(<svg.*?</svg>)\s*</figure>", page, re.DOTALL)
    estimated = [svg for svg in drawn if "(estimated)" in svg or ", estimated" in svg]
    assert estimated
    for svg in estimated:
        assert 'class="fig estimated"' in svg or "mean ranks" in svg
    assert not [svg for svg in drawn if svg not in estimated and "fig estimated" in svg]
    assert 'class="badge estimated"' in page
    assert 'class="badge measured"' in page


def test_equal_completions_are_shown_once(page: str) -> None:
    assert page.count("def f(): pass") == 1
    assert "t/1: torch, onnx" in page
    assert "t/1: numpy" in page


def test_a_completion_that_is_not_the_reference_s_is_marked_with_the_position(
    report: Report,
) -> None:
    same = Generated(label="torch", task_id="t/1", completion="pass")
    other = dataclasses.replace(same, label="onnx", differs_at=17)
    page = to_html(report, [same, other])
    assert "t/1: torch</h3>" in page
    assert "t/1: onnx (differs from the reference from token 17 on)</h3>" in page


def test_agreement_is_a_table_where_anything_was_compared(report: Report) -> None:
    assert "Agreement with the reference engine" not in to_html(report)
    first, *rest = report.cells
    known = dataclasses.replace(first, agreement=0.75, agreeing_tokens=0.9)
    page = to_html(dataclasses.replace(report, cells=(known, *rest)))
    [table] = re.findall(r">Agreement with the reference engine</p>.*?</table>", page, re.DOTALL)
    assert re.findall(r"<td>([\d.]+)</td>", table) == ["75.0", "90.0"]


def test_a_page_without_samples_or_trade_offs_leaves_their_sections_out(report: Report) -> None:
    page = to_html(dataclasses.replace(report, pareto=()))
    assert "Generated code" not in page
    assert "Trade-offs" not in page
    assert "Methods" in page


def test_repetitions_that_are_no_blocks_have_no_ranks_order_or_rounds_won(report: Report) -> None:
    result = report.deciding[0]
    [family] = result.families
    pairs = tuple(dataclasses.replace(pair, rounds=0, won=0) for pair in family.pairs)
    family = dataclasses.replace(family, pairs=pairs, complete_rounds=0)
    seen = dataclasses.replace(result.diagnostics, drifts=())
    bare = dataclasses.replace(result, families=(family,), diagnostics=seen)
    page = to_html(dataclasses.replace(report, metrics=(bare,)))
    assert "Mean ranks" not in page
    assert "in the order of the plan" not in page
    assert "0/0" not in page
    assert ">saves<" in page


def test_84_cells_with_10_rounds_stay_below_2_mb(report: Report) -> None:
    page = to_html(widened(report, 84, 10))
    print(f"84 cells x 10 rounds: {len(page.encode()):,} bytes")
    assert len(page.encode()) < 2_000_000
    assert "those with engine_0 / provider_0 / batch=0; comparisons.json has all 3,486" in page
    Outline(page)


def test_thousands_of_trials_are_no_element_each(report: Report) -> None:
    wide = widened(report, 84, 50)
    page = to_html(wide)
    print(f"84 cells x 50 rounds: {len(page.encode()):,} bytes")
    assert len(page.encode()) < 2_000_000
    outline = Outline(page)
    dots = outline.attributes.count(("class", "dots"))
    assert dots == sum(84 + 24 + bool(result.diagnostics.drifts) for result in wide.metrics)
    assert ("class", "dot") not in outline.attributes
    assert "trials at the same place are one dot, trials.parquet has their values" in page
    assert "Outcomes of 4,200 trials, cell by cell" in page
    assert "Outcome of every trial" not in page


def test_12_cells_show_every_pair(report: Report) -> None:
    page = to_html(widened(report, 12, 2))
    assert "comparisons.json has all" not in page
    assert page.count("engine_10 / provider_1 / batch=10</th><td") >= len(report.metrics) - 1
