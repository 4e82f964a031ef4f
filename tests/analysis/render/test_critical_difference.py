import dataclasses
from xml.etree import ElementTree

from slm_energy.analysis.render.critical_difference import Ranking, ranking, to_svg, to_tikz
from slm_energy.analysis.result.report import Report

LABELS = {"a": "torch_cpu", "b": "onnx & co", "c": "<x>", "d": "d"}
RANKING = Ranking(
    cells=("a", "b", "c", "d"), mean_ranks=(1.2, 1.9, 3.0, 3.9), rounds=5, cliques=((0, 1), (2, 3))
)


def test_ranks_are_means_over_complete_rounds(report: Report) -> None:
    result = report.deciding[0]
    [family] = result.families
    found = ranking(result, family, 0.05)
    assert found is not None
    assert found.cells == family.ranked
    assert found.mean_ranks == (1.0, 2.0, 3.0)
    assert found.rounds == 4  # a trial of the first round failed
    assert found.cliques == ()


def test_cells_that_do_not_differ_are_joined(report: Report) -> None:
    result = report.deciding[0]
    [family] = result.families
    first, *rest = family.pairs
    assert {first.a, first.b} == set(family.ranked[:2])
    alike = dataclasses.replace(family, pairs=(dataclasses.replace(first, p=0.5), *rest))
    found = ranking(result, alike, 0.05)
    assert found is not None
    assert found.cliques == ((0, 1),)


def test_two_cells_need_no_diagram(report: Report) -> None:
    result = report.deciding[1]
    assert ranking(result, result.families[0], 0.05) is None


def test_the_diagram_names_every_cell(report: Report) -> None:
    root = ElementTree.fromstring(to_svg(RANKING, LABELS, "Energy"))
    texts = [each.text for each in root.iter("{http://www.w3.org/2000/svg}text")]
    assert set(LABELS.values()) <= set(texts)
    bars = [each for each in root.iter() if each.get("class") == "clique"]
    assert len(bars) == 2


def test_tikz_is_balanced_and_escaped() -> None:
    text = to_tikz(RANKING, LABELS, "Energy (estimated)")
    assert text.count("{") == text.count("}")
    assert text.count(r"\begin{tikzpicture}") == text.count(r"\end{tikzpicture}") == 1
    assert r"torch\_cpu" in text
    assert r"onnx \& co" in text
    assert text.count("line width") == 2
    drawn_lines = [line for line in text.splitlines() if line.startswith(r"\draw")]
    assert all(line.endswith(";") for line in drawn_lines)
