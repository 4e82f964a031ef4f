from __future__ import annotations

import itertools
import time
from collections.abc import Iterable

import pytest

from slm_energy.engines.base import Batch, Completion, LoadRequest
from slm_energy.serialization import Json
from slm_energy.worker.warmup import steady, warm_up

FLAT = [100] * 12
NOISY = [100, 103, 98, 101, 99, 102, 97, 100]
WARMING = [400, 300, 240, 200, 170, 150, 135, 124]
SETTLED = [*WARMING, 101, 100, 99, 100, 101, 100, 100, 99]
SLOWING = [100, 100, 100, 100, 120, 130, 140, 150]
ALTERNATING = [100, 200] * 4
LONG_CYCLE = [100, 100, 100, 100, 200, 200, 200, 200]
ONE_SPIKE = [100, 100, 100, 100, 100, 900, 100, 100]


@pytest.mark.parametrize("series", [FLAT, NOISY, SETTLED, ONE_SPIKE, ALTERNATING])
def test_a_series_that_has_settled(series: list[int]) -> None:
    assert steady(series)


@pytest.mark.parametrize("series", [WARMING, SLOWING, LONG_CYCLE, FLAT[:7], []])
def test_a_series_that_has_not_or_is_too_short_to_tell(series: list[int]) -> None:
    assert not steady(series)


class Paced:
    """An engine whose decoding steps take the given times."""

    def __init__(self, steps_ns: Iterable[int]) -> None:
        self._steps_ns = iter(steps_ns)
        self.served: list[Batch] = []

    def load(self, target: LoadRequest) -> dict[str, Json]:
        raise AssertionError("it is loaded")

    def generate(self, batch: Batch) -> list[Completion]:
        self.served.append(batch)
        step_ns, now = next(self._steps_ns), time.monotonic_ns()
        stamps = tuple(now + n * step_ns for n in range(batch.new_tokens))
        return [
            Completion(output_ids=(1,) * batch.new_tokens, token_ns=stamps) for _ in batch.prompts
        ]

    def close(self) -> None:
        pass


def batches(count: int, *, size: int = 1, new_tokens: int = 8) -> list[Batch]:
    prompts = [((number,),) * size for number in range(count)]
    return [Batch(prompts=each, new_tokens=new_tokens, stop="fixed") for each in prompts]


def test_it_ends_when_the_pace_is_steady_and_goes_round_the_workload_for_that() -> None:
    engine = Paced(itertools.chain(WARMING, itertools.repeat(100)))
    found = warm_up(engine, batches(3), requests=2, at_most_s=60, progress=lambda share: None)
    assert found.steady
    assert found.paces_ns[: len(WARMING)] == tuple(WARMING)
    assert [batch.prompts[0][0] for batch in engine.served[:4]] == [0, 1, 2, 0]


def test_it_serves_at_least_the_requests_asked_for() -> None:
    engine = Paced(itertools.repeat(100))
    found = warm_up(
        engine, batches(3, size=2), requests=30, at_most_s=60, progress=lambda share: None
    )
    assert len(found.paces_ns) == 15


def test_its_cap_ends_it_and_that_is_told() -> None:
    engine = Paced(100 * (n + 1) for n in range(100))
    found = warm_up(engine, batches(3), requests=4, at_most_s=0, progress=lambda share: None)
    assert len(found.paces_ns) == 4
    assert not found.steady


def test_with_one_token_per_answer_the_pace_is_the_time_to_it() -> None:
    engine = Paced(itertools.repeat(100))
    found = warm_up(
        engine, batches(1, new_tokens=1), requests=1, at_most_s=0, progress=lambda share: None
    )
    assert found.paces_ns[0] >= 1
