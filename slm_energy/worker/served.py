"""Answers on their way from the engine to the record: appended to a file, read one by one.

So the memory of a trial does not grow with its passes. The worker appends each batch to
`SERVED_FILE` in microseconds per request; what all passes share is in `Served`, made after the
windows. The file holds 64-bit integers; for each batch

    start_ns, number of answers; for each answer:
    tokens, times, the server's time of decoding or -1, token ids ..., token times ...
"""

from __future__ import annotations

import dataclasses
import struct
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

from slm_energy.engines.base import Completion
from slm_energy.places import naming
from slm_energy.record import Ended, Generation

SERVED_FILE = "served.bin"
REQUESTS_FILE = "served.json"
BUFFER_BYTES = 1 << 20
"""Buffered before each write to disk: about a thousand answers of 64 tokens."""
_BYTES = 8
_UNTIMED = -1

Stop = Literal["length", "eos", "code"]


class Answer(NamedTuple):
    """An answer in the file: its batch's number and start, and see `Completion`."""

    batch: int
    start_ns: int
    output_ids: array[int]
    token_ns: array[int]
    decode_ns: int | None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """A prompt of the workload and its first answer; see `Generation` for the fields."""

    task_id: str
    prompt_digest: str
    input_tokens: int
    stop: Stop
    text: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LoadedRequest:
    """Which request an answer belongs to under load; see `Generation` for the fields."""

    position: int
    due_ns: int
    ended: Ended
    ended_ns: int


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Served:
    """What `SERVED_FILE` does not have.

    Attributes:
        requests: of one pass, in order.
        batches: into how many batches they are divided.
        passes: number of passes over them.
        stops: what ended answers of later passes whose tokens differ from the first pass's, by the
            answer's position in the file.
        loaded: under load, of each answer in the file, in order; None where batches were served.
    """

    requests: tuple[Request, ...]
    batches: int
    passes: int
    stops: dict[str, Stop] = dataclasses.field(default_factory=dict)
    loaded: tuple[LoadedRequest, ...] | None = None


def append(file: BinaryIO, start_ns: int, answers: Sequence[Completion]) -> None:
    """Write one batch.

    Raises:
        TypeError: a token id or time is not an integer.
        OSError: the disk is full.
    """
    numbers = [start_ns, len(answers)]
    for answer in answers:
        decode_ns = _UNTIMED if answer.decode_ns is None else answer.decode_ns
        numbers += (len(answer.output_ids), len(answer.token_ns), decode_ns)
        numbers += answer.output_ids
        numbers += answer.token_ns
    try:
        packed = struct.pack(f"{len(numbers)}q", *numbers)
    except struct.error as error:
        raise TypeError(f"a token id or time is not an integer: {error}") from None
    with naming(Path(file.name)):
        file.write(packed)


def answers(path: Path) -> Iterator[Answer]:
    """Read the answers of a file, in order.

    Raises:
        ValueError: the file ends within a batch.
    """
    batch = 0
    with path.open("rb", buffering=BUFFER_BYTES) as file:
        while head := file.read(2 * _BYTES):
            start_ns, count = array("q", head)
            for _ in range(count):
                tokens, times, timed = _read(file, 3)
                decode_ns = None if timed == _UNTIMED else timed
                yield Answer(batch, start_ns, _read(file, tokens), _read(file, times), decode_ns)
            batch += 1


def _read(file: BinaryIO, count: int) -> array[int]:
    data = file.read(count * _BYTES)
    if len(data) < count * _BYTES:
        raise ValueError(f"{file.name} ends within an answer")
    return array("q", data)


def generations(served: Served, path: Path) -> Iterator[Generation]:
    """Every request of the serve window, in order.

    Raises:
        ValueError: the file does not hold what was served.
    """
    if served.loaded is not None:
        yield from _loaded(served, served.loaded, path)
        return
    number = -1
    for number, answer in enumerate(answers(path)):
        pass_index, batch_index = divmod(answer.batch, served.batches)
        position = number % len(served.requests)
        yield _generation(served, number, position, pass_index, batch_index, answer)
    if number + 1 != len(served.requests) * served.passes:
        raise ValueError(f"{path} holds {number + 1} answers of {served.passes} passes")


def _loaded(served: Served, loaded: Sequence[LoadedRequest], path: Path) -> Iterator[Generation]:
    """Every request that was sent under load, by the time at which it was due.

    Its pass is the number of complete answers that its prompt had before; the first has the text.
    """
    complete = Counter[int]()
    for number, (each, answer) in enumerate(zip(loaded, answers(path), strict=True)):
        pass_index = complete[each.position]
        complete[each.position] += each.ended == "complete"
        made = _generation(served, number, each.position, pass_index, number, answer)
        yield dataclasses.replace(
            made,
            text=made.text if each.ended == "complete" else None,
            due_ns=each.due_ns,
            ended=each.ended,
            ended_ns=each.ended_ns,
        )


def _generation(
    served: Served,
    number: int,
    position: int,
    pass_index: int,
    batch_index: int,
    answer: Answer,
) -> Generation:
    """An answer of the file, by its number there, to the prompt at a position in the workload."""
    request = served.requests[position]
    return Generation(
        task_id=request.task_id,
        pass_index=pass_index,
        batch_index=batch_index,
        prompt_digest=request.prompt_digest,
        input_tokens=request.input_tokens,
        output_ids=tuple(answer.output_ids),
        start_ns=answer.start_ns,
        token_ns=tuple(answer.token_ns),
        decode_ns=answer.decode_ns,
        stop=served.stops.get(str(number), request.stop),
        text=request.text if pass_index == 0 else None,
    )
