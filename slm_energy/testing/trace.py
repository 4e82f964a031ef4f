"""Recorded readings in a compact file, to replay without the device.

    save(read_samples(folder / "samples.jsonl")[0], Path("h100.jsonl.gz"), note="H100, decoding")
    for series in load(Path("h100.jsonl.gz")):
        figure = account(series, window, max_gap_ns=10**9)

The file is gzipped JSON lines: {"trace": 1, "note": ...}, then one line per source with its
columns. Integers are stored as differences to the previous one, which compress well without loss.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

from slm_energy.errors import MeterError
from slm_energy.record import Series, Source
from slm_energy.serialization import from_plain, to_plain
from slm_energy.testing.scenes import PJ_PER_UNIT
from slm_energy.testing.waveform import Waveform

SCHEMA = 1

_MW_PER_UNIT = {"uW": Fraction(1, 1000), "mW": Fraction(1), "W": Fraction(1000)}

Number = int | float | None


def save(series: Sequence[Series], path: Path, *, note: str = "") -> None:
    """Write a trace.

    Args:
        series: the readings.
        path: usually ends with `.jsonl.gz`.
        note: origin of the readings.

    Raises:
        ValueError: a value is NaN or infinite.
    """
    lines = [{"trace": SCHEMA, "note": note}, *map(_packed, series)]
    text = "".join(
        json.dumps(line, allow_nan=False, separators=(",", ":")) + "\n" for line in lines
    )
    # Without a time stamp in the header, the same readings give the same file.
    path.write_bytes(gzip.compress(text.encode(), mtime=0))


def load(path: Path) -> tuple[Series, ...]:
    """Read a trace that `save` wrote.

    Raises:
        MeterError: the file is missing, is not a trace, or has another schema.
    """
    try:
        head, *lines = map(json.loads, gzip.decompress(path.read_bytes()).splitlines())
        if head["trace"] != SCHEMA:
            raise MeterError(
                f"{path} has schema {head['trace']} and this version reads {SCHEMA}:"
                " use the version of slm_energy that wrote it"
            )
        return tuple(_unpacked(line) for line in lines)
    except (OSError, EOFError, zlib.error, ValueError, TypeError, KeyError) as error:
        raise MeterError(f"{path} cannot be read as a trace: {error}") from error


def waveform_of(series: Series) -> Waveform:
    """Power curve of a recorded source, to drive a fake.

    It begins at the first reading and repeats after the last. To play it from now on, use
    `dataclasses.replace(waveform, start_ns=time.monotonic_ns())`.

    Args:
        series: of a counter, an estimate or a power source. A counter gives the mean power between
            its ticks. A power value holds until the next one; averaging by the sensor is not
            undone.

    Returns:
        A waveform; between two ticks its energy equals the counter's within half a mW times the
        longest step.

    Raises:
        MeterError: the source is a gauge, fewer than two readings are good, or the counter goes
            back without a modulus.
    """
    columns = zip(series.before_ns, series.raw, strict=True)
    points = [(time_ns, Fraction(raw)) for time_ns, raw in columns if raw is not None]
    unit = series.source.unit
    if unit in _MW_PER_UNIT:
        steps = [
            (end_ns - start_ns, round(raw * _MW_PER_UNIT[unit]))
            for (start_ns, raw), (end_ns, _) in pairwise(points)
        ]
    elif unit in PJ_PER_UNIT:
        steps = _slopes(series.source, points)
    else:
        raise MeterError(f"{series.source.id} is in {unit}: no power can be taken from it")
    steps = [(length_ns, power_mw) for length_ns, power_mw in steps if length_ns > 0]
    if not steps:
        raise MeterError(f"{series.source.id} has fewer than two good readings: record for longer")
    return Waveform(steps=tuple(steps), start_ns=points[0][0])


def _slopes(source: Source, points: Sequence[tuple[int, Fraction]]) -> list[tuple[int, int]]:
    """Length and mean power between the ticks of a counter."""
    # Equal values are one tick; the last reading stays, so that the end of the trace is kept.
    ticks = [point for one, point in pairwise(points) if point[1] != one[1]]
    steps, owed = list[tuple[int, int]](), Fraction(0)
    for (start_ns, one), (end_ns, other) in pairwise([*points[:1], *ticks, *points[-1:]]):
        counted = (other - one) % source.modulus if source.modulus else other - one
        if counted < 0:
            raise MeterError(f"{source.id} goes back at {end_ns} ns: cut the trace there")
        # The remainder of rounding to whole mW is carried into the next step.
        owed += counted * PJ_PER_UNIT[source.unit]
        power_mw = max(0, round(owed / (end_ns - start_ns))) if end_ns > start_ns else 0
        owed -= power_mw * (end_ns - start_ns)
        steps.append((end_ns - start_ns, power_mw))
    return steps


def _packed(series: Series) -> dict[str, Any]:
    spans = zip(series.before_ns, series.after_ns, strict=True)
    return {
        "source": to_plain(series.source),
        "before_ns": _differences(series.before_ns),
        "took_ns": [after - before for before, after in spans],
        "raw": _differences(series.raw),
        "errors": series.errors,
    }


def _unpacked(line: dict[str, Any]) -> Series:
    before_ns = tuple(_sums(line["before_ns"]))
    return Series(
        source=from_plain(Source, line["source"]),
        before_ns=before_ns,
        raw=tuple(_sums(line["raw"])),
        after_ns=tuple(b + took for b, took in zip(before_ns, line["took_ns"], strict=True)),
        errors=line["errors"],
    )


def _differences(values: Iterable[Number]) -> list[Number]:
    """Integers as differences to the previous integer; None and floats unchanged."""
    last, packed = 0, list[Number]()
    for value in values:
        if isinstance(value, int):
            packed.append(value - last)
            last = value
        else:
            packed.append(value)
    return packed


def _sums(packed: Iterable[Number]) -> list[Any]:
    last, values = 0, list[Number]()
    for value in packed:
        if isinstance(value, int):
            last += value
            values.append(last)
        else:
            values.append(value)
    return values
