"""What stops a grid before anything is downloaded or runs."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from slm_energy.cell import cell_id, settings
from slm_energy.config.groups import FimConfig, RunConfig
from slm_energy.planning import grid
from tests.asking import CHATML, CHATML_TOKENS, a_model
from tests.conftest import Command, refusal


@pytest.mark.parametrize("verb", [(), ("plan",)], ids=["run", "plan"])
@pytest.mark.parametrize("group", ["model", "workload"])
def test_a_sweep_without_a_pinned_commit_is_one_line_before_anything_runs(
    slm_energy: Command, tmp_path: Path, verb: tuple[str, ...], group: str
) -> None:
    done = slm_energy(*verb, f"{group}.source=org/name")
    line = refusal(done)
    assert line.startswith(f"error: {group}.source=org/name is a hub id: pin it with")
    assert not list((tmp_path / "mlruns").glob("pending/*/*"))


def test_a_model_without_a_template_or_markers_is_named_by_the_plan(
    slm_energy: Command, tmp_path: Path
) -> None:
    """The other models of the grid are planned."""
    chatting = a_model(tmp_path / "chatting", tokens=CHATML_TOKENS, template=CHATML)
    words = ("plan", "-m", f"model.source=bundled,{chatting}")
    done = slm_energy(*words, "workload.prompt=chat")
    lines = done.stdout.replace("\n", " ")
    assert "has no chat template: set workload.prompt=completion" in lines
    assert lines.count("unsupported") == 1
    done = slm_energy(*words, "workload.fim=true")
    assert done.stdout.count("model.fim is null") == 2


def test_a_middle_within_a_chat_is_refused(slm_energy: Command) -> None:
    done = slm_energy("plan", "workload.prompt=chat", "workload.fim=true")
    assert done.returncode == 2
    assert "workload.fim=true with workload.prompt=chat" in done.stderr


def test_a_task_without_a_solution_is_refused_by_name_before_anything_runs(
    slm_energy: Command, tmp_path: Path
) -> None:
    tasks = tmp_path / "tasks.jsonl"
    tasks.write_text('{"task_id": "a/1", "prompt": "def f():"}\n')
    done = slm_energy("plan", f"workload.source={tasks}", "workload.fim=true")
    assert done.returncode == 2
    assert "task a/1 has no canonical_solution" in done.stderr


def test_another_template_is_another_cell(config: RunConfig, tmp_path: Path) -> None:
    folder = a_model(tmp_path / "m", tokens=CHATML_TOKENS, template=CHATML)
    chatting = dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, source=str(folder)),
        workload=dataclasses.replace(config.workload, prompt="chat"),
    )
    [before] = grid.resolve([chatting]).cells
    (folder / "chat_template.jinja").write_text(CHATML + " ")
    [after] = grid.resolve([chatting]).cells
    assert before.id != after.id


def test_markers_are_part_of_a_cell_where_they_are_used(config: RunConfig) -> None:
    def cell(fim: bool, marker: str) -> str:
        tokens = FimConfig(prefix="<p>", suffix="<s>", middle=marker)
        levels = dataclasses.replace(
            settings(config),
            model=dataclasses.replace(config.model, fim=tokens),
            workload=dataclasses.replace(config.workload, fim=fim),
        )
        return cell_id(levels, "m", "w", {})

    assert cell(True, "<m>") != cell(True, "<n>")
    assert cell(False, "<m>") == cell(False, "<n>") == cell_id(settings(config), "m", "w", {})


def test_stop_code_is_refused_for_a_task_that_names_no_function(
    slm_energy: Command, tmp_path: Path
) -> None:
    (tmp_path / "plain.jsonl").write_text('{"task_id": "poem", "prompt": "Once upon a time"}\n')
    done = slm_energy("plan", "workload.source=plain.jsonl", "workload.stop=code")
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith("error: workload.stop=code: poem of workload.source=plain.jsonl has no")
    assert line.endswith("set workload.stop=eos")
