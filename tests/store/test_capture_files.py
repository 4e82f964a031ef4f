"""Large tables of a capture: read piece by piece, small, and those of older versions too."""

from __future__ import annotations

import dataclasses
import itertools
import random
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from slm_energy.record import Series
from slm_energy.serialization import to_plain
from slm_energy.store.capture_files import (
    StoredGenerations,
    read_readings,
    write_generations,
    write_readings,
)
from tests.captures import S, a_counter, a_gauge, a_generation


def test_generations_of_several_pieces_come_back_each_time(tmp_path: Path) -> None:
    """Also from the content of the file, and after the file was removed."""
    written = tuple(a_generation("a", number, number * S) for number in range(2500))
    stored = write_generations(tmp_path / "g.parquet", iter(written))
    assert (len(stored), stored[2499], stored[:2]) == (2500, written[2499], written[:2])
    assert StoredGenerations((tmp_path / "g.parquet").read_bytes()) == written
    (tmp_path / "g.parquet").unlink()
    assert stored == written
    assert stored != (*written[:-1], dataclasses.replace(written[-1], stop="eos"))


def test_files_of_older_versions_are_read(tmp_path: Path) -> None:
    """They have one piece, no column without a value, and the sources in any order."""
    written = [a_generation("a", number, number * S, text=None) for number in range(3)]
    table = pyarrow.Table.from_pylist([to_plain(each) for each in written])
    pyarrow.parquet.write_table(table, tmp_path / "g.parquet")
    assert StoredGenerations(tmp_path / "g.parquet") == tuple(written)
    rows = [
        {"source": one.source.id, "before_ns": before, "after_ns": after, "raw_int": raw}
        | {"raw_float": None, "error": None}
        for one in (a_counter(), dataclasses.replace(a_counter(), source=a_gauge().source))
        for before, raw, after in zip(one.before_ns, one.raw, one.after_ns, strict=True)
    ]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "r.parquet")
    empty = [Series(source=s.source, before_ns=(), raw=(), after_ns=()) for s in (a_counter(),)]
    assert read_readings(tmp_path / "r.parquet", empty) == (a_counter(),)


def test_another_table_is_refused(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"task_id": ["a"]}), tmp_path / "g.parquet")
    with pytest.raises(ValueError, match="not a file of generations"):
        StoredGenerations(tmp_path / "g.parquet")


def test_files_of_older_versions_without_rows_are_read(tmp_path: Path) -> None:
    """They have no columns, as of a trial without meters."""
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([]), tmp_path / "none.parquet")
    assert list(StoredGenerations(tmp_path / "none.parquet")) == []
    empty = Series(source=a_counter().source, before_ns=(), raw=(), after_ns=())
    assert read_readings(tmp_path / "none.parquet", [empty]) == (empty,)


def test_a_reading_takes_a_dozen_bytes(tmp_path: Path) -> None:
    """Every 0.1 s with jitter, a counter in uJ with bursts: two hours of 100 sources are 90 MB."""
    noise = random.Random(0)
    times = list(itertools.accumulate(noise.randrange(S // 12, S // 8) for _ in range(10_000)))
    raw = [time // 25_000 + noise.randrange(1000) for time in times]
    after = [time + 20_000 + noise.randrange(5000) for time in times]
    series = dataclasses.replace(a_counter(), before_ns=times, raw=raw, after_ns=after)
    write_readings(tmp_path / "r.parquet", [series])
    assert (tmp_path / "r.parquet").stat().st_size < 12.5 * len(times)
