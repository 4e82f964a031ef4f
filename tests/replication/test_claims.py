"""What becomes of the verdicts of a study in the same plan run elsewhere."""

from __future__ import annotations

import pytest

from slm_energy import analysis
from slm_energy.analysis.result.report import Report
from slm_energy.replication.claims import Claim, claims
from tests.analysis.conftest import make_study

CLAIMED = {"torch/cpu": 2.0, "onnx/cpu": 1.0, "openvino/cpu": 1.0}
ENERGY = ["energy/per_output_token_j"]


def report(costs: dict[str, float], **keys: float) -> Report:
    frame = make_study(costs, 8, **keys)
    return analysis.build(frame, analysis.options({"study": "toy", "metrics": ENERGY}))


def against(again: Report | None, **reasons: str) -> tuple[Claim, ...]:
    """What becomes of each claim: one of two equal cells against the other, and against torch."""
    study = report(CLAIMED, noise=0.001)
    return claims(study, again, {cell.id: cell.id for cell in study.cells}, reasons)


def test_the_same_figures_are_reproduced() -> None:
    found = against(report(CLAIMED, noise=0.001, seed=5))
    assert [each.answer for each in found] == ["reproduced"] * 2


@pytest.mark.parametrize(
    ("costs", "noise", "answer"),
    [
        ({"torch/cpu": 3.0, "onnx/cpu": 1.0, "openvino/cpu": 1.0}, 0.001, "same direction"),
        ({"torch/cpu": 0.5, "onnx/cpu": 1.0, "openvino/cpu": 1.0}, 0.001, "contradicted"),
        ({"torch/cpu": 1.0, "onnx/cpu": 1.0, "openvino/cpu": 1.0}, 0.001, "contradicted"),
        ({"torch/cpu": 1.1, "onnx/cpu": 1.0, "openvino/cpu": 1.0}, 0.5, "not settled"),
    ],
    ids=["larger", "the other way round", "equal", "noisy"],
)
def test_another_figure_for_one_cell(costs: dict[str, float], noise: float, answer: str) -> None:
    found = against(report(costs, noise=noise))
    about_torch = [each for each in found if "torch" in each.claimed]
    assert {each.answer for each in about_torch} == {answer}
    assert all(each.sentence.endswith(".") for each in about_torch)


def test_what_could_not_run_says_why() -> None:
    again = report({"torch/cpu": 2.0, "onnx/cpu": 1.0}, noise=0.001)
    found = against(again, **{"openvino-cpu": "unsupported: openvino is not installed"})
    missing = [each for each in found if each.answer == "not here"]
    assert missing
    assert all("openvino is not installed" in each.sentence for each in missing)
    assert {each.answer for each in against(None)} == {"not here"}
