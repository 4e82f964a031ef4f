"""What stops a grid before anything is downloaded or runs."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from slm_energy.cell import cell_id, settings
from slm_energy.config.groups import (
    EngineConfig,
    FimConfig,
    LoadConfig,
    ProviderConfig,
    RunConfig,
    WorkloadConfig,
)
from slm_energy.errors import WorkloadError
from slm_energy.planning import grid
from tests.asking import CHATML, CHATML_TOKENS, a_model
from tests.conftest import Command, refusal
from tests.loads import closed_load, open_load
from tests.shipped import shipped, tiny


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


def planned(
    config: RunConfig, tasks: Path, provider: str = "cpu", device: int = 0, **changes: object
) -> RunConfig:
    workload = WorkloadConfig(name="own", source=str(tasks), **changes)
    where = ProviderConfig(name=provider, device=device)
    return dataclasses.replace(config, workload=workload, provider=where)


def test_a_prompt_that_does_not_fit_is_found_before_anything_runs(
    config: RunConfig, tmp_path: Path
) -> None:
    """The bundled model has 512 places; these words have a token each, and more than one byte."""
    tasks = tmp_path / "tasks.jsonl"
    tasks.write_text(json.dumps({"task_id": "long", "prompt": "return " * 300}))
    assert len(grid.resolve([planned(config, tasks, new_tokens=64)]).cells) == 1
    found = grid.resolve([planned(config, tasks, new_tokens=n) for n in (64, 300)])
    assert len(found.cells) == 1
    [(cell, reason)] = found.unsupported
    assert cell.settings.workload.new_tokens == 300
    assert "prompt long has 30" in reason
    assert "with workload.new_tokens=300 it exceeds the model's context of 512: at most 2" in reason
    other = EngineConfig(name="openai_server", decode="generate")  # it may serve longer sequences
    served = dataclasses.replace(planned(config, tasks, new_tokens=300), engine=other)
    assert not any("context" in reason for _, reason in grid.resolve([served]).unsupported)


def test_a_random_model_is_asked_no_more_than_its_own_context(
    config: RunConfig, tmp_path: Path
) -> None:
    tasks = tmp_path / "tasks.jsonl"
    tasks.write_text(json.dumps({"task_id": "long", "prompt": "return " * 600}))
    asked = planned(config, tasks, new_tokens=8)
    twin = dataclasses.replace(asked, model=tiny("tinyllama-1.1b"))
    whole = dataclasses.replace(asked, model=shipped("tinyllama-1.1b", weights="random"))
    found = grid.resolve([twin, whole])
    assert [cell.settings.model.scale for cell in found.cells] == ["full"]
    assert "exceeds the model's context of 512" in found.unsupported[0][1]


def test_the_processor_has_no_devices_to_choose_from(config: RunConfig, tmp_path: Path) -> None:
    """`provider=cpu,cuda provider.device=0,1` is one cell on the processor, and two on GPUs."""
    tasks = tmp_path / "tasks.jsonl"
    tasks.write_text('{"task_id": "a", "prompt": "def f():"}\n')
    where = [("cpu", 0), ("cpu", 1), ("cuda", 0), ("cuda", 1)]
    found = grid.resolve([planned(config, tasks, name, device) for name, device in where])
    cells = [*found.cells, *(cell for cell, _ in found.unsupported)]
    places = [(c.settings.provider.name, c.settings.provider.device) for c in cells]
    assert sorted(places) == [("cpu", 0), ("cuda", 0), ("cuda", 1)]


def loaded(config: RunConfig, load: LoadConfig, engine: str = "scripted") -> RunConfig:
    decode = "session" if engine == "scripted" else "generate"
    options = {} if engine == "scripted" else {"url": "http://127.0.0.1:1"}
    levels = EngineConfig(name=engine, decode=decode, options=options)
    return dataclasses.replace(config, load=load, engine=levels)


def test_an_engine_that_serves_one_request_at_a_time_says_so(config: RunConfig) -> None:
    """One client is served by every engine; more, or arrivals of their own, only by a server."""
    loads = [closed_load(), closed_load(2), open_load(1.0)]
    found = grid.resolve([loaded(config, load) for load in loads])
    assert [cell.settings.load.clients for cell in found.cells] == [1]
    reasons = {cell.settings.load.mode: reason for cell, reason in found.unsupported}
    assert reasons["open"].startswith("load=open: engine scripted serves one request at a time")
    assert reasons["closed"].startswith("load=closed: engine scripted serves one request at a")
    served = grid.resolve([loaded(config, load, "openai_server") for load in loads])
    assert len(served.cells) == 3


def test_a_trace_is_read_before_anything_runs_and_its_content_names_the_cell(
    config: RunConfig, tmp_path: Path
) -> None:
    file = tmp_path / "trace.csv"
    load = open_load(trace=str(file))
    ids = []
    for text in ("arrived_s\n1\n", "arrived_s\n1\n2\n", "arrived_s\n1\n\n"):
        file.write_text(text)
        [cell] = grid.resolve([loaded(config, load, "openai_server")]).cells
        ids.append(cell.id)
        moved = file.rename(tmp_path / f"{len(ids)}.csv")
        elsewhere = loaded(config, open_load(trace=str(moved)), "openai_server")
        assert [cell.id for cell in grid.resolve([elsewhere]).cells] == ids[-1:]
    assert ids[0] == ids[2] != ids[1]
    file.write_text("arrived_s\n2\n1\n")
    with pytest.raises(WorkloadError, match="line 3: arrived_s=1 is before the line above"):
        grid.resolve([loaded(config, load, "openai_server")])


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
