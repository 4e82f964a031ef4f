"""What a trial's windows leave in the capture; how processes are run for it is in test_trial."""

from __future__ import annotations

import dataclasses
import json
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from slm_energy import prompts, workload
from slm_energy.cell import Trial
from slm_energy.clocks import ReadClocks, read_clocks
from slm_energy.config.groups import (
    EngineConfig,
    FimConfig,
    LoadConfig,
    MeasurementConfig,
    RunConfig,
    WorkloadConfig,
)
from slm_energy.derive import metrics
from slm_energy.engines.base import find
from slm_energy.models.tokenizer import load_tokenizer
from slm_energy.record import Capture
from slm_energy.running.trial import derive
from slm_energy.scoring import answer
from slm_energy.tasks import Task
from slm_energy.testing.completions import CompletionsServer
from slm_energy.worker import requests
from slm_energy.worker.served import generations
from slm_energy.worker.serving import serve
from slm_energy.workload import load
from tests.asking import CHATML, CHATML_TOKENS, MARKERS, a_model
from tests.clocks import FakeClocks
from tests.conftest import a_cell, a_trial

OFF = MeasurementConfig(name="off", mode="off", baseline_s=0, warmup_requests=0, serve_s=0)
FEW = WorkloadConfig(name="bundled", source="bundled", limit=2, new_tokens=7)


@pytest.fixture
def bursts(config: RunConfig) -> Iterator[Trial]:
    """A trial of a server whose events bring three tokens each."""
    entry = a_trial(config)
    server = CompletionsServer(0, Path(entry.model_path), "burst")
    threading.Thread(target=server.serve_forever, args=(0.01,)).start()
    options = {"url": f"http://127.0.0.1:{server.server_port}"}
    engine = EngineConfig(name="openai_server", decode="generate", options=options)
    cell = a_cell(config, engine=engine, measurement=OFF, workload=FEW)
    yield dataclasses.replace(entry, cell=cell)
    server.shutdown()
    server.server_close()


def captured(
    entry: Trial, tasks: Sequence[Task] | None = None, clocks: ReadClocks = read_clocks
) -> Capture:
    tasks = tasks or workload.load(entry.cell.settings.workload)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "served.bin")
        capture, served = serve(entry, tasks, None, lambda phase, share: None, file, clocks)
        return dataclasses.replace(capture, generations=tuple(generations(served, file)))


def torchs(config: RunConfig, **changes: object) -> Capture:
    levels = dataclasses.replace(FEW, **changes)  # type: ignore[arg-type]
    engine = EngineConfig(name="torch", threads=1)
    cell = a_cell(config, engine=engine, measurement=OFF, workload=levels)
    return captured(a_trial(config, cell=cell))


def test_what_shows_only_while_serving_is_in_the_capture(bursts: Trial) -> None:
    """The server's engine has a window of its own to compile, after which it still adds to it."""
    assert captured(bursts).effective["tokens_per_event"] == 3


def test_versions_are_those_where_the_trial_ran(bursts: Trial) -> None:
    planned = dataclasses.replace(bursts.cell, versions={"vllm": "0.0.0"})
    environment = captured(dataclasses.replace(bursts, cell=planned)).environment
    assert environment["versions"] == find("openai_server").versions()
    assert environment["rapl_energy_filter"] in ("on", "off", "unknown", "none")


def test_a_text_that_ends_with_the_last_token_asked_for_has_ended(config: RunConfig) -> None:
    """One of two texts ends by itself; it is asked for exactly as many tokens as it has."""
    length = min(len(g.output_ids) for g in torchs(config, stop="eos", new_tokens=64).generations)
    assert length < 64, "no text ends: the test shows too little"
    exactly = torchs(config, stop="eos", new_tokens=length).generations
    assert [g.stop for g in exactly] == ["length", "eos"]
    assert {len(g.output_ids) for g in exactly} == {length}
    fixed = torchs(config, stop="fixed", new_tokens=length).generations
    assert [g.stop for g in fixed] == ["length", "length"]


def test_the_text_of_an_answer_ends_before_the_stop_text_that_ended_it(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stop texts are pieces of what the model generates: one crosses two tokens."""
    fixed = torchs(config, stop="fixed", new_tokens=24).generations
    texts = [g.text or "" for g in fixed]
    stops = {fixed[0].task_id: (texts[0][9:14],), fixed[1].task_id: ("never",)}
    monkeypatch.setattr(requests, "stop_texts", lambda task, workload: stops[task.task_id])
    capture = torchs(config, stop="code", new_tokens=24)
    first, second = capture.generations
    assert (first.stop, first.text) == ("code", texts[0][: texts[0].index(texts[0][9:14])])
    assert first.output_ids == fixed[0].output_ids[: len(first.output_ids)]
    assert len(first.output_ids) == len(first.token_ns) < 24
    assert second.stop in ("length", "eos")
    assert derive_tokens(capture) == len(first.output_ids) + len(second.output_ids)


def derive_tokens(capture: Capture) -> float:
    return metrics.derive(capture, [], LoadConfig())["tokens/output"]


def test_equal_tokens_make_equal_texts_programs_and_reasons_to_end(config: RunConfig) -> None:
    """Two engines' captures of the same code workload differ in times only."""
    workload = dataclasses.replace(FEW, limit=3, stop="code", new_tokens=48)
    tasks = load(workload)

    def programs(decode: str) -> list[tuple[object, ...]]:
        engine = EngineConfig(name="torch", threads=1, decode=decode)  # type: ignore[arg-type]
        cell = a_cell(config, engine=engine, measurement=OFF, workload=workload)
        answers = captured(a_trial(config, cell=cell)).generations
        return [
            (g.output_ids, g.stop, answer.program(task, g.text or "", workload))
            for task, g in zip(tasks, answers, strict=True)
        ]

    assert programs("session") == programs("generate")


def test_a_machine_that_is_suspended_while_serving_makes_the_trial_invalid(
    config: RunConfig,
) -> None:
    """Read as the trial begins, and at both edges of the windows load and serve."""
    entry = a_trial(config, cell=a_cell(config, measurement=OFF, workload=FEW))
    capture = captured(entry, clocks=FakeClocks(suspended_s=(0, 0, 0, 0, 42)))
    assert derive(entry, capture, 0).outcome.reasons == (
        "not_suspended: the machine was suspended for 42.00 s within window serve: run"
        " `systemd-inhibit --what=sleep slm-energy ...`",
    )
    assert derive(entry, captured(entry), 0).outcome.name == "valid"


@pytest.mark.parametrize("way", [{"prompt": "chat"}, {"fim": True}, {}], ids=str)
def test_the_text_of_a_reply_or_a_middle_ends_with_its_first_end_token(
    config: RunConfig, tmp_path: Path, way: dict[str, Any]
) -> None:
    """Half of the tokens that the scripted engine may generate end a text."""
    folder = a_model(tmp_path / "m", tokens=(*CHATML_TOKENS, *MARKERS), template=CHATML)
    (folder / "generation_config.json").unlink()
    ends = list(range(128))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))
    model = dataclasses.replace(
        config.model,
        source=str(folder),
        fim=FimConfig(prefix=MARKERS[0], suffix=MARKERS[1], middle=MARKERS[2]),
    )
    levels = dataclasses.replace(FEW, **way)
    cell = a_cell(config, model=model, measurement=OFF, workload=levels)
    entry = a_trial(config, cell=cell, model_path=str(folder))
    asked = prompts.rendered(workload.load(levels), model, folder, levels)
    capture = captured(entry, asked)
    tokenizer = load_tokenizer(folder)
    for task, generation in zip(asked, capture.generations, strict=False):
        ids = prompts.token_ids(tokenizer, task.prompt, levels)
        assert generation.prompt_digest == workload.token_digest(ids)
        shown = list(generation.output_ids)
        if way:
            first = next((at for at, n in enumerate(shown) if n in ends), len(shown))
            shown = shown[:first]
        assert generation.text == tokenizer.decode(shown)
        assert len(generation.output_ids) == FEW.new_tokens
