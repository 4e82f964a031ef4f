"""Cells of several machines in one report: what is compared, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from slm_energy.analysis import build, options
from slm_energy.analysis.render.markdown import to_markdown
from slm_energy.analysis.result.report import Report
from slm_energy.errors import AnalysisError
from slm_energy.scope import Scope
from tests.analysis.conftest import GPU_ONLY, WHOLE, WITHOUT_GPU, make_study, with_scope

ENERGY = "energy/per_output_token"
SERVER = {"torch/cpu": 0.030, "onnx/cpu": 0.020}
BOX = {"torch/cuda": 0.010, "onnx/cpu": 0.019}


def trials(
    machine: str, costs: dict[str, float], scope: Scope | None, gain: float = 0.05, **keys: Any
) -> pd.DataFrame:
    """Trials of a machine whose sensors' gain is known within a share; NaN is not known."""
    rows = with_scope(make_study(costs, machine=machine, **keys), scope)
    joules = rows.get(f"{ENERGY}_j", pd.Series(np.nan, rows.index))
    return rows.assign(
        run_id=machine + rows["run_id"],
        **{f"{ENERGY}_low_with_gain_j": joules * (1 - gain)},
        **{f"{ENERGY}_high_with_gain_j": joules * (1 + gain)},
    )


def report(*frames: pd.DataFrame, **keys: Any) -> Report:
    asked = {"study": "toy", "machine": "server,box", "metrics": [f"{ENERGY}_j"]} | keys
    return build(pd.concat(frames, ignore_index=True), options(asked))


@pytest.fixture(scope="module")
def both() -> Report:
    return report(
        trials("server", SERVER, WITHOUT_GPU),
        trials("box", BOX, WHOLE, seed=2),
        metrics=[f"{ENERGY}_j", "latency/e2e_p50_s"],
    )


def test_cells_are_named_by_their_machine_and_its_sensors_are_stated(both: Report) -> None:
    assert {"box / torch / cuda", "box / onnx / cpu", "server / onnx / cpu"} < {
        *both.labels.values()
    }
    assert both.scope == (
        "server: processor package and DRAM of 1 socket; box: processor package and DRAM of 1"
        " socket, 1 GPU (NVIDIA H100)"
    )
    assert (both.machine, both.audit.rounds) == ("server and box", tuple(range(1, 11)))
    assert both.audit.complete_rounds == both.audit.rounds


def test_machines_are_compared_with_the_gain_of_their_sensors(both: Report) -> None:
    energy, latency = both.across
    best, same = energy.pairs
    assert (both.labels[best.a], both.labels[best.b]) == (
        "box / torch / cuda",
        "server / onnx / cpu",
    )
    assert best.ratio == pytest.approx(0.5, rel=0.05)
    assert best.verdict == "saves"
    gain = (1 + 0.05) / (1 - 0.05)
    assert best.joint_wide_low == pytest.approx(best.joint_low / gain, rel=1e-3)
    assert best.joint_wide_high == pytest.approx(best.joint_high * gain, rel=1e-3)
    # 5 % less, of sensors that may be 11 % apart.
    assert same.verdict == "below the instrument's resolution"
    assert latency.pairs[1].joint_wide_low == latency.pairs[1].joint_low
    assert (
        to_markdown(both)
        .splitlines()[2]
        .startswith("**box against server: box / torch / cuda costs")
    )


def test_within_a_machine_the_verdicts_are_those_of_its_own_report(both: Report) -> None:
    alone = build(trials("server", SERVER, WITHOUT_GPU), options({"study": "toy"}))
    [family] = alone.metrics[0].families
    [own] = [f for f in both.metrics[0].families if f.name == "server"]
    assert [pair.ratio for pair in own.pairs] == [pair.ratio for pair in family.pairs]
    assert [pair.verdict for pair in own.pairs] == [pair.verdict for pair in family.pairs]


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        (
            trials("box", {"torch/cuda": 0.01}, GPU_ONLY),
            "box that of: GPU only: 1 GPU (NVIDIA H100); processors and memory not",
        ),
        (trials("box", BOX, None), "box has the energy of: unknown parts"),
        (trials("box", BOX, WHOLE, gain=np.nan), "the gain of the sensors is not known"),
        (
            trials("box", BOX, None, kind="energy_estimated"),
            "measured on server and estimated on box",
        ),
    ],
    ids=["GPU only", "an unknown scope", "no gain", "an estimate"],
)
def test_what_would_mislead_has_a_reason_and_no_ratio(second: pd.DataFrame, reason: str) -> None:
    result = report(trials("server", SERVER, WITHOUT_GPU), second)
    [found] = result.across
    assert found.pairs == ()
    assert reason in found.reason
    assert any("no ratio" in line for line in result.findings)


def test_two_estimates_have_no_ratio() -> None:
    frames = [trials(name, BOX, None, kind="energy_estimated") for name in ("server", "box")]
    [found] = report(*frames).across
    assert "the error of an estimate is not known" in found.reason


@pytest.mark.parametrize(
    ("machine", "line"),
    [
        ("server,lab-9", "machine=lab-9: study=toy has no trial of it; it has: box, server"),
        ("box,box", "machine=box: study=toy is named twice"),
        (None, "machine=box, or compare them with slm-energy report machine=box,server"),
    ],
    ids=["unknown", "twice", "none"],
)
def test_machines_are_named_once_and_exist(machine: str | None, line: str) -> None:
    frames = [trials("server", SERVER, WITHOUT_GPU), trials("box", BOX, WHOLE)]
    with pytest.raises(AnalysisError, match=line):
        report(*frames, machine=machine)
