from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from slm_energy import tasks, workload
from slm_energy.config.groups import BUNDLED, WorkloadConfig
from slm_energy.errors import ConfigError, WorkloadError
from tests.test_tasks import MBPP


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
        (
            b'{"id": "a", "question": "x"}\n',
            "row 1 needs task_id and prompt; it has id, question: name the columns with"
            " 'workload.columns={task_id: id, prompt: question}'",
        ),
        (
            b'{"task_id": "a", "code": "", "test_list": [], "my text": "x"}\n',
            "row 1 needs text or prompt; .*'workload.columns={prompt: COLUMN}'",
        ),
        (b'{"task_id": "a", "prompt": ""}\n', "row 1 has an empty prompt"),
        (b'{"task_id": "a", "prompt": "x"}\nnonsense\n', "line 2 is not JSON .* one array"),
        (b'{"task_id": "a", "prompt": "x"}\n{"task_id": "a", "prompt": "y"}\n', "not unique"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b'[{"task_id": "a"},\n3\n]', "row 1 needs task_id and prompt"),
        (
            b'[{"task_id": "a", "prompt": "x"}\n',
            "is not JSON .*; give one object a line, or one arr",
        ),
        (b"[]", "contains no prompts"),
        (b"3\n", "row 1 is int, expected a JSON object"),
        (
            b'{"task_id": "a", "prompt": [{"role": "user"}]}\n',
            "row 1: prompt is list, expected text; workload.prompt=chat sends",
        ),
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


def test_an_array_over_several_lines_is_read_like_lines(tmp_path: Path) -> None:
    rows = [{"task_id": f"t/{n}", "prompt": "a\u2028b"} for n in range(3)]
    lines, array = tmp_path / "tasks.jsonl", tmp_path / "tasks.json"
    lines.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows))
    array.write_text("\n" + json.dumps(rows, indent=2))
    assert workload.load(given(array)) == workload.load(given(lines))


def test_columns_of_other_names_are_mapped_to_the_fields_of_every_form(tmp_path: Path) -> None:
    path = tmp_path / "tasks.jsonl"
    renamed = MBPP | {"id": 2, "ask": MBPP["text"], "tests": MBPP["test_list"], "prompt": 7}
    for name in ("task_id", "text", "test_list"):
        del renamed[name]
    path.write_text(json.dumps(renamed))
    columns = {"task_id": "id", "prompt": "ask", "test_list": "tests"}
    assert workload.load(given(path, columns=columns)) == (tasks.read(MBPP),)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"promt": "ask"}, "workload.columns.promt: no such field; did you mean prompt"),
        ({"prompt": "aks"}, "workload.columns.prompt=aks: no such column in .*; it has id, ask"),
        (
            {"prompt": "ask"},
            "row 1 needs task_id and prompt; .*'workload.columns={prompt: ask, task_id: id}'",
        ),
    ],
)
def test_a_wrong_mapping_of_columns_is_one_clear_line(
    tmp_path: Path, columns: dict[str, str], message: str
) -> None:
    path = tmp_path / "tasks.jsonl"
    path.write_text('{"id": "a", "ask": "x"}\n{"id": "b", "ask": "y"}\n')
    with pytest.raises((WorkloadError, ConfigError), match=message):
        workload.load(given(path, columns=columns))


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
