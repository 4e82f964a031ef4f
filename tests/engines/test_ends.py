"""Where a request ends, by its tokens alone."""

from __future__ import annotations

import pytest

from slm_energy.engines.base import Batch
from slm_energy.engines.ends import Ends, cut

EOS = 9
TEXTS = {0: "x", 1: "\n", 2: "def", 3: " ", 4: ")\n", 5: "\ufffd", 6: "\n\ndef f", 7: "de", EOS: ""}
"""Token 5 is a part of a character."""


def ends(*answers: list[int], stops: tuple[str, ...] = ("\ndef ", "\n@")) -> list[int]:
    """Tokens of each answer up to its end; the answers are decoded together."""
    batch = Batch(
        prompts=((0,),) * len(answers),
        new_tokens=len(answers[0]),
        stop="code",
        stop_texts=(stops,) * len(answers),
        token_texts=TEXTS,
    )
    each = Ends(batch, (EOS,))
    for column in zip(*answers, strict=True):
        if each.after(column):
            break
    return each.lengths


@pytest.mark.parametrize(
    ("answer", "length"),
    [
        ([0, 1, 2, 3, 0, 0], 4),  # the stop text is several tokens
        ([0, 4, 2, 3, 0, 0], 4),  # its first character ends a token
        ([0, 6, 0, 3, 0, 0], 2),  # it is in the middle of a token
        ([5, 1, 2, 3, 5, 0], 4),  # parts of characters around it
        ([1, 7, 1, 2, 3, 0], 5),  # it began in vain before
        ([0, 2, 3, EOS, 0, 0], 4),  # an end-of-text token ends code, too
        ([2, 3, 0, 2, 3, 0], 6),  # never
    ],
)
def test_code_ends_with_the_token_that_completes_a_stop_text(
    answer: list[int], length: int
) -> None:
    assert ends(answer) == [length]


def test_each_request_of_a_batch_ends_by_itself() -> None:
    assert ends([0, 1, 2, 3, 1], [EOS, 1, 2, 3, 1], [0, 0, 0, 0, 0]) == [4, 1, 5]


def test_a_request_without_stop_texts_ends_as_with_eos() -> None:
    assert ends([1, 2, 3, EOS, 0], stops=()) == [4]


def test_every_request_needs_its_stop_texts() -> None:
    with pytest.raises(ValueError, match="the stop texts of each prompt"):
        Batch(prompts=((1,), (2,)), new_tokens=1, stop="code", stop_texts=(("\n",),))


def test_a_text_is_cut_before_the_first_of_its_stop_texts() -> None:
    assert cut("a\n@b\ndef c", ("\ndef ", "\n@")) == "a"
    assert cut("a\ndef", ("\ndef ",)) is None
    assert cut("", ()) is None
