import dataclasses
import io
import json
from xml.etree import ElementTree

import pandas as pd

from slm_energy.analysis.render.files import files
from slm_energy.analysis.result.report import Report
from slm_energy.serialization import from_plain
from tests.analysis.render.conftest import widened


def test_every_file_of_a_report(report: Report) -> None:
    names = set(files(report).contents)
    assert {"report.html", "report.md", "comparisons.json", "trials.parquet"} <= names
    energy = "energy-per-output-token-j"
    assert {f"tables/{energy}-cells.tex", f"tables/{energy}-pairs.tex"} <= names
    assert {f"figures/{energy}-ratios.svg", f"figures/{energy}-ranks.svg"} <= names
    assert f"figures/{energy}-ranks.tex" in names
    assert "figures/energy-estimated-per-output-token-j-ratios.svg" in names
    assert not [name for name in names if ".." in name or name.startswith("/")]


def test_the_json_is_the_whole_result(report: Report) -> None:
    assert from_plain(Report, json.loads(files(report).contents["comparisons.json"])) == report


def test_trials_are_a_table_with_factors_outcomes_and_metrics(report: Report) -> None:
    frame = pd.read_parquet(io.BytesIO(files(report).contents["trials.parquet"]))
    assert len(frame) == len(report.trials) == 25
    assert frame["outcome"].value_counts().to_dict() == {"valid": 24, "failed": 1}
    assert set(frame["engine.name"]) == {"torch", "onnx", "a_b & 50 %"}
    assert frame["energy/per_output_token_j"].notna().sum() == 15
    row = frame.set_index("run_id").loc[report.trials[3].run_id]
    assert row["latency/ttft_p50_s"] == report.trials[3].values["latency/ttft_p50_s"]


def test_pictures_stand_alone(report: Report) -> None:
    found = {name: text for name, text in files(report).contents.items() if name.endswith(".svg")}
    stems = {name.partition("/")[2].removesuffix(".svg") for name in found}
    assert {"trade-off-1", "energy-1", "energy-per-output-token-j-ratios"} <= stems
    assert {f"{metric}-trials" for metric in ("latency-e2e-p50-s", "latency-ttft-p50-s")} <= stems
    for text in found.values():
        ElementTree.fromstring(text)
        assert b"<style>" in text


def test_families_whose_names_make_one_file_name_keep_their_files(report: Report) -> None:
    wide = widened(report, 3, 2)
    first = wide.metrics[0]
    twins = tuple(
        dataclasses.replace(first.families[0], name=name) for name in ("../a/b", "../a b")
    )
    changed = dataclasses.replace(
        wide, metrics=(dataclasses.replace(first, families=twins), *wide.metrics[1:])
    )
    ratios = [name for name in files(changed).contents if name.endswith("-ratios.svg")]
    assert ratios == [
        "figures/energy-per-output-token-j-1-a-b-ratios.svg",
        "figures/energy-per-output-token-j-2-a-b-ratios.svg",
    ]
