"""The two large tables of a capture, as Parquet files written and read in pieces.

    generations.parquet   one row per request, in pieces of `_PIECE` requests
    readings.parquet      one row per reading, in one piece per source

Times are stored as differences (DELTA_BINARY_PACKED), which hardly vary: 2 to 4 bytes each.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from slm_energy.places import naming
from slm_energy.record import Generation, Series

if TYPE_CHECKING:
    import pyarrow

_PIECE = 1000
_Write = Callable[[dict[str, Sequence[Any]]], None]
_COLUMNS = {field.name for field in dataclasses.fields(Generation)}
_OF_LOAD, _OF_SERVERS = {"due_ns", "ended", "ended_ns"}, {"decode_ns"}
_OLDER = (_COLUMNS - _OF_SERVERS, _COLUMNS - _OF_SERVERS - _OF_LOAD)
_STEPS = ("start_ns", "token_ns.list.element", "before_ns", "after_ns", "raw_int")


class StoredGenerations(Sequence[Generation]):
    """The requests in a file, read in pieces during iteration; none is kept in memory.

    The file stays open, so that it can still be read after it was removed.

    Args:
        source: the file, or its content.

    Raises:
        ValueError: it is not in the format of `write_generations`.
    """

    def __init__(self, source: Path | bytes) -> None:
        import pyarrow
        from pyarrow.parquet import ParquetFile

        self._file = ParquetFile(
            pyarrow.BufferReader(source) if isinstance(source, bytes) else source
        )
        names = set(self._file.schema_arrow.names)
        # Older versions wrote no columns without rows.
        if len(self) and names not in (_COLUMNS, *_OLDER):
            raise ValueError(f"not a file of generations: it has the columns {sorted(names)}")

    def __len__(self) -> int:
        return int(self._file.metadata.num_rows)

    def __iter__(self) -> Iterator[Generation]:
        for piece in self._file.iter_batches(batch_size=_PIECE):
            columns = {name: _values(piece.column(name)) for name in piece.schema.names}
            for row in zip(*columns.values(), strict=True):
                yield Generation(**dict(zip(columns, row, strict=True)))

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


def _values(column: pyarrow.Array) -> list[Any]:
    """A column as Python objects; numbers in lists are converted all at once, which is faster."""
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
    """Write requests piece by piece, and open them.

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
        "due_ns": number,
        "ended": text,
        "ended_ns": number,
        "decode_ns": number,
    }
    rest = iter(generations)
    with _writing(path, types) as write:
        while piece := list(itertools.islice(rest, _PIECE)):
            write({name: [getattr(each, name) for each in piece] for name in types})
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
    with _writing(path, types) as write:
        for one in series:
            write(
                {
                    "source": [one.source.id] * len(one.raw),
                    "before_ns": one.before_ns,
                    "after_ns": one.after_ns,
                    "raw_int": [x if isinstance(x, int) else None for x in one.raw],
                    "raw_float": [x if isinstance(x, float) else None for x in one.raw],
                    "error": [one.errors.get(str(row)) for row in range(len(one.raw))],
                }
            )


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
            if not rows.num_rows:
                continue  # older versions wrote no columns here
            for name in rows["source"].unique().to_pylist():
                own = pyarrow.compute.equal(rows["source"], name)
                found.setdefault(name, []).append(rows.filter(own))
    return tuple(_filled(one, found.get(one.source.id, ())) for one in series)


def _filled(series: Series, tables: Sequence[pyarrow.Table]) -> Series:
    def column(name: str) -> list[Any]:
        return [value for table in tables for value in table[name].to_pylist()]

    both = zip(column("raw_int"), column("raw_float"), strict=True)
    return Series(
        source=series.source,
        before_ns=column("before_ns"),
        raw=[real if whole is None else whole for whole, real in both],
        after_ns=column("after_ns"),
        errors={str(n): text for n, text in enumerate(column("error")) if text is not None},
    )


@contextlib.contextmanager
def _writing(path: Path, types: Mapping[str, pyarrow.DataType]) -> Iterator[_Write]:
    """Make a file; what it yields writes the next rows, given by column."""
    import pyarrow
    from pyarrow.parquet import ParquetWriter

    schema = pyarrow.schema(types)
    leaves = {
        f"{name}.list.element" if pyarrow.types.is_list(kind) else name
        for name, kind in types.items()
    }
    steps = leaves.intersection(_STEPS)
    with (
        naming(path),
        ParquetWriter(
            path,
            schema,
            compression="zstd",
            use_dictionary=sorted(leaves - steps),
            column_encoding=dict.fromkeys(steps, "DELTA_BINARY_PACKED"),
        ) as writer,
    ):
        yield lambda columns: writer.write_table(pyarrow.table(columns, schema=schema))
