"""The reference engine's tokens: made once, kept, and never the reason why a trial fails."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from slm_energy import cache
from slm_energy.cell import Trial
from slm_energy.config.groups import EngineConfig, MeasurementConfig, ProviderConfig, RunConfig
from slm_energy.errors import ConfigError, WorkloadError
from slm_energy.record import Record
from slm_energy.running import trial
from slm_energy.worker import reference
from tests.conftest import a_cell, a_trial

OFF = MeasurementConfig(name="off", mode="off", baseline_s=0, warmup_requests=0, serve_s=0)


def compared(config: RunConfig, folder: Path, *, sweep: str = "s1", **cell: Any) -> Trial:
    """A trial whose tokens the scripted engine's are compared with."""
    workload = dataclasses.replace(config.workload, limit=3)
    chosen = a_cell(config, **{"workload": workload, "measurement": OFF} | cell)
    return a_trial(
        config, sweep=sweep, cell=chosen, cache_path=str(folder / "cache"), reference="scripted"
    )


def run(entry: Trial, folder: Path) -> Record:
    folder.mkdir()
    return trial.run(entry, folder, None, lambda phase, share: None)


def flags(record: Record) -> dict[str, str]:
    return {check.name: check.detail for check in record.checks if check.flagged}


def test_every_trial_of_a_model_and_workload_is_compared_with_one_reference(
    tmp_path: Path, config: RunConfig
) -> None:
    entry = compared(config, tmp_path)
    first, second = run(entry, tmp_path / "1"), run(entry, tmp_path / "2")
    assert first.metrics["quality/agreement"] == second.metrics["quality/agreement"] == 1
    assert ("reference" in first.phases_s, "reference" in second.phases_s) == (True, False)
    assert first.capture is not None
    assert first.capture.reference is not None
    assert len(first.capture.reference.answers) == 3
    assert flags(first) == {}


def test_it_serves_one_prompt_at_a_time_whatever_the_trial_does(
    tmp_path: Path, config: RunConfig
) -> None:
    entry, shares = compared(config, tmp_path), list[float]()
    reference.make(entry, shares.append)
    assert shares == [1 / 3, 2 / 3, 1]
    batched = dataclasses.replace(entry.cell.settings.workload, batch_size=3)
    assert reference.read(compared(config, tmp_path, workload=batched)) == reference.read(entry)


@pytest.mark.parametrize("changes", [{"new_tokens": 5}, {"stop": "eos"}, {"stop": "code"}])
def test_other_work_has_another_reference(
    tmp_path: Path, config: RunConfig, changes: dict[str, Any]
) -> None:
    entry = compared(config, tmp_path)
    reference.make(entry)
    assert not reference.needed(entry)
    other = dataclasses.replace(entry.cell.settings.workload, **changes)
    assert reference.needed(compared(config, tmp_path, workload=other))


def test_a_reference_of_prompts_that_have_changed_is_not_made(
    tmp_path: Path, config: RunConfig
) -> None:
    file = tmp_path / "own.jsonl"
    file.write_text('{"task_id": "a", "prompt": "def f():"}\n')
    entry = compared(
        config, tmp_path, workload=dataclasses.replace(config.workload, source=str(file))
    )
    file.write_text('{"task_id": "a", "prompt": "def g():"}\n')
    with pytest.raises(WorkloadError, match="has changed since the sweep began"):
        reference.make(entry)
    assert reference.read(entry) is None


def test_nothing_is_compared_where_the_study_has_no_reference(
    tmp_path: Path, config: RunConfig
) -> None:
    entry = dataclasses.replace(compared(config, tmp_path), reference=None)
    assert not reference.needed(entry)
    assert reference.read(entry) is None


@pytest.mark.parametrize(
    ("dtype", "provider", "expected"),
    [
        ("float32", "cpu", ("float32", "cpu")),
        ("int8", "cpu", ("float32", "cpu")),
        ("int4", "cpu", ("float32", "cpu")),
        ("stored", "cpu", ("stored", "cpu")),
        ("bfloat16", "tensorrt", ("bfloat16", "cpu")),
    ],
)
def test_it_computes_like_the_trial_as_far_as_it_can(
    tmp_path: Path, config: RunConfig, dtype: Any, provider: str, expected: tuple[str, str]
) -> None:
    """The scripted engine has no provider but the processor."""
    asked = compared(
        config,
        tmp_path,
        engine=EngineConfig(name="scripted", dtype=dtype),
        provider=ProviderConfig(name=provider),
    )
    reference.make(asked)
    found = reference.read(asked)
    assert found is not None
    assert (found.dtype, found.provider) == expected


def test_a_damaged_one_is_made_again(tmp_path: Path, config: RunConfig) -> None:
    entry = compared(config, tmp_path)
    reference.make(entry)
    [entry_on_disk] = cache.entries(Path(entry.cache_path))
    (entry_on_disk.path / "reference.json").write_text("{}")
    assert reference.needed(entry)
    reference.make(entry)
    assert not reference.needed(entry)


def test_a_reference_that_fails_costs_no_trial_and_is_tried_once_a_sweep(
    tmp_path: Path, config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A torch that cannot be imported: the scripted engine does not need it."""
    (tmp_path / "torch.py").write_text("raise ImportError('this torch is broken')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    entry = dataclasses.replace(compared(config, tmp_path), reference="torch")
    record = run(entry, tmp_path / "1")
    assert record.outcome.name == "valid", record.outcome
    assert not [name for name in record.metrics if name.startswith("quality/")]
    assert flags(record)["same_tokens_as_reference"] == (
        "agreement is unknown: engine torch failed: ImportError: this torch is broken"
    )
    assert not reference.needed(entry)
    assert reference.needed(dataclasses.replace(entry, sweep="s2"))


def test_an_engine_that_there_is_not_is_an_error(tmp_path: Path, config: RunConfig) -> None:
    with pytest.raises(ConfigError, match="'none' is not an engine"):
        reference.needed(dataclasses.replace(compared(config, tmp_path), reference="none"))
