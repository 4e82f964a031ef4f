"""The two large tables of a capture, as Parquet files that are written and read piece by piece.

    generations.parquet   one row per request, in pieces of `_PIECE` requests
    readings.parquet      one row per reading, in one piece per source

Times rise by steps that hardly differ, and are stored as these (DELTA_BINARY_PACKED): 2 to 4 bytes.
"""

from __future__ import annotations

import itertools
import operator
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from slm_energy.places import naming
from slm_energy.record import Generation, Series

if TYPE_CHECKING:
    import pyarrow
    from pyarrow.parquet import ParquetFile, ParquetWriter

_PIECE = 1000
_STEPS = ("start_ns", "token_ns.list.element", "before_ns", "after_ns", "raw_int")
_REPEATED = ("task_id", "prompt_digest", "output_ids.list.element", "stop", "text", "source")
_REPEATED_TOO = ("pass_index", "batch_index", "input_tokens", "raw_float", "error")


class StoredGenerations(Sequence[Generation]):
    """The requests in a file: each is read when its turn comes, and none is kept.

    The file stays open, so that it can be read after it was removed.

    Args:
        source: the file, or its content.

    Raises:
        ValueError: it is not in the format of `write_generations`.
    """

    def __init__(self, source: Path | bytes) -> None:
        import pyarrow

        content = isinstance(source, bytes)
        self._file = pyarrow.BufferReader(source) if content else pyarrow.OSFile(str(source))
        self._length = int(self._open().metadata.num_rows)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Generation]:
        for piece in self._open().iter_batches(batch_size=_PIECE):
            columns = {name: _values(piece.column(name)) for name in piece.schema.names}
            for row in zip(*columns.values(), strict=True):
                try:
                    yield Generation(**dict(zip(columns, row, strict=True)))
                except TypeError as error:
                    raise ValueError(f"not a file of generations: {error}") from None

    @overload
    def __getitem__(self, index: int) -> Generation: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Generation]: ...
    def __getitem__(self, index: int | slice) -> Generation | Sequence[Generation]:
        return tuple(self)[index]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(map(operator.eq, self, other))

    __hash__ = None  # type: ignore[assignment]

    def _open(self) -> ParquetFile:
        from pyarrow.parquet import ParquetFile

        return ParquetFile(self._file)


def _values(column: pyarrow.Array) -> list[Any]:
    """A column as Python has it; the numbers in lists at once, which is faster."""
    import pyarrow

    if not pyarrow.types.is_list(column.type):
        return list(column.to_pylist())
    numbers = column.flatten().to_numpy(zero_copy_only=False).tolist()
    offsets = column.offsets.to_numpy()
    return [
        tuple(numbers[begin:end])
        for begin, end in itertools.pairwise((offsets - offsets[0]).tolist())
    ]


def write_generations(path: Path, generations: Iterable[Generation]) -> StoredGenerations:
    """Write them piece by piece; in pieces they are read back.

    Raises:
        OSError: the disk is full.
    """
    import pyarrow

    number, text = pyarrow.int64(), pyarrow.string()
    types = {
        "task_id": text,
        "pass_index": number,
        "batch_index": number,
        "prompt_digest": text,
        "input_tokens": number,
        "output_ids": pyarrow.list_(number),
        "start_ns": number,
        "token_ns": pyarrow.list_(number),
        "stop": text,
        "text": text,
    }
    rest = iter(generations)
    with naming(path), _writer(path, pyarrow.schema(types)) as writer:
        while piece := list(itertools.islice(rest, _PIECE)):
            columns = [
                pyarrow.array([getattr(each, name) for each in piece], kind)
                for name, kind in types.items()
            ]
            writer.write_table(pyarrow.table(columns, names=list(types)))
    return StoredGenerations(path)


def write_readings(path: Path, series: Iterable[Series]) -> None:
    """Write every reading of every source; an integer column keeps all digits of counters.

    Raises:
        OSError: the disk is full.
    """
    import pyarrow

    number, text = pyarrow.int64(), pyarrow.string()
    types = {
        "source": text,
        "before_ns": number,
        "after_ns": number,
        "raw_int": number,
        "raw_float": pyarrow.float64(),
        "error": text,
    }
    with naming(path), _writer(path, pyarrow.schema(types)) as writer:
        for one in series:
            rows, raw = len(one.raw), one.raw
            errors = (one.errors.get(str(row)) for row in range(rows)) if one.errors else None
            columns = [
                pyarrow.repeat(one.source.id, rows),
                pyarrow.array(one.before_ns, number),
                pyarrow.array(one.after_ns, number),
                pyarrow.array([x if isinstance(x, int) else None for x in raw], number),
                pyarrow.array(
                    [x if isinstance(x, float) else None for x in raw], types["raw_float"]
                ),
                pyarrow.array(errors, text) if errors else pyarrow.nulls(rows, text),
            ]
            writer.write_table(pyarrow.table(columns, names=list(types)))


def read_readings(path: Path, series: Iterable[Series]) -> tuple[Series, ...]:
    """Fill series with the readings of their sources.

    Raises:
        ValueError: the file is not in the format of `write_readings`.
    """
    import pyarrow.compute
    from pyarrow.parquet import ParquetFile

    found: dict[str, list[pyarrow.Table]] = {}
    with ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            rows = file.read_row_group(group)
            for name in rows["source"].unique().to_pylist():
                own = pyarrow.compute.equal(rows["source"], name)
                found.setdefault(name, []).append(rows.filter(own))
    return tuple(_filled(one, found.get(one.source.id, ())) for one in series)


def _filled(series: Series, tables: Iterable[pyarrow.Table]) -> Series:
    rows: dict[str, list[Any]] = {}
    for table in tables:
        for name in ("before_ns", "raw_int", "raw_float", "after_ns", "error"):
            rows.setdefault(name, []).extend(table[name].to_pylist())
    both = zip(rows.get("raw_int", ()), rows.get("raw_float", ()), strict=True)
    return Series(
        source=series.source,
        before_ns=array("q", rows.get("before_ns", ())),
        raw=[real if whole is None else whole for whole, real in both],
        after_ns=array("q", rows.get("after_ns", ())),
        errors={str(n): text for n, text in enumerate(rows.get("error", ())) if text is not None},
    )


def _writer(path: Path, schema: pyarrow.Schema) -> ParquetWriter:
    from pyarrow.parquet import ParquetWriter

    leaves = {
        f"{name}.list.element" if "list" in str(schema.field(name).type) else name
        for name in schema.names
    }
    steps = leaves.intersection(_STEPS)
    return ParquetWriter(
        path,
        schema,
        compression="zstd",
        use_dictionary=sorted(leaves - steps),
        column_encoding=dict.fromkeys(steps, "DELTA_BINARY_PACKED"),
    )
