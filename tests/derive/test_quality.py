from __future__ import annotations

import dataclasses

import pytest

from slm_energy.derive import quality
from slm_energy.record import Capture, Generation, Reference, ReferenceAnswer
from tests.captures import a_capture, a_generation, a_reference


def answering(*output_ids: tuple[int, ...], expected: tuple[int, ...]) -> Capture:
    """A first pass with these answers, and a reference that says the same to every prompt."""
    generations = [
        a_generation(f"t{n}", 0, 0, output_ids=ids, token_ns=tuple(range(len(ids))))
        for n, ids in enumerate(output_ids)
    ]
    return a_capture(
        generations=tuple(generations), reference=a_reference(generations, output_ids=expected)
    )


@pytest.mark.parametrize(
    ("a", "b", "at"),
    [
        ((1, 2, 3), (1, 2, 3), None),
        ((1, 2, 3), (1, 9, 3), 1),
        ((9, 2, 3), (1, 2, 3), 0),
        ((1, 2), (1, 2, 3), 2),
        ((1, 2, 3), (1, 2), 2),
        ((), (), None),
    ],
)
def test_the_first_difference_of_two_answers(
    a: tuple[int, ...], b: tuple[int, ...], at: int | None
) -> None:
    assert quality.first_difference(a, b) == at


def test_agreement_counts_prompts_and_agreeing_tokens_count_up_to_the_first_difference() -> None:
    capture = answering((1, 2, 3, 4), (1, 9, 3, 4), (1, 2, 3), expected=(1, 2, 3, 4))
    found = quality.agreements(capture)
    assert [each.differs_at for each in found] == [None, 1, 3]
    values = quality.metrics(found)
    assert values["quality/agreement"] == pytest.approx(1 / 3)
    assert values["quality/agreeing_tokens"] == pytest.approx((1 + 1 / 4 + 3 / 4) / 3)


def test_tokens_that_are_right_again_after_a_difference_do_not_count() -> None:
    [only] = quality.agreements(answering((9, 2, 3, 4), expected=(1, 2, 3, 4)))
    assert only.share == 0


def test_only_the_first_pass_is_compared() -> None:
    first, second = a_generation("a", 0, 0), a_generation("a", 1, 0, output_ids=(9, 9, 9, 9))
    capture = a_capture(generations=(first, second), reference=a_reference([first]))
    assert quality.metrics(quality.agreements(capture))["quality/agreement"] == 1


@pytest.mark.parametrize(
    "reference",
    [None, Reference(engine="torch", dtype="float32", provider="cpu", error="out of memory")],
)
def test_without_tokens_to_compare_with_there_is_no_figure(reference: Reference | None) -> None:
    assert quality.metrics(quality.agreements(a_capture(reference=reference))) == {}


def test_the_same_prompts_are_the_same_token_ids() -> None:
    capture = answering((1, 2), (3, 4), expected=(1, 2))
    assert quality.same_prompts(capture)[0] is True
    other = a_generation("t1", 0, 0, prompt_digest="another tokenizer's")
    mixed = dataclasses.replace(capture, generations=(capture.generations[0], other))
    passed, detail = quality.same_prompts(mixed)
    assert passed is False
    assert detail.startswith("t1: ")
    unasked = a_generation("t7", 0, 0)
    assert quality.same_prompts(dataclasses.replace(capture, generations=(unasked,)))[0] is False
    assert quality.same_prompts(a_capture())[0] is None


def test_prompts_that_differ_are_named_with_the_position() -> None:
    capture = answering((1, 2, 3), (1, 2, 9), expected=(1, 2, 3))
    passed, detail = quality.same_tokens(capture, 0)
    assert passed is False
    assert "1 of 2 prompts differ from engine torch, t1 from token 2 on" in detail
    assert "measurement.limits.divergence_pct=0" in detail
    assert quality.same_tokens(capture, 49)[0] is False
    assert quality.same_tokens(capture, 50)[0] is True


@pytest.mark.parametrize(
    ("changes", "word"), [({"dtype": "float16"}, "float16"), ({"provider": "cuda"}, "cuda")]
)
def test_what_was_computed_otherwise_is_told_and_not_held_against_a_trial(
    changes: dict[str, str], word: str
) -> None:
    capture = answering((1, 9), expected=(1, 2))
    assert capture.reference is not None
    other = dataclasses.replace(capture.reference, **changes)
    passed, detail = quality.same_tokens(dataclasses.replace(capture, reference=other), 0)
    assert passed is None
    assert "t0 from token 1 on" in detail
    assert detail.endswith(word)


def test_a_reference_that_failed_is_not_taken_for_agreement() -> None:
    failed = Reference(engine="torch", dtype="float32", provider="cpu", error="out of memory")
    passed, detail = quality.same_tokens(a_capture(reference=failed), 100)
    assert passed is False
    assert "engine torch failed: out of memory" in detail
    assert quality.same_tokens(a_capture(), 0)[0] is None


def test_answers_are_matched_by_prompt_not_by_place() -> None:
    one, two = (
        a_generation(name, 0, 0, output_ids=ids) for name, ids in (("x", (1,)), ("y", (2,)))
    )
    turned: list[Generation] = [two, one]
    answers = tuple(
        ReferenceAnswer(task_id=g.task_id, prompt_digest=g.prompt_digest, output_ids=g.output_ids)
        for g in turned
    )
    reference = Reference(engine="torch", dtype="float32", provider="cpu", answers=answers)
    found = quality.agreements(a_capture(generations=(one, two), reference=reference))
    assert [(each.task_id, each.differs_at) for each in found] == [("x", None), ("y", None)]
