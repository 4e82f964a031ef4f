"""When requests come, decided before the first is sent: equal for every engine in a round.

constant   equal gaps of 1 / rate
poisson    exponential gaps: independent users
gamma      gaps of shape `burstiness` and mean 1 / rate; their squared coefficient of variation is
           1 / burstiness
trace      the times of a file
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import itertools
import math
import random
from collections.abc import Iterator
from pathlib import Path

from slm_energy.config.groups import LoadConfig
from slm_energy.errors import WorkloadError

_COLUMNS = ("arrived_s", "output_tokens", "input_tokens", "abort_after_s")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Arrival:
    """One request.

    Attributes:
        at_s: seconds after the first moment of the load.
        output_tokens: tokens to generate; None takes `workload.new_tokens`.
        input_tokens: the prompt whose length is closest to this is sent; None takes the next one.
        abort_after_s: it is aborted after this time; None never is.
    """

    at_s: float
    output_tokens: int | None = None
    input_tokens: int | None = None
    abort_after_s: float | None = None


def arrivals(load: LoadConfig, round_number: int) -> Iterator[Arrival]:
    """The requests of an open loop, in order of time; endless but for a trace.

    Args:
        load: rate and distribution, or a trace.
        round_number: the round of the trial: each has other arrivals.

    Raises:
        WorkloadError: the trace cannot be read.
    """
    if load.trace is not None:
        yield from read_trace(Path(load.trace))
        return
    assert load.rate is not None
    mean_s, shape = 1 / load.rate, load.burstiness if load.arrivals == "gamma" else 1.0
    chance = random.Random(f"{load.seed} {round_number}")
    at_s = 0.0
    for number in itertools.count(1):
        if load.arrivals == "constant":
            at_s = number * mean_s  # sums of gaps would drift
        else:
            at_s += chance.gammavariate(shape, mean_s / shape)
        yield Arrival(at_s=at_s, abort_after_s=load.abort_after_s)


def trace_digest(load: LoadConfig) -> str:
    """Identify the content of a load's trace; empty where it has none.

    Raises:
        WorkloadError: the trace cannot be read.
    """
    if load.mode != "open" or load.trace is None:
        return ""
    text = repr(read_trace(Path(load.trace)))
    return hashlib.sha256(text.encode()).hexdigest()


def read_trace(path: Path) -> tuple[Arrival, ...]:
    """Read a trace.

    Raises:
        WorkloadError: it cannot be read, or a line has no valid time or number; it says which.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            names = reader.fieldnames or []
            if unknown := sorted(set(names) - set(_COLUMNS)):
                known = ", ".join(_COLUMNS)
                raise WorkloadError(
                    f"load.trace={path}: no such column {unknown[0]!r}; known: {known}"
                )
            if "arrived_s" not in names:
                raise WorkloadError(f"load.trace={path}: it has no column arrived_s")
            found = [(reader.line_num, _arrival(path, reader.line_num, row)) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise WorkloadError(f"load.trace={path} cannot be read: {error}") from error
    if not found:
        raise WorkloadError(f"load.trace={path} has no request")
    for (_, before), (line, after) in itertools.pairwise(found):
        if after.at_s < before.at_s:
            raise WorkloadError(
                f"load.trace={path}, line {line}: arrived_s={after.at_s:g} is before the line"
                " above: sort the file by arrived_s"
            )
    return tuple(arrival for _, arrival in found)


def _arrival(path: Path, line: int, row: dict[str, str]) -> Arrival:
    def number(name: str, lowest: float, whole: bool = False) -> float | None:
        text = (row.get(name) or "").strip()
        if not text and name != "arrived_s":
            return None
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and value >= lowest) or (whole and value % 1):
            kind = "whole number" if whole else "number"
            raise WorkloadError(
                f"load.trace={path}, line {line}: {name}={text!r} is not a {kind} of at least"
                f" {lowest:g}"
            )
        return value

    if len(row) > len(row.keys() & set(_COLUMNS)):
        raise WorkloadError(f"load.trace={path}, line {line}: more values than there are columns")
    at_s = number("arrived_s", 0)
    assert at_s is not None
    output, given = number("output_tokens", 1, True), number("input_tokens", 1, True)
    return Arrival(
        at_s=at_s,
        output_tokens=None if output is None else int(output),
        input_tokens=None if given is None else int(given),
        abort_after_s=number("abort_after_s", 0.001),
    )
