"""Engines forked from a template serve like spawned ones: same tokens, same settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from slm_energy.cell import Trial
from slm_energy.config.groups import MeasurementConfig, RunConfig, WorkloadConfig
from slm_energy.record import Capture
from slm_energy.running import trial
from slm_energy.worker.forkserver import Templates
from tests.conftest import a_cell, a_trial
from tests.engines.conftest import MakeRequest

ONCE = MeasurementConfig(name="off", mode="off", baseline_s=0, warmup_requests=0, serve_s=0)
FEW = WorkloadConfig(name="bundled", source="bundled", limit=2, batch_size=2, new_tokens=8)


@pytest.fixture
def templates() -> Iterator[Templates]:
    with Templates() as ready:
        yield ready


@pytest.mark.parametrize("engine", ["torch", "onnx"])
def test_a_forked_engine_gives_the_same_tokens(
    tmp_path: Path,
    config: RunConfig,
    make_request: MakeRequest,
    templates: Templates,
    engine: str,
) -> None:
    target = make_request(engine, threads=2)
    captures = []
    for isolation in ("spawn", "forkserver"):
        measurement = dataclasses.replace(ONCE, isolation=isolation)
        levels = dataclasses.replace(target.settings, measurement=measurement, workload=FEW)
        groups = {field.name: getattr(levels, field.name) for field in dataclasses.fields(levels)}
        cell = dataclasses.replace(a_cell(config, **groups), versions=target.versions)
        entry = a_trial(config, cell=cell, cache_path=str(target.cache_path))
        captures.append(served(entry, tmp_path / str(len(captures)), templates))
    spawned, forked = captures
    assert [g.output_ids for g in forked.generations] == [g.output_ids for g in spawned.generations]
    assert forked.effective == spawned.effective
    assert forked.environment == spawned.environment | {"isolation": "forkserver"}


def served(entry: Trial, folder: Path, templates: Templates) -> Capture:
    folder.mkdir()
    record = trial.run(entry, folder, None, lambda phase, share: None, None, templates)
    assert record.outcome.name == "valid", record.outcome
    assert record.capture is not None
    return record.capture
