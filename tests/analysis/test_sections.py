"""An error in one section of a report: the others are what they are without it."""

from __future__ import annotations

import functools
import importlib
import inspect
import json
import pkgutil
import re
from collections.abc import Iterator
from types import ModuleType

import pytest

from slm_energy import analysis
from slm_energy.analysis import Report, build, options
from slm_energy.analysis.build import build_independent
from slm_energy.analysis.render import files as rendering
from slm_energy.analysis.render.files import LOG, RenderedFiles, files, with_slides
from slm_energy.analysis.sections import Sections
from slm_energy.errors import AnalysisError
from slm_energy.serialization import from_plain, to_plain
from slm_energy.svg import WIDTH, Picture
from tests.analysis.conftest import make_models, make_study

ENERGY, LATENCY = METRICS = ("energy/per_output_token_j", "latency/e2e_p50_s")
COSTS = {"torch/cpu": 0.03, "onnx/cpu": 0.012, "openvino/cpu": 0.02}
REAL = Sections.make


@pytest.fixture(autouse=True)
def no_section_fails():
    """Here sections fail on purpose."""


def built(metrics: tuple[str, ...] = METRICS) -> Report:
    keys = options({"study": "toy", "draws": 999, "metrics": list(metrics)})
    return build(make_study(COSTS, 4), keys)


@functools.cache
def whole() -> tuple[Report, RenderedFiles]:
    """The report and its files without any error."""
    return (report := built()), files(report)


@functools.cache
def made() -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]]:
    """What a report consists of, as it is made: sections of the analysis, then of its files."""
    seen: list[tuple[str, str]] = []

    def noted(self, part, content, otherwise, *, metric=""):
        seen.append((part, metric))
        return REAL(self, part, content, otherwise, metric=metric)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Sections, "make", noted)
        report = built()
        analysed = len(seen)
        files(report)
    return tuple(seen[:analysed]), tuple(part for part, _ in seen[analysed:])


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The sections are those that the code makes, not a list kept by hand."""
    analysed, rendered = made()
    if "analysed" in metafunc.fixturenames:
        metafunc.parametrize("analysed", analysed, ids=": ".join)
    if "rendered" in metafunc.fixturenames:
        metafunc.parametrize("rendered", rendered)


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch):
    """Make a section fail whose part and metric are given."""
    whole()  # before anything is broken

    def break_one(part: str, metric: str = "") -> None:
        def content():
            raise ZeroDivisionError("injected")

        def make(self, name, real, otherwise, *, metric=""):
            chosen = content if (name, metric) == target else real
            return REAL(self, name, chosen, otherwise, metric=metric)

        target = (part, metric)
        monkeypatch.setattr(Sections, "make", make)

    return break_one


def page_sections(page: bytes) -> dict[str, str]:
    """Id of a section of the page to its markup."""
    return dict(re.findall(r'<section id="([^"]+)"(.*?)</section>', page.decode(), re.DOTALL))


def test_every_section_has_a_name_of_its_own():
    analysed, rendered = made()
    assert len(set(analysed)) == len(analysed) > 20
    assert len(set(rendered)) == len(rendered) > 40


def test_a_section_of_the_analysis_that_fails_is_left_out_alone(analysed, broken):
    part, metric = analysed
    broken(part, metric)
    report = built()
    [failure] = report.failures
    assert (failure.part, failure.metric) == (part, metric)
    assert failure.reason == "ZeroDivisionError: injected"
    assert report.notes[0] == failure.sentence()
    before = whole()[0]
    for ours, unbroken in zip(report.metrics, before.metrics, strict=True):
        if ours.metric.name != metric:
            assert ours == unbroken
        elif part not in ("analysis", "comparison"):
            assert ours.families[0].pairs == unbroken.families[0].pairs
    assert report.trials == before.trials
    assert report.cells == before.cells or part in ("analysis", "comparison")

    rendered = files(report)
    assert rendered.failures == (failure,)  # and nothing else failed because of it
    assert b'raise ZeroDivisionError("injected")' in rendered.contents[LOG]
    page, md = rendered.contents["report.html"].decode(), rendered.contents["report.md"].decode()
    assert "ZeroDivisionError: injected" in page
    assert "ZeroDivisionError: injected" in md
    assert "Traceback" not in page + md
    shown = page_sections(rendered.contents["report.html"])
    touched = {
        metric.replace("/", "-") or "findings",
        "findings",
        "methods",
        "trade-offs",
        "trials",
    }
    if part == "recommendation" or metric:
        touched.add("answer")  # it has the recommendation and the first metrics
    if report.cells != before.cells:
        touched.add("resources")  # a table in the order of the cells
    for name, markup in page_sections(whole()[1].contents["report.html"]).items():
        assert name in touched or shown[name] == markup
    decided = [made.metric.name for made in report.recommendations if made.eligible]
    assert [made.metric.name for made in report.recommendations] == decided  # nothing false
    stored = from_plain(Report, json.loads(rendered.contents["comparisons.json"]))
    assert stored.failures == (failure,)


def test_a_part_of_a_page_or_a_file_that_fails_is_left_out_alone(rendered, broken):
    report, before = whole()
    broken(rendered)
    after = files(report)
    [failure] = after.failures
    assert failure.part == rendered
    assert b"ZeroDivisionError: injected" in after.contents[LOG]
    changed = {
        name for name, content in before.contents.items() if after.contents.get(name) != content
    }
    if rendered in before.contents:
        assert changed == {rendered}
        assert rendered not in after.contents
        return
    if rendered == "figures/energy":  # of which this study has none
        assert not changed
        return
    home = "report.md" if rendered.startswith("table of") else "report.html"
    assert changed == {home}
    text = after.contents[home].decode()
    assert "Left out after an error" in text
    assert "ZeroDivisionError: injected" in text
    if home == "report.html":
        old, new = (page_sections(each.contents[home]) for each in (before, after))
        title = rendered.partition(":")[0]
        different = [name for name in new if new[name] != old.get(name)]
        assert len(different) == 1
        assert f">{title}</h2>" in new[different[0]]


def modules() -> Iterator[ModuleType]:
    for found in pkgutil.walk_packages(analysis.__path__, f"{analysis.__name__}."):
        yield importlib.import_module(found.name)


def entries() -> list[str]:
    """Functions of statistics, sentences and pages that one module of the analysis has of another.

    What reads the trials is not among them: without trials there is no report.
    """
    found = set()
    for module in modules():
        for name, value in vars(module).items():
            home = getattr(value, "__module__", "")
            if (
                inspect.isfunction(value)
                and home != module.__name__
                and re.match(r"slm_energy\.analysis\.(stats|text|render|trade|noise|senti)", home)
                and not home.startswith("slm_energy.analysis.render.files")
            ):
                found.add(f"{home}:{name}")
    return sorted(found)


@pytest.mark.parametrize("entry", entries())
def test_a_fault_in_any_function_of_the_analysis_leaves_a_report(entry, monkeypatch):
    """The boundaries are where errors occur: none gets past them."""
    home, name = entry.split(":")
    function, calls = getattr(importlib.import_module(home), name), []

    def fail(*_, **__):
        calls.append(name)
        raise ZeroDivisionError("injected")

    for module in modules():
        if vars(module).get(name) is function:
            monkeypatch.setattr(module, name, fail)
    rebuilt = ".render." not in home
    after = files(built(METRICS[:1]) if rebuilt else whole()[0])
    assert {"comparisons.json", "trials.parquet"} <= set(after.contents)
    assert bool(after.failures) == bool(calls)


@functools.cache
def over_models() -> tuple[Report, RenderedFiles]:
    """A report that says something of models in general."""
    keys = options({"study": "toy", "draws": 999, "metrics": list(METRICS[:1])})
    report = build(make_models(3, {"torch/cpu": 0.03, "onnx/cpu": 0.012}), keys)
    return report, files(report)


@pytest.mark.parametrize(
    ("part", "metric"),
    [
        ("over models", ENERGY),
        ("verdicts over models in words", ""),
        ("methods over models", ""),
        ("notes on models", ""),
    ],
)
def test_what_is_said_of_models_in_general_costs_no_other_section(part, metric, broken):
    before, _ = over_models()
    broken(part, metric)
    after = over_models.__wrapped__()[0]
    assert [(failure.part, failure.metric) for failure in after.failures] == [(part, metric)]
    [ours], [unbroken] = after.metrics, before.metrics
    assert ours.families == unbroken.families
    assert (ours.population == unbroken.population) == (part != "over models")
    said = [line for line in before.findings if not line.startswith("Over models")]
    assert [line for line in after.findings if not line.startswith("Over models")] == said


@pytest.mark.parametrize(
    ("part", "home"),
    [
        ("table of models in general", "report.md"),
        ("Energy per output token: over models", "report.html"),
        ("figures/energy-per-output-token-j-models.svg", ""),
    ],
)
def test_what_is_shown_of_models_in_general_costs_no_other_part(part, home, broken):
    report, before = over_models()
    assert "figures/energy-per-output-token-j-models.svg" in before.contents
    broken(part)
    after = files(report)
    assert [failure.part for failure in after.failures] == [part]
    changed = {
        name for name, content in before.contents.items() if after.contents.get(name) != content
    }
    assert changed == {home or part}


def test_what_is_raised_on_purpose_is_an_answer_to_the_request():
    def refuse():
        raise AnalysisError("reference=x: no such cell")

    with pytest.raises(AnalysisError, match="reference=x"):
        Sections().make("comparison", refuse, lambda failure: None)


def test_repetitions_that_are_not_rounds_are_analysed_in_sections_too(broken):
    keys = options({"study": "toy", "metrics": list(METRICS)})
    before = build_independent(make_study(COSTS, 4), keys)
    broken("effects of the factors", ENERGY)
    after = build_independent(make_study(COSTS, 4), keys)
    assert [failure.part for failure in after.failures] == ["effects of the factors"]
    assert after.metrics[0].families == before.metrics[0].families
    assert after.metrics[1] == before.metrics[1]


def test_a_report_of_an_earlier_version_has_no_failures():
    plain = to_plain(whole()[0])
    del plain["failures"], plain["registration"]
    for result in plain["metrics"]:
        for family in result["families"]:
            del family["rests_on"]
    old = from_plain(Report, plain)
    assert old.failures == ()
    assert files(old).failures == ()


def test_the_names_of_the_files_are_known_to_the_page(broken):
    """A page that fails as a whole costs no other file."""
    broken("report.html")
    after = files(whole()[0])
    assert "report.html" not in after.contents
    assert rendering.JSON in after.contents


def test_a_figure_with_a_style_that_slides_do_not_know_fails_and_is_in_the_log() -> None:
    picture = Picture(WIDTH, 40, "t", "d")
    picture.circle(9, 9, 4, "new")
    drawn = {"figures/a.svg": picture.svg().encode()}
    drawn_too = with_slides(RenderedFiles(contents=drawn, failures=()))
    assert [failure.part for failure in drawn_too.failures] == ["figures/a.svg"]
    assert b"KeyError: 'new'" in drawn_too.contents[LOG]
