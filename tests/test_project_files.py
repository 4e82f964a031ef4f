"""Files around the code: hooks and workflows run the project's commands, links lead to files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]


def parsed(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def test_hooks_are_the_checks_of_make_lint_from_the_same_environment() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for hook in parsed(ROOT / ".pre-commit-config.yaml")["repos"][0]["hooks"]:
        folder, tool = hook["entry"].split()[0].rsplit("/", 1)
        assert f"VENV := {folder.removesuffix('/bin')}" in makefile
        assert f"\t$(BIN)/{tool}" in makefile
        assert hook["language"] == "system"


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_uses_pinned_actions_no_secrets_and_no_right_to_write(path: Path) -> None:
    text, workflow = path.read_text(encoding="utf-8"), parsed(path)
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    for action in (step["uses"] for step in steps if "uses" in step):
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", action)
    assert "secrets." not in text
    assert workflow["permissions"] == {"contents": "read"}


def test_a_workflow_runs_both_commands_on_every_supported_python() -> None:
    [job] = parsed(ROOT / ".github" / "workflows" / "test.yml")["jobs"].values()
    commands = [step["run"] for step in job["steps"] if "run" in step]
    assert [command.split()[:2] for command in commands] == [["make", "demo"], ["make", "test"]]
    assert job["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13"]


def test_issue_forms_ask_for_what_is_needed_to_reproduce() -> None:
    for name in ("bug", "wrong_figure"):
        form = parsed(ROOT / ".github" / "ISSUE_TEMPLATE" / f"{name}.yml")
        required = [field["id"] for field in form["body"] if field["validations"]["required"]]
        assert {"command", "doctor"} <= set(required)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_to_files_lead_to_files(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
        assert link.startswith("https://") or (page.parent / link).exists(), link


def test_an_assert_in_the_package_only_tells_the_type_checker_what_is_known() -> None:
    """Python removes them with PYTHONOPTIMIZE, so that a check must be an exception."""
    narrowing = re.compile(r"[\w.]+ is not None|isinstance\([\w.]+, \w+\)")
    for path in (ROOT / "slm_energy").rglob("*.py"):
        for test in re.findall(r"^ *assert (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE):
            assert narrowing.fullmatch(test), f"{path.name}: assert {test}"


def test_decisions_are_dated_and_newest_first() -> None:
    text = (ROOT / "docs" / "decisions.md").read_text(encoding="utf-8")
    dates = re.findall(r"^### (\d{4}-\d\d-\d\d) · ", text, re.MULTILINE)
    assert len(dates) == text.count("\n### ")
    assert dates == sorted(dates, reverse=True)
    assert text.count("*Why:*") == text.count("*Rejected:*") == len(dates)
