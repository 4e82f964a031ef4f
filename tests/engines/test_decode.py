import math
from collections.abc import Iterator

import numpy as np
import pytest

from slm_energy.engines.base import Batch
from slm_energy.engines.decode import collect, difference, probe, require_numbers
from slm_energy.errors import EngineError

EOS = 9


def batch(stop: str, rows: int = 2, new_tokens: int = 4) -> Batch:
    return Batch(prompts=((1, 2),) * rows, new_tokens=new_tokens, stop=stop)  # type: ignore[arg-type]


def steps(*columns: list[int]) -> Iterator[list[int]]:
    """A session loop that must not be asked for more than these."""
    yield from columns
    raise AssertionError("asked for a token that nobody wants")


def test_fixed_passes_an_end_of_text_token():
    answers = collect(steps([1, EOS], [2, 3], [EOS, 4], [5, 6]), batch("fixed"), (EOS,))
    assert [answer.output_ids for answer in answers] == [(1, 2, EOS, 5), (EOS, 3, 4, 6)]


def test_eos_ends_each_request_at_its_own_token_and_counts_it():
    answers = collect(steps([1, EOS], [2, 3], [EOS, 4]), batch("eos"), (EOS, 8))
    assert [answer.output_ids for answer in answers] == [(1, 2, EOS), (EOS,)]


def test_eos_without_an_end_of_text_token_gives_the_full_length():
    answers = collect(steps([1, 1], [2, 2], [3, 3], [4, 4]), batch("eos"), (EOS,))
    assert [len(answer.output_ids) for answer in answers] == [4, 4]


def test_every_token_has_a_stamp_and_stamps_never_fall():
    for answer in collect(steps([1, EOS], [2, 3], [EOS, 4]), batch("eos"), (EOS,)):
        assert len(answer.token_ns) == len(answer.output_ids)
        assert list(answer.token_ns) == sorted(answer.token_ns)


def test_nan_logits_are_named_by_their_first_place():
    with pytest.raises(EngineError, match="NaN logits at token 1 of request 2"):
        require_numbers([[0.0, 1.0, 2.0], [0.0, 1.0, math.nan], [math.nan, 0.0, 0.0]])


def test_infinite_logits_are_numbers():
    require_numbers([[math.inf, -math.inf]])


def test_the_probe_is_padded_and_stays_inside_the_vocabulary():
    prompts = probe(16).prompts
    assert len({len(prompt) for prompt in prompts}) == 2
    assert all(0 < token < 16 for prompt in prompts for token in prompt)


def test_difference_is_relative_to_the_largest_logit():
    assert difference(np.array([1.0, -4.5]), np.array([1.0, -5.0])) == pytest.approx(0.1)


def test_difference_of_nan_is_an_error():
    with pytest.raises(EngineError, match="NaN logits"):
        difference(np.array([math.nan]), np.array([1.0]))
