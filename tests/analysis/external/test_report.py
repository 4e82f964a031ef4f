"""The figures of arXiv 2412.15441, and small tables: what follows from data measured elsewhere."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scikit_posthocs
from scipy import stats

from slm_energy.analysis import external
from slm_energy.analysis.render import summary_tables
from slm_energy.analysis.render.external_tables import grids
from slm_energy.analysis.render.html import to_html
from slm_energy.analysis.render.markdown import to_markdown
from slm_energy.analysis.stats import max_t, paired
from slm_energy.config.compose import compose
from tests.conftest import Command, refusal

DATA = Path(__file__).parents[2] / "data"
MEDIANS, SERIES = DATA / "paper_medians.csv", DATA / "paper_series.csv"


@functools.cache
def analysed(path: Path, *words: str) -> external.ExternalReport:
    asked = compose("analysis", ["study=null", f"data={path}", *words], keys=["study"])
    del asked["tracking"], asked["out"]
    return external.analyse(asked)


def test_savings_over_models_are_those_of_the_authors() -> None:
    found = {
        (each.metric.name, each.group): each
        for each in analysed(MEDIANS, "columns=paper_medians").ranges
    }
    cuda, cpu = found["energy/total_j", "CUDA"], found["energy/total_j", "CPU"]
    assert (cuda.families, cpu.families) == (12, 12)
    assert (round(cuda.least_pct, 2), round(cuda.largest_pct, 2)) == (37.99, 89.16)
    assert (round(cpu.least_pct, 2), round(cpu.largest_pct, 2)) == (8.91, 72.04)
    assert (cpu.least_in, cpu.largest_in) == ("stablecode-3b-completion", "stablecode-3b")
    assert round(found["time/serve_s", "CUDA"].largest_pct, 2) == 89.74


def test_the_page_says_whose_data_it_is_and_has_the_claims() -> None:
    found = analysed(MEDIANS, "columns=paper_medians")
    page = to_html(found.report, more=grids(found))
    assert "data from paper_medians.csv" in page
    assert "energy measured" not in page
    assert "What the authors say, and what follows from this table" in page


CLAIMS = {
    "With CUDA, TORCH saves against ONNX, at least": ("yes", "37.99 % (stablecode-3b)"),
    "With CUDA, TORCH saves against ONNX, at most": ("yes", "89.16 % (bloomz-1b1)"),
    "TORCH with CUDA uses the least energy of all configurations": ("yes", "so in 12 of 12"),
    "TORCH with CUDA saves against every other configuration, at least": ("yes", "37.99 %"),
    "TORCH with CUDA saves against every other configuration, at most": ("no", "90.87 %"),
    "With CPU, the best engine saves against the worst, at least": ("no", "8.91 %"),
    "With CPU, the best engine saves against the worst, at most": ("yes", "by OV"),
    "With CPU, ONNX saves against the worst engine, at least": ("no", "-15.32 % (bloomz-1b1)"),
    "With CPU, ONNX saves against the worst engine, at most": ("no", "62.90 %"),
    "With CPU, ONNX uses the least energy": ("no", "so in 7 of 12, not in bloomz-1b1, codeparrot"),
    "Every CUDA configuration uses less energy than every CPU one": ("no", "so in 11 of 12"),
    "Every CUDA configuration takes less time than every CPU one": ("no", "not in bloomz-1b1"),
    "Energy differs significantly between configurations": (
        "cannot be determined",
        "needs repetitions",
    ),
    "TORCH with CUDA uses computing resources efficiently": ("cannot be determined", "has no util"),
}


def test_each_published_claim_follows_or_does_not() -> None:
    checked = analysed(MEDIANS, "columns=paper_medians").checked
    assert [each.claim.text for each in checked] == list(CLAIMS)
    for each in checked:
        follows, part = CLAIMS[each.claim.text]
        assert each.follows == follows, each
        assert part in each.computed, each


def test_one_aggregate_per_cell_is_described_and_not_tested() -> None:
    report = analysed(MEDIANS, "columns=paper_medians").report
    assert len(report.cells) == 60  # JIT, which generates nothing, is out
    assert {row.trials for result in report.metrics for row in result.descriptive} == {1}
    [refused] = [out for out in report.left_out if out.scope == "test"]
    for test in ("Kruskal-Wallis", "Dunn", "max-T", "Cliff's delta", "factor effects"):
        assert test in refused.name
    families = [family for result in report.metrics for family in result.families]
    assert all(family.conventional is None and family.power is None for family in families)
    assert all(p.p is None and p.low is None for family in families for p in family.pairs)
    assert not any(result.effects.effects for result in report.metrics)
    [family] = [f for f in report.metrics[0].families if f.name == "bloomz-1b1 / CUDA"]
    assert family.savings.saving_pct[0][1] == pytest.approx(89.1643, abs=1e-4)


def test_the_report_says_first_whose_data_it_is() -> None:
    report = analysed(MEDIANS, "columns=paper_medians").report
    for text in (report.machine, report.methods[0], report.notes[0], to_markdown(report)):
        text = text.replace("\\_", "_")
        assert "paper_medians.csv" in text
        assert "not measured by slm_energy" in text
    assert "as declared by its authors" in report.notes[0]
    assert "Energy was measured" not in " ".join(report.methods)
    assert report.study == "paper_medians"


def series(metric: str, model: str, provider: str = "CPU") -> dict[str, np.ndarray[Any, Any]]:
    table = pd.read_csv(SERIES)
    rows = table[
        (table["metric"] == metric) & (table["model"] == model) & (table["provider"] == provider)
    ]
    values = rows.filter(like="rep").to_numpy(dtype=float)
    return dict(zip(rows["engine"], values, strict=True))


def test_ten_repetitions_have_the_conventional_chain() -> None:
    report = analysed(SERIES, "columns=paper_series").report
    [family] = [family for family in report.metrics[0].families if family.name == "phi2"]
    values = series("cpu_plus_gpu_energy", "phi2")
    del values["JIT"]
    labels = {cell: report.labels[cell].split(" / ")[1] for cell in family.ranked}
    assert list(labels.values()) == ["OV", "ONNX", "TORCH"]
    chain = family.conventional
    assert chain is not None
    h, p = stats.kruskal(*values.values())
    assert (chain.kruskal_h, chain.kruskal_p) == pytest.approx((h, p), rel=1e-9)
    assert chain.levene_w == pytest.approx(stats.levene(*values.values()).statistic, rel=1e-9)
    tall = pd.DataFrame([(k, x) for k, row in values.items() for x in row], columns=["e", "v"])
    dunn = scikit_posthocs.posthoc_dunn(tall, val_col="v", group_col="e", p_adjust="holm")
    for pair in chain.pairs:
        expected = float(dunn.loc[labels[pair.a], labels[pair.b]])
        assert pair.dunn_p == pytest.approx(expected, rel=1e-9)
    for cell in chain.cells:
        w = stats.shapiro(values[labels[cell.cell]]).statistic
        assert cell.shapiro_w == pytest.approx(w, rel=1e-9)


def test_repetitions_that_are_no_rounds_are_not_paired() -> None:
    report = analysed(SERIES, "columns=paper_series").report
    [family] = [family for family in report.metrics[0].families if family.name == "phi2"]
    assert family.conventional is not None
    assert family.conventional.friedman_p is None
    assert {(pair.rounds, pair.won, pair.verdict) for pair in family.pairs} == {(0, 0, "saves")}
    names = [out.name for out in report.left_out if out.scope == "test"]
    assert any("max-T" in name and "Friedman" in name for name in names)
    assert report.audit.outcomes == {"valid": 130}
    assert report.audit.rounds == report.metrics[0].diagnostics.drifts == ()
    assert "randomised complete block" not in " ".join(report.methods)
    [engine] = report.metrics[0].effects.effects
    assert (engine.term, engine.df) == ("engine", 2)


def test_savings_of_repeated_cells_are_of_their_medians() -> None:
    [energy] = [
        each
        for each in analysed(SERIES, "columns=paper_series").ranges
        if each.metric.name == "energy/total_j"
    ]
    values = series("cpu_plus_gpu_energy", "phi2")
    middle = [float(np.median(values[engine])) for engine in ("OV", "ONNX", "TORCH")]
    assert energy.least_pct == pytest.approx(100 - 100 * min(middle) / max(middle), rel=1e-12)


def test_a_verdict_that_rests_on_a_flagged_value_is_told(tmp_path: Path) -> None:
    path = tmp_path / "outlier.csv"
    costs = {"a": (1.0, 1.01, 0.99, 1.005, 0.995, 3.0), "b": (1.3, 1.31, 1.29, 1.305, 1.295, 1.3)}
    rows = [f"m,{engine},cpu,{cost}" for engine, row in costs.items() for cost in row]
    path.write_text("\n".join(["model,engine,provider,energy/total_j", *rows]))
    [result] = analysed(path).report.metrics
    [changed] = result.diagnostics.changed
    assert (changed.verdict, changed.without) == ("inconclusive", "saves")


CASES = "model,engine,provider,energy/total_j"


@pytest.mark.parametrize(
    ("rows", "valid", "verdict", "reason"),
    [
        (["a,100", "b,101"] * 3, "3/3", "not tested", "do not vary within cells"),
        (["a,1", "b,2"], "1/1", "not tested", None),
        (["a,1", "b,2", "b,2.1"], "1/1", "not tested", "one value of a cell gives no spread"),
        (["a,1", "b,2", "a,1.01", "b,2.1"], "2/2", "saves", None),
    ],
    ids=["constant", "one value", "one against two", "two values"],
)
def test_what_could_not_be_decided_says_why(
    tmp_path: Path, rows: list[str], valid: str, verdict: str, reason: str | None
) -> None:
    path = tmp_path / "t.csv"
    path.write_text(
        "\n".join([CASES, *(row.replace(",", ",cpu,") for row in rows)]).replace("\n", "\nm,")
    )
    report = analysed(path).report
    cells, pairs = summary_tables.grids(report)
    assert cells.rows[0][1] == valid
    assert pairs.rows[0][-1] == verdict
    assert "Won" not in pairs.head
    assert reason is None or reason in report.findings[-1]
    assert "inconclusive" not in to_markdown(report)
    few = [out for out in report.left_out if "conventional tests" in out.name]
    assert bool(few) == (reason != "do not vary within cells" and len(rows) > 2)


def test_a_cell_without_a_value_is_not_valid(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    rows = ("m,a,cpu,1", "m,a,cpu,1.1", "m,b,cpu,", "m,b,cpu,NA", "m,c,cpu,2", "m,c,cpu,")
    path.write_text("\n".join([CASES, *rows]))
    report = analysed(path).report
    table = {row[0]: row[1:] for row in summary_tables.cells(report).rows}
    assert table["a"][0] == "2/2"
    assert table["c"] == ("1 of 2 have a value", "2.00")
    assert table["b"] == ("0 of 2 have a value", "-")


def test_a_part_of_the_models_bears_no_claim_out() -> None:
    for each in analysed(SERIES, "columns=paper_series").checked:
        assert each.follows == "cannot be determined"
        assert "not all of 12 groups" in each.computed


def rounds(path: Path, noise: float = 0.01) -> Path:
    generator = np.random.default_rng(3)
    lines = ["model,engine,provider,block,energy/total_j"]
    for number in range(1, 7):
        drift = 1 + 0.2 * number
        for engine, cost in (("a", 1.0), ("b", 1.1), ("c", 1.3)):
            joules = cost * drift * generator.normal(1, noise)
            lines.append(f"m,{engine},cpu,{number},{joules}")
    path.write_text("\n".join(lines))
    return path


def test_declared_rounds_are_compared_within(tmp_path: Path) -> None:
    path = rounds(tmp_path / "blocks.csv")
    words = ("columns.repetition=block",)
    blocked = analysed(path, *words, "columns.rounds=true").report
    [family] = blocked.metrics[0].families
    assert {(pair.rounds, pair.verdict) for pair in family.pairs} == {(6, "saves")}
    assert family.conventional is not None
    assert family.conventional.friedman_p is not None
    assert "as declared by its authors" in blocked.methods[0]
    assert "Energy was measured" not in " ".join(blocked.methods)
    loose = analysed(path, *words).report
    [family] = loose.metrics[0].families
    assert {pair.verdict for pair in family.pairs} == {"inconclusive"}  # the drift is noise now


def count_max_t(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of cells of each max-T run from now on."""
    runs: list[int] = []

    def counted(logs: np.ndarray[Any, Any], draws: int, seed: int, **keys: float) -> max_t.MaxT:
        runs.append(logs.shape[1])
        return max_t.max_t(logs, draws, seed, **keys)

    monkeypatch.setattr(paired, "max_t", counted)
    return runs


def test_independent_repetitions_need_no_max_t_run(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = count_max_t(monkeypatch)
    report = analysed.__wrapped__(SERIES, "columns=paper_series").report
    assert len(report.metrics) == 3
    assert runs == []


def test_declared_rounds_need_one_max_t_run_per_family_and_more_only_for_what_is_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One more where trials are flagged, and one without each round of the metric that decides."""
    runs = count_max_t(monkeypatch)
    words = ("columns=paper_series", "columns.rounds=true", "draws=999")
    report = analysed.__wrapped__(SERIES, *words).report
    families = [(family, result) for result in report.metrics for family in result.families]
    flagged = [
        family
        for family, result in families
        if len(family.ranked) > 1
        and any(
            point.outlier and point.cell in family.ranked for point in result.diagnostics.points
        )
    ]
    rounds = sum(f.complete_rounds for result in report.deciding for f in result.families)
    assert len(runs) == len(families) + len(flagged) + rounds == 21


def test_the_command_line_reads_a_mapping_of_ones_own(tmp_path: Path, slm_energy: Command) -> None:
    (tmp_path / "columns").mkdir()
    (tmp_path / "columns" / "mine.yaml").write_text(
        "factors: {model: llm, engine: runtime, provider: null}\n"
        "metrics: [{name: energy/total_j, column: Energy, unit: Wh}]\n"
    )
    (tmp_path / "table.csv").write_text("llm,runtime,Energy\nm,<b>a</b>,1\nm,b,4\n")
    words = ("report", "data=table.csv", "columns=mine", "out=page")
    done = slm_energy(*words, f"hydra.searchpath=[file://{tmp_path}]", quick=False)
    assert done.returncode == 0, done.stderr
    assert "not measured by slm_energy" in done.stdout
    assert "75.00 %" in done.stdout
    assert "3,600" in done.stdout
    assert not (tmp_path / "mlruns").exists()
    page = (tmp_path / "page" / "report.html").read_text()
    assert "not measured by slm_energy" in page
    assert "<b>a</b>" not in page


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data=none.csv"], "data=none.csv: cannot be read"),
        (
            ["data=none.csv", "columns=foo"],
            "choose one of guess, paper_medians, paper_series, tidy",
        ),
        (["data=none.csv", "columns.foo=1"], "columns.foo: no such key"),
    ],
)
def test_a_bad_command_is_one_clear_line(
    slm_energy: Command, words: list[str], message: str
) -> None:
    assert message in refusal(slm_energy("report", *words, quick=False))
