from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from slm_energy import workload
from slm_energy.config.groups import BUNDLED, WorkloadConfig
from slm_energy.errors import WorkloadError


def given(source: str | Path, **changes: Any) -> WorkloadConfig:
    return WorkloadConfig(name="test", source=str(source), **changes)


TASKS = workload.load(given(BUNDLED))


def test_forty_tasks_are_bundled() -> None:
    assert len(TASKS) == 40
    assert len({task.entry_point for task in TASKS}) == 40


def test_a_file_may_be_plain_or_gzipped(tmp_path: Path) -> None:
    rows = [{"task_id": f"t/{n}", "prompt": f"def f{n}():\n", "extra": 1} for n in range(3)]
    text = "\n".join(json.dumps(row) for row in rows) + "\n\n"
    plain, zipped = tmp_path / "tasks.jsonl", tmp_path / "tasks.jsonl.gz"
    plain.write_text(text)
    zipped.write_bytes(gzip.compress(text.encode()))
    assert workload.load(given(plain)) == workload.load(given(zipped))
    assert [task.task_id for task in workload.load(given(plain, limit=2))] == ["t/0", "t/1"]


def test_the_digest_covers_ids_and_prompts_in_order() -> None:
    assert workload.digest(TASKS) == workload.digest(list(TASKS))
    assert workload.digest(TASKS) != workload.digest(TASKS[::-1])
    assert workload.digest(TASKS) != workload.digest(TASKS[:-1])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "contains no prompts"),
        (b"\n\n", "contains no prompts"),
        (b'{"task_id": "a"}\n', "row 1 needs task_id and prompt"),
        (b'{"task_id": "a", "prompt": ""}\n', "row 1 has an empty prompt"),
        (b'{"task_id": "a", "prompt": "x"}\nnonsense\n', "line 2 is not JSON"),
        (b'{"task_id": "a", "prompt": "x"}\n{"task_id": "a", "prompt": "y"}\n', "not unique"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b'[{"task_id": "a", "prompt": "x"}]\n', "row 1 is list, expected a JSON object"),
        (b'{"task_id": "a", "prompt": [{"role": "user"}]}\n', "row 1: prompt is list"),
        (b'{"task_id": "a", "prompt": false}\n', "row 1: prompt is bool"),
        (b'{"task_id": "a", "prompt": 7}\n', "row 1: prompt is int"),
        (b'{"task_id": "a", "prompt": null}\n', "row 1 has an empty prompt"),
        (b'{"task_id": "a", "prompt": "\\ud83d"}\n', "row 1: prompt has a lone surrogate"),
    ],
)
def test_a_bad_file_is_one_clear_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "tasks.jsonl"
    path.write_bytes(content)
    with pytest.raises(WorkloadError, match=message) as raised:
        workload.load(given(path))
    assert "\n" not in str(raised.value)


def test_null_in_an_optional_field_is_absent_and_an_id_may_be_a_number(tmp_path: Path) -> None:
    path = tmp_path / "tasks.jsonl"
    row = {"task_id": 7, "prompt": "x", "entry_point": "f", "base_input": None, "plus_input": None}
    path.write_text("\ufeff" + json.dumps(row | {"canonical_solution": None}), encoding="utf-8")
    (task,) = workload.load(given(path))
    assert (task.task_id, task.canonical_solution, task.tests) == ("7", "", None)


def test_a_missing_file_and_a_broken_archive_are_named(tmp_path: Path) -> None:
    with pytest.raises(WorkloadError, match="no such file"):
        workload.load(given(tmp_path / "none.jsonl"))
    broken = tmp_path / "tasks.jsonl.gz"
    broken.write_bytes(gzip.compress(b'{"task_id": "a", "prompt": "x"}\n')[:-9])
    with pytest.raises(WorkloadError, match="cannot be read"):
        workload.load(given(broken))


def test_a_hub_data_set_is_read_from_its_cache_and_missing_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = "a" * 40
    snapshot = tmp_path / "hub" / "datasets--org--tasks" / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (snapshot / "test.jsonl").write_text('{"task_id": "a", "prompt": "x"}\n')
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    [task] = workload.load(given("org/tasks", revision=commit))
    assert task == workload.Task(task_id="a", prompt="x")
    with pytest.raises(WorkloadError, match="hub cannot be reached"):
        workload.load(given("org/absent", revision=commit))
