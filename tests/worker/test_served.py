"""Answers on their way through a file, and what a worker keeps of them."""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Sequence
from pathlib import Path

import pytest

from slm_energy.config.groups import EngineConfig, MeasurementConfig, RunConfig, WorkloadConfig
from slm_energy.engines.base import Batch, Completion
from slm_energy.errors import EngineError
from slm_energy.testing.engine import ScriptedEngine
from slm_energy.worker.served import Request, Served, append, generations
from slm_energy.worker.serving import serve
from slm_energy.workload import load
from tests.conftest import a_cell, a_trial

LONG = MeasurementConfig(name="off", mode="off", baseline_s=0, warmup_requests=0, serve_s=0.3)
FEW = WorkloadConfig(name="bundled", source="bundled", limit=2, new_tokens=7)


def answers(*ids: tuple[int, ...]) -> list[Completion]:
    """Answers whose last time is beyond 32 bits."""
    stamps = [tuple(2**40 + at for at in range(len(one))) for one in ids]
    return [Completion(output_ids=i, token_ns=t) for i, t in zip(ids, stamps, strict=True)]


def test_answers_come_back_with_their_request_pass_and_batch(tmp_path: Path) -> None:
    file = tmp_path / "served.bin"
    with file.open("wb") as output:
        for number in range(2):
            append(output, 10 + number, answers((1, 2), (3,)))
            append(output, 20 + number, answers((4, 5 + number)))
    requests = tuple(
        Request(task_id=name, prompt_digest=f"of {name}", input_tokens=3, stop="length", text=name)
        for name in "abc"
    )
    served = Served(requests=requests, batches=2, passes=2, stops={"5": "eos"})
    found = list(generations(served, file))
    assert [(g.task_id, g.pass_index, g.batch_index, g.start_ns) for g in found] == [
        *(("a", 0, 0, 10), ("b", 0, 0, 10), ("c", 0, 1, 20)),
        *(("a", 1, 0, 11), ("b", 1, 0, 11), ("c", 1, 1, 21)),
    ]
    assert [g.output_ids for g in found[3:]] == [(1, 2), (3,), (4, 6)]
    assert found[5].token_ns == (2**40, 2**40 + 1)
    assert [g.stop for g in found] == ["length"] * 5 + ["eos"]
    assert [g.text for g in found] == ["a", "b", "c", None, None, None]


@pytest.mark.parametrize("missing", [1, 8 * 7])
def test_a_file_that_lacks_an_answer_is_refused(tmp_path: Path, missing: int) -> None:
    file = tmp_path / "served.bin"
    with file.open("wb") as output:
        append(output, 10, answers((1,)))
        append(output, 11, answers((1,)))
    file.write_bytes(file.read_bytes()[:-missing])
    request = Request(task_id="a", prompt_digest="", input_tokens=1, stop="eos", text="")
    with pytest.raises(ValueError, match=r"ends within an answer|holds 1 answers of 2 passes"):
        list(generations(Served(requests=(request,), batches=1, passes=2), file))


def test_a_worker_keeps_the_answers_of_one_batch_whatever_the_number_of_passes(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive, generate = list[int](), ScriptedEngine.generate

    def counted(engine: ScriptedEngine, batch: Batch) -> list[Completion]:
        alive.append(sum(type(each) is Completion for each in gc.get_objects()))
        return generate(engine, batch)

    monkeypatch.setattr(ScriptedEngine, "generate", counted)
    entry = a_trial(config, cell=a_cell(config, measurement=LONG, workload=FEW))
    capture, served = serve(
        entry, load(FEW), None, lambda phase, share: None, tmp_path / "served.bin"
    )
    assert served.passes == capture.windows[-1].passes == len(alive) / 2
    assert max(alive[1:]) == max(alive[1:3])


def test_an_engine_that_leaves_out_a_request_fails(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the answers after it would count for the prompts before theirs."""
    generate = ScriptedEngine.generate

    def one_less(engine: ScriptedEngine, batch: Batch) -> Sequence[Completion]:
        return generate(engine, batch)[1:]

    monkeypatch.setattr(ScriptedEngine, "generate", one_less)
    pairs = dataclasses.replace(FEW, batch_size=2)
    cell = a_cell(config, engine=EngineConfig(name="scripted"), measurement=LONG, workload=pairs)
    with pytest.raises(EngineError, match="1 answers to 2 requests"):
        serve(
            a_trial(config, cell=cell), load(FEW), None, lambda phase, share: None, tmp_path / "b"
        )
