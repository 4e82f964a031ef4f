"""Reports to look at: a small one from trials, a wide one made by hand."""

import dataclasses
import itertools

import pandas as pd
import pytest

from slm_energy.analysis import build, options
from slm_energy.analysis.result.comparison import (
    Conventional,
    ConventionalPair,
    Family,
    Pair,
    Savings,
)
from slm_energy.analysis.result.design import Audit, Cell, Slot, TrialRow
from slm_energy.analysis.result.diagnostics import Descriptive, Point
from slm_energy.analysis.result.report import Report
from tests.analysis.conftest import make_study

HOSTILE = "</title><script>run()</script> [x](y) | \x1b[31m $\\input{z}$ \u202e"


@pytest.fixture(scope="session")
def report() -> Report:
    """Three measured cells and two estimated ones; names and a reason that would be markup."""
    measured = make_study({"torch/cpu": 0.03, "onnx/cpu": 0.012, "a_b & 50 %/cpu": 0.02})
    estimated = make_study({"torch/tpu": 0.2, "onnx/tpu": 0.1}, kind="energy_estimated")
    estimated["run_id"] = "e" + estimated["run_id"]
    for row, total in ((measured, "energy"), (estimated, "energy_estimated")):
        joules = row[f"{total}/per_output_token_j"] * 1000
        row["tokens/passes"] = 1 + row["round"] + 10 * (row["engine.name"] == "onnx")
        joules *= row["tokens/passes"]
        row[f"{total}/total_j"], row[f"{total}/load_total_j"] = joules, 0.3 * joules
    measured["energy/cpu_package_j"] = 0.9 * measured["energy/total_j"]
    measured["energy/dram_j"] = 0.1 * measured["energy/total_j"]
    measured["energy/psys_j"] = 1.5 * measured["energy/total_j"]
    frame = pd.concat([measured, estimated], ignore_index=True)
    frame.loc[0, ["outcome", "reason"]] = ["failed", HOSTILE]
    return build(frame, options({"study": f"<b>toy</b> {HOSTILE}"}))


def widened(report: Report, cells: int, rounds: int) -> Report:
    """The report with many cells of one family; figures are alike, for only their number counts."""
    ids = [f"c{i}" for i in range(cells)]
    names = [f"engine_{i} / provider_{i % 3} / batch={i}" for i in range(cells)]
    slots = [(cell, n) for cell in ids for n in range(1, rounds + 1)]
    made = tuple(
        Cell(id=cell, label=name, family="", levels={}, valid=rounds, rounds=rounds)
        for cell, name in zip(ids, names, strict=True)
    )
    pair = report.deciding[0].families[0].pairs[0]
    pairs = tuple(dataclasses.replace(pair, a=a, b=b) for a, b in itertools.combinations(ids, 2))
    return dataclasses.replace(
        report,
        cells=made,
        audit=Audit(
            rounds=tuple(range(1, rounds + 1)),
            complete_rounds=tuple(range(1, rounds + 1)),
            slots=tuple(Slot(cell=c, round=n, outcome="valid", reason="") for c, n in slots),
            outcomes={"valid": len(slots)},
        ),
        metrics=tuple(
            dataclasses.replace(
                result,
                descriptive=tuple(_described(cell, result.descriptive[0]) for cell in ids),
                diagnostics=dataclasses.replace(
                    result.diagnostics,
                    changed=(),
                    points=tuple(
                        _point(result.diagnostics.points[0], c, n, i)
                        for i, (c, n) in enumerate(slots)
                    ),
                ),
                families=(_family(result.families[0], ids, pairs),),
            )
            for result in report.metrics
            if not result.metric.estimated
        ),
        pareto=(),
        trials=tuple(
            TrialRow(run_id=f"{c}-{n}", cell=c, round=n, order=i, attempt=1, outcome="valid",
                     reason="", values=report.trials[1].values)
            for i, (c, n) in enumerate(slots)
        ),
    )  # fmt: skip


def _described(cell: str, row: Descriptive) -> Descriptive:
    return dataclasses.replace(row, cell=cell)


def _point(point: Point, cell: str, number: int, order: int) -> Point:
    changed = {"cell": cell, "round": number, "order": order, "value": 0.01 + order * 1e-5}
    return dataclasses.replace(point, **changed)


def _family(family: Family, ids: list[str], pairs: tuple[Pair, ...]) -> Family:
    k = len(ids)
    return dataclasses.replace(
        family,
        name="",
        ranked=tuple(ids),
        reference=ids[0],
        pairs=pairs,
        savings=Savings(
            cells=tuple(ids), saving_pct=((10.0,) * k,) * k, verdicts=(("saves",) * k,) * k
        ),
        conventional=family.conventional and _tested(family.conventional, ids, pairs),
        disagreements=(),
    )


def _tested(chain: Conventional, ids: list[str], pairs: tuple[Pair, ...]) -> Conventional:
    return dataclasses.replace(
        chain,
        cells=tuple(dataclasses.replace(chain.cells[0], cell=cell) for cell in ids),
        pairs=tuple(
            ConventionalPair(a=p.a, b=p.b, dunn_p=0.1, games_howell_p=0.1, conover_p=0.1)
            for p in pairs
        ),
    )
