import math
from collections.abc import Iterator

import numpy as np
import pytest

from slm_energy.engines.base import Batch
from slm_energy.engines.decode import (
    PROBE_TOKEN,
    collect,
    difference,
    greedy,
    probe,
    probe_logits,
    require_close,
    require_numbers,
)
from slm_energy.errors import EngineError

EOS = 9


def batch(stop: str, rows: int = 2, new_tokens: int = 4) -> Batch:
    return Batch(prompts=((1, 2),) * rows, new_tokens=new_tokens, stop=stop)  # type: ignore[arg-type]


def steps(*columns: list[int]) -> Iterator[list[int]]:
    """A decoding loop that must not be advanced beyond these steps."""
    yield from columns
    raise AssertionError("advanced beyond the last token needed")


def test_fixed_passes_an_end_of_text_token():
    answers = collect(steps([1, EOS], [2, 3], [EOS, 4], [5, 6]), batch("fixed"), (EOS,))
    assert [answer.output_ids for answer in answers] == [(1, 2, EOS, 5), (EOS, 3, 4, 6)]


def test_eos_ends_each_request_at_its_own_token_and_counts_it():
    answers = collect(steps([1, EOS], [2, 3], [EOS, 4]), batch("eos"), (EOS, 8))
    assert [answer.output_ids for answer in answers] == [(1, 2, EOS), (EOS,)]


def test_eos_without_an_end_of_text_token_gives_the_full_length():
    answers = collect(steps([1, 1], [2, 2], [3, 3], [4, 4]), batch("eos"), (EOS,))
    assert [len(answer.output_ids) for answer in answers] == [4, 4]


def test_every_token_has_a_time_and_times_never_decrease():
    for answer in collect(steps([1, EOS], [2, 3], [EOS, 4]), batch("eos"), (EOS,)):
        assert len(answer.token_ns) == len(answer.output_ids)
        assert list(answer.token_ns) == sorted(answer.token_ns)


def test_the_first_nan_logit_is_named():
    with pytest.raises(EngineError, match="NaN logits at token 1 of request 2"):
        require_numbers([[0.0, 1.0, 2.0], [0.0, 1.0, math.nan], [math.nan, 0.0, 0.0]])


def test_infinite_logits_are_numbers():
    require_numbers([[math.inf, -math.inf]])


def test_the_probe_is_padded_and_stays_inside_the_vocabulary():
    prompts = probe(16).prompts
    assert len({len(prompt) for prompt in prompts}) == len(prompts) == 3
    assert all(0 < token < 16 for prompt in prompts for token in prompt)


def test_difference_is_relative_to_the_largest_logit():
    assert difference(np.array([1.0, -4.5]), np.array([1.0, -5.0])) == pytest.approx(0.1)


def test_difference_of_nan_is_an_error():
    with pytest.raises(EngineError, match="NaN logits"):
        difference(np.array([math.nan]), np.array([1.0]))


class Counting:
    """A session that chooses each token's successor, in one buffer that it reuses."""

    def __init__(self, *prompts: int, nan_after: int | None = None) -> None:
        self.logits = np.zeros((len(prompts), 12), np.float32)
        self.last, self.nan_after = np.array(prompts), nan_after

    def prefill(self) -> np.ndarray:
        return self.step(self.last)

    def step(self, ids: np.ndarray) -> np.ndarray:
        self.logits[:] = 0
        self.logits[np.arange(len(ids)), ids + 1] = 1
        if self.nan_after is not None:
            self.logits[ids == self.nan_after, 0] = math.nan
        return self.logits


def test_greedy_feeds_each_choice_back():
    answers = greedy(Counting(1, 5), batch("fixed", new_tokens=3), ())
    assert [answer.output_ids for answer in answers] == [(2, 3, 4), (6, 7, 8)]


def test_greedy_refuses_nan_even_where_it_ends_the_text():
    with pytest.raises(EngineError, match="NaN logits at token 1 of request 0"):
        greedy(Counting(1, 5, nan_after=2), batch("eos"), (0,))


def test_a_probed_session_may_reuse_its_buffer():
    first, second = probe_logits(Counting(5, 6), batch("fixed"))
    assert first.argmax(-1).tolist() == [6, 7]
    assert second.argmax(-1).tolist() == [PROBE_TOKEN + 1] * 2


def test_a_small_difference_is_returned_and_a_large_one_is_refused():
    exact = [np.array([1.0, 4.0]), np.array([2.0, 4.0])]
    near = [np.array([1.0, 4.0]), np.array([2.04, 4.0])]
    assert require_close(near, exact, "float16", "it") == pytest.approx(0.01)
    with pytest.raises(EngineError, match=r"the graph differs from torch by 1\.0e-02"):
        require_close(near, exact, "float32", "the graph")


def test_probe_of_the_bundled_vocabulary_is_padded():
    lengths = {len(prompt) for prompt in probe(4096).prompts}
    assert np.ptp(list(lengths)) > 0
