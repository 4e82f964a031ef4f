"""The notebooks under examples/, run from top to bottom in one folder, as a person would.

Only the study is shorter: two rounds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode

from tests.conftest import ready_store

EXAMPLES = Path(__file__).parent.parent / "examples"
NOTEBOOKS = ("first_study", "own_statistics")
ROUNDS = "study.rounds=6", "study.rounds=2"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Iterator[Path]:
    """Where they run. Jupyter keeps its own files there too, not in the user's home."""
    path = tmp_path_factory.mktemp("examples")
    ready_store(path / "first_study", empty_store)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "XDG_CACHE_HOME"):
            patch.setenv(name, str(path / name.lower()))
        yield path


def executed(name: str, folder: Path) -> NotebookNode:
    source = (EXAMPLES / f"{name}.ipynb").read_text()
    assert source.count(ROUNDS[0]) == 1
    notebook = nbformat.reads(source.replace(*ROUNDS), as_version=4)
    NotebookClient(
        notebook, timeout=900, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    ).execute()
    return notebook


def outputs(notebook: NotebookNode) -> list[NotebookNode]:
    return [output for cell in notebook.cells for output in cell.get("outputs", ())]


def printed(notebook: NotebookNode, stream: str) -> str:
    texts = (o.text for o in outputs(notebook) if o.output_type == "stream" and o.name == stream)
    return "".join(texts)


def shown(notebook: NotebookNode, kind: str = "text/html") -> str:
    return "\n".join(output.get("data", {}).get(kind, "") for output in outputs(notebook))


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_they_are_stored_without_outputs(name: str) -> None:
    notebook = nbformat.read(EXAMPLES / f"{name}.ipynb", as_version=4)
    assert outputs(notebook) == []
    assert all(cell.get("execution_count") is None for cell in notebook.cells)


def test_a_study_runs_in_a_notebook_and_prints_a_line_per_trial(folder: Path) -> None:
    notebook = executed("first_study", folder)
    lines = printed(notebook, "stdout")
    valid = re.findall(r"^valid .*decode=(\w+)  r0", lines, re.MULTILINE)
    assert sorted(valid) == ["generate", "generate", "session", "session"]
    assert "\x1b" not in lines, "no colours or bars that a notebook would not draw"
    assert "\r" not in lines
    assert printed(notebook, "stderr") == ""
    page = shown(notebook)
    assert "4 trials, 4 to do" in page
    assert "Study first_study: 4 valid" in page
    assert "energy per output token" in page
    assert (folder / "first_study" / "report" / "report.html").is_file()


def test_the_second_notebook_uses_the_trials_of_the_first(folder: Path) -> None:
    notebook = executed("own_statistics", folder)
    assert "nothing was left to run; 4 done before" in shown(notebook)
    assert "by hand" in shown(notebook)
    assert "paired t" in shown(notebook, "text/plain")
