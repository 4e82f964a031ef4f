"""Did a trial generate what the reference engine generated? Pure.

Only the first pass is compared: a check of its own holds the others against it. Without the
reference's tokens nothing is known: no metric then, and neither 0 nor 1.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from statistics import fmean

from slm_energy.record import Capture


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Agreement:
    """One prompt's tokens beside the reference's.

    Attributes:
        task_id: which prompt.
        differs_at: position of the first token that differs, from 0; None if all are equal.
        tokens: length of the longer answer.
    """

    task_id: str
    differs_at: int | None
    tokens: int

    @property
    def share(self) -> float:
        """Share of the tokens that come before the first difference."""
        return 1.0 if self.differs_at is None else self.differs_at / self.tokens


def first_difference(a: Sequence[int], b: Sequence[int]) -> int | None:
    """Position of the first token that differs, from 0; None if the two are equal.

    Where one only goes on longer, that is the first position that the other does not have.
    """
    if a == b:
        return None
    pairs = enumerate(zip(a, b, strict=False))
    return next((at for at, (x, y) in pairs if x != y), min(len(a), len(b)))


def agreements(capture: Capture) -> tuple[Agreement, ...]:
    """Every prompt that the reference answered too, in the order of the first pass."""
    if capture.reference is None:
        return ()
    expected = {answer.task_id: answer.output_ids for answer in capture.reference.answers}
    return tuple(
        Agreement(
            task_id=g.task_id,
            differs_at=first_difference(g.output_ids, expected[g.task_id]),
            tokens=max(len(g.output_ids), len(expected[g.task_id])),
        )
        for g in capture.generations
        if g.pass_index == 0 and g.task_id in expected and g.ended == "complete"
    )


def metrics(found: Sequence[Agreement]) -> dict[str, float]:
    """Share of prompts answered alike, and mean share of tokens before the first difference."""
    if not found:
        return {}
    return {
        "quality/agreement": fmean(each.differs_at is None for each in found),
        "quality/agreeing_tokens": fmean(each.share for each in found),
    }


def same_prompts(capture: Capture) -> tuple[bool | None, str]:
    """Tell whether every request had the token ids that the reference was given, and the details.

    All cells of a model and workload share one reference, so what equals it is equal in all.
    """
    if capture.reference is None or capture.reference.error is not None:
        return None, "there is no reference"
    expected = {answer.task_id: answer.prompt_digest for answer in capture.reference.answers}
    for g in capture.generations:
        if g.prompt_digest != expected.get(g.task_id):
            return False, f"{g.task_id}: its token ids are not those that the reference was given"
    return True, f"{len(expected)} prompts with the token ids that the reference was given"


def same_tokens(capture: Capture, divergence_pct: float) -> tuple[bool | None, str]:
    """Tell whether few enough prompts were answered with other tokens, and the details.

    That is asked only where equal tokens can be expected: where the reference computed in the same
    type on the same provider. In float32 each difference has a cause to look for; in 16 bits two
    kernels that add in another order may part at a near tie, and `divergence_pct` says how often
    they may. What quantization changes is a result of the study: a metric, and nothing to warn of.

    Args:
        capture: what was generated, and the reference.
        divergence_pct: largest share of prompts, in per cent, that may differ.
    """
    reference, found = capture.reference, agreements(capture)
    if reference is None:
        return None, "study.reference is null: nothing is compared"
    if reference.error is not None:
        return False, f"agreement is unknown: engine {reference.engine} failed: {reference.error}"
    apart = [each for each in found if each.differs_at is not None]
    words = f"{len(apart)} of {len(found)} prompts differ from engine {reference.engine}"
    if apart:
        words += f", {apart[0].task_id} from token {apart[0].differs_at} on"
    if reference.dtype != capture.effective.get("dtype"):
        return None, f"{words}, which computed in {reference.dtype}"
    if reference.dtype == "stored":
        return None, f"{words}; libraries multiply stored weights in types of their own"
    if reference.provider != capture.effective.get("provider"):
        return None, f"{words}, which computed on {reference.provider}"
    if 100 * len(apart) > divergence_pct * len(found):
        return False, f"{words}; measurement.limits.divergence_pct={divergence_pct:g} allows less"
    return True, words
