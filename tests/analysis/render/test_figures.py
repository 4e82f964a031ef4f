from xml.etree import ElementTree

import pytest

from slm_energy.analysis.render import figures
from slm_energy.analysis.result.report import Report
from slm_energy.svg import Picture, scale, shortened, standalone

SVG = "{http://www.w3.org/2000/svg}"


def share(element: ElementTree.Element, name: str) -> float:
    """A length in per cent of the picture's width."""
    text = element.get(name, "")
    assert text.endswith("%")
    return float(text[:-1])


def classes(svg: str) -> list[str]:
    return [each.get("class", "") for each in ElementTree.fromstring(svg).iter()]


def test_measured_intervals_are_lines_and_estimated_ones_hatched_bars(report: Report) -> None:
    measured, estimated = (figures.strip(report, result) for result in report.deciding)
    assert classes(measured).count("bar") == 3
    assert "span" not in classes(measured)
    assert classes(estimated).count("span") == 2
    assert "bar" not in classes(estimated)


def test_every_trial_is_a_dot(report: Report) -> None:
    found = classes(figures.strip(report, report.deciding[0]))
    assert found.count("dot") == len(report.deciding[0].diagnostics.points) == 14
    assert found.count("mean") == 3


def test_ratios_are_those_of_the_cell_against_the_reference(report: Report) -> None:
    result = report.deciding[0]
    [family] = result.families
    svg = figures.forest(report, result.metric, family)
    description = ElementTree.fromstring(svg).findtext(f"{SVG}desc")
    assert description is not None
    assert description.startswith("a_b & 50 % / cpu 1.6")
    root = ElementTree.fromstring(svg)
    said = [each.text or "" for each in root.iter(f"{SVG}text")]
    assert sum(text.endswith(": worse") for text in said) == 2
    bars = [each for each in root.iter(f"{SVG}line") if each.get("class") == "bar"]
    means = [each for each in root.iter(f"{SVG}svg") if each.find(f"{SVG}path") is not None]
    assert len(bars) == len(means) == 2
    for bar, mean in zip(bars, means, strict=True):
        assert share(bar, "x1") <= share(mean, "x") <= share(bar, "x2")


def test_throughput_of_the_worse_cell_is_worse_too(report: Report) -> None:
    [result] = [r for r in report.metrics if r.metric.higher_is_better]
    family = next(f for f in result.families if len(f.ranked) > 2)
    svg = figures.forest(report, result.metric, family)
    texts = [each.text or "" for each in ElementTree.fromstring(svg).iter(f"{SVG}text")]
    assert any(text.endswith(": worse") for text in texts)
    assert not [text for text in texts if "gains" in text or "saves" in text]


def test_the_front_is_named_beside_the_plane(report: Report) -> None:
    svg = figures.pareto(report, report.pareto[0])
    texts = [each.text for each in ElementTree.fromstring(svg).iter(f"{SVG}text")]
    assert "1  onnx / cpu, 100 %" in texts


def test_a_picture_is_a_file_of_its_own() -> None:
    picture = Picture(100, 50, "T & t", "words", estimated=True)
    picture.span(1, 9, 5)
    file = standalone(picture.svg())
    root = ElementTree.fromstring(file)
    assert root.findtext(f"{SVG}title") == "T & t"
    ids = {each.get("id") for each in root.iter(f"{SVG}pattern")}
    assert "hatch-mark" in ids
    assert "url(#hatch-mark)" in file


def test_control_characters_do_not_break_a_picture() -> None:
    picture = Picture(100, 50, "a\x1b\x00\ud800", "<&>")
    picture.text(1, 2, "\x07")
    ElementTree.fromstring(picture.svg())


def test_a_long_label_keeps_both_ends() -> None:
    label = "the start of a long label " + "x" * 60 + " and its end"
    assert len(shortened(label)) == 34
    assert shortened(label).startswith("the start of a ")
    assert shortened(label).endswith(" and its end")


@pytest.mark.parametrize(
    ("values", "log", "ticks"),
    [([0.0, 10.0], False, [0, 2, 4, 6, 8, 10]), ([1.0, 1000.0], True, [1, 10, 100, 1000])],
)
def test_ticks_are_round_and_within_the_scale(
    values: list[float], log: bool, ticks: list[float]
) -> None:
    found = scale(values, 0, 100, log=log).ticks()
    assert set(ticks) <= {round(value, 9) for value in found}
    assert len(found) <= 12


def test_equal_values_have_a_scale() -> None:
    axis = scale([3.0, 3.0], 0, 100)
    assert axis(3.0) == pytest.approx(50)
