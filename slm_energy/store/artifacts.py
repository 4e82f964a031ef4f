"""The files of one record: what the MLflow UI shows and a person downloads.

    record.json                 outcome, metrics, checks, energy, windows, settings
    config/settings.yaml        requested settings
    environment.json            environment, and the settings actually in effect
    checks.json  energy.json    verdicts; joules with intervals and provenance
    outputs/generations.json    prompts and completions, a table in the UI
    outputs/scores.json         whether each completion passes its tests, if the tasks have any
    capture/generations.parquet token ids and time stamps of every request
    capture/reference.parquet   the reference token ids, if outputs are compared
    capture/readings.parquet    every reading of every source
    power.svg                   power and load over the trial
    worker.log                  output of the libraries
    job.json  submitit/         cluster jobs only: the job's input, script and log

`read` returns the record that was passed to `write`.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from slm_energy.derive.quality import agreements
from slm_energy.places import naming
from slm_energy.record import (
    Capture,
    Generation,
    Outcome,
    Record,
    ReferenceAnswer,
    Series,
    TaskScore,
)
from slm_energy.serialization import (
    from_plain,
    parse_json,
    read_json,
    readable,
    sync_files,
    to_plain,
    write_files,
    write_json,
)
from slm_energy.store import traces
from slm_energy.store.capture_files import (
    StoredGenerations,
    read_readings,
    write_generations,
    write_readings,
)

if TYPE_CHECKING:
    import pyarrow

RECORD = "record.json"
GENERATIONS = Path("capture") / "generations.parquet"
_REFERENCE = Path("capture") / "reference.parquet"
READINGS = Path("capture") / "readings.parquet"
TABLE = "outputs/generations.json"
SCORES = "outputs/scores.json"
SETTINGS = "config/settings.yaml"
DIFFERS_AT = "differs_at"


def write(folder: Path, record: Record, prompts: Mapping[str, str]) -> None:
    """Write all files; `record.json` comes last, so its presence means that all files exist.

    This holds after a power loss too: the others are synced to disk first.

    Args:
        folder: exists; may already hold the worker's log.
        record: what to write.
        prompts: task id to prompt, for the table of generations.

    Raises:
        OSError: the disk is full or the folder cannot be written.
    """
    for name in ("config", "capture", "outputs"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    settings = to_plain(record.trial.cell.settings)
    texts = {
        SETTINGS: yaml.safe_dump(settings, sort_keys=False),
        "checks.json": readable(record.checks),
        "energy.json": readable(record.energy),
    }
    if record.scores or record.unscored:
        texts[SCORES] = scores_text(record.scores, record.scored_in, record.unscored)
    capture = record.capture
    if capture is not None:
        environment = {"environment": capture.environment, "effective": capture.effective}
        texts["environment.json"] = readable(environment)
        texts[TABLE] = readable(_table(capture, prompts))
        texts["power.svg"] = traces.power_svg(capture)
        keep_generations(folder, capture.generations)
        write_readings(folder / READINGS, capture.series)
        sources = tuple(
            Series(source=series.source, before_ns=(), raw=(), after_ns=())
            for series in capture.series
        )
        if capture.reference is not None and capture.reference.answers:
            _write_parquet(folder / _REFERENCE, [to_plain(a) for a in capture.reference.answers])
            reference = dataclasses.replace(capture.reference, answers=())
            capture = dataclasses.replace(capture, reference=reference)
        capture = dataclasses.replace(capture, generations=(), series=sources)
    write_files(folder, {name: text.encode() for name, text in texts.items()})
    sync_files(folder)
    write_json(folder / RECORD, dataclasses.replace(record, capture=capture))


def prompts(folder: Path) -> dict[str, str]:
    """Task id to prompt, from the table of generations; empty where nothing was generated.

    Raises:
        ValueError: the table is not in the format of `write`.
    """
    path = folder / TABLE
    if not path.is_file():
        return {}
    table = parse_json(path.read_text(encoding="utf-8"))
    try:
        columns = [table["columns"].index(name) for name in ("task_id", "prompt")]
        return {str(row[columns[0]]): str(row[columns[1]]) for row in table["data"]}
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(f"{TABLE} is not a table of generations") from error


def copy(folder: Path, to: Path) -> None:
    """Copy a record to another file system; `record.json` comes last, as in `write`.

    Raises:
        OSError: the disk is full or the folder cannot be written.
    """
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name != RECORD]
    write_files(to, {str(path.relative_to(folder)): path.read_bytes() for path in paths})
    sync_files(to)
    write_json(to / RECORD, parse_json((folder / RECORD).read_text(encoding="utf-8")))


def refuse(folder: Path, record: Record, reason: str) -> Record:
    """Make a written record invalid; return it."""
    refused = dataclasses.replace(record, outcome=Outcome(name="invalid", reasons=(reason,)))
    plain = parse_json((folder / RECORD).read_text(encoding="utf-8"))
    write_json(folder / RECORD, {**plain, "outcome": to_plain(refused.outcome)})
    return refused


def scores_text(scores: Sequence[TaskScore], scored_in: str, unscored: str) -> str:
    """Content of `SCORES`: see the fields of `Record`."""
    return readable({"unscored": unscored, "scored_in": scored_in, "scores": scores})


def is_complete(folder: Path) -> bool:
    """Whether `write` finished in this folder."""
    return (folder / RECORD).is_file()


def remove(folder: Path) -> None:
    """Remove a record atomically: a folder without `record.json` does not count as a record."""
    (folder / RECORD).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def outline(folder: Path) -> Record:
    """Read only trial, outcome and metrics, which is fast.

    Raises:
        ValueError: `record.json` is not in the format of `write`.
    """
    plain = parse_json((folder / RECORD).read_text(encoding="utf-8"))
    return from_plain(Record, {**plain, "capture": None, "energy": [], "checks": []})


def read(folder: Path) -> Record:
    """Read a record back from its files.

    Raises:
        ValueError: a file is not in the format of `write`.
    """
    record = read_json(folder / RECORD, Record)
    if record.capture is None:
        return record
    reference = record.capture.reference
    if reference is not None and (folder / _REFERENCE).exists():
        answers = (from_plain(ReferenceAnswer, row) for row in _read_parquet(folder / _REFERENCE))
        reference = dataclasses.replace(reference, answers=tuple(answers))
    capture = dataclasses.replace(
        record.capture,
        generations=StoredGenerations(folder / GENERATIONS),
        reference=reference,
        series=read_readings(folder / READINGS, record.capture.series),
    )
    return dataclasses.replace(record, capture=capture)


def keep_generations(folder: Path, generations: Iterable[Generation]) -> StoredGenerations:
    """Write the requests of a trial into its folder, unless this has been done.

    Raises:
        OSError: the disk is full or the folder cannot be written.
    """
    path = folder / GENERATIONS
    if isinstance(generations, StoredGenerations) and path.exists():
        return generations
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_generations(path, generations)


def _table(capture: Capture, prompts: Mapping[str, str]) -> dict[str, list[Any]]:
    """The first pass in the format of MLflow's logged tables.

    `differs_at` is the position of the first token that differs from the reference, null if all are
    equal; the column is absent if nothing was compared.
    """
    differences = {a.task_id: a.differs_at for a in agreements(capture)}
    columns = ["task_id", "prompt", "completion", "input_tokens", "output_tokens", "stop"]
    columns += ["prompt_digest", *([DIFFERS_AT] if differences else [])]
    rows = [
        [
            *(g.task_id, prompts.get(g.task_id, ""), g.text),
            *(g.input_tokens, len(g.output_ids), g.stop, g.prompt_digest),
            *([differences.get(g.task_id)] if differences else []),
        ]
        for g in capture.generations
        if g.pass_index == 0
    ]
    return {"columns": columns, "data": rows}


def _write_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    import pyarrow
    import pyarrow.parquet

    table: pyarrow.Table = pyarrow.Table.from_pylist(rows)
    with naming(path):
        pyarrow.parquet.write_table(table, path)


def _read_parquet(path: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet

    rows: list[dict[str, Any]] = pyarrow.parquet.read_table(path).to_pylist()
    return rows
