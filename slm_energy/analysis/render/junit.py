"""A comparison of two studies as JUnit XML: a test suite per metric, a test per cell."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree

from slm_energy.analysis.regression.comparison import StudyComparison
from slm_energy.analysis.render.tables import ratio
from slm_energy.analysis.stats.welch import CellChange
from slm_energy.escape import visible

_COUNTS = (("failures", "failure"), ("errors", "error"), ("skipped", "skipped"))


def to_junit(result: StudyComparison) -> bytes:
    """Write what CI servers read.

    A verdict that `fail_on` names is a failure, any other one without a decision is skipped, and a
    comparison that cannot be made is an error.
    """
    name = f"{result.b} against {result.a}"
    root = ElementTree.Element("testsuites", name=visible(name))
    if result.refusal:
        suite = ElementTree.SubElement(root, "testsuite", name="comparison")
        _case(suite, name, "error", result.refusal)
    for metric in result.metrics:
        suite = ElementTree.SubElement(root, "testsuite", name=metric.metric.name)
        for cell in metric.cells:
            _case(suite, cell.cell, _kind(cell, result.options.fail_on), _message(cell))
    if result.missing:
        suite = ElementTree.SubElement(root, "testsuite", name="missing")
        kind = "failure" if "missing" in result.options.fail_on else "skipped"
        for what in result.missing:
            _case(suite, what, kind, f"missing in {result.b}")
    for suite in root:
        for attribute, tag in (("tests", "testcase"), *_COUNTS):
            suite.set(attribute, str(len(list(suite.iter(tag)))))
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode")
    return f"<?xml version='1.0' encoding='utf-8'?>\n{text}\n".encode()


def _message(cell: CellChange) -> str:
    shown = ratio(cell.ratio, cell.joint_low, cell.joint_high)
    return ": ".join(filter(None, [f"ratio {shown}", cell.stated, cell.reason]))


def _kind(cell: CellChange, fail_on: Sequence[str]) -> str | None:
    if cell.verdict in fail_on:
        return "failure"
    return "skipped" if cell.verdict == "inconclusive" else None


def _case(suite: ElementTree.Element, name: str, kind: str | None, text: str) -> None:
    case = ElementTree.SubElement(
        suite, "testcase", classname=suite.get("name", ""), name=visible(name)
    )
    if kind is None:
        ElementTree.SubElement(case, "system-out").text = visible(text)
    else:
        ElementTree.SubElement(case, kind, message=visible(text))
