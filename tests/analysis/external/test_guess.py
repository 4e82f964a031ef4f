"""Columns with the names that people give them: proposed as words to paste, or taken and told."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from slm_energy.analysis.external.columns import columns
from slm_energy.analysis.external.table import Table, read
from slm_energy.config.compose import compose
from slm_energy.errors import AnalysisError

HEAD = "LLM,Runtime,run,Energy (Wh),Latency ms,Notes"
BODY = ("m,torch,1,2,250,ok", "m,onnx,1,1,200,ok", "m,torch,2,2,250,ok")
NOTHING = dict.fromkeys(("model", "engine", "provider"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "t.csv"
    path.write_text("\n".join(["\ufeff" + HEAD, *BODY]), encoding="utf-8")
    return path


def taken(path: Path, **keys: Any) -> Table:
    return read(path, columns({"factors": NOTHING, "guess": True} | keys))


def test_usual_names_are_taken_with_their_units_and_the_rest_is_told(file: Path) -> None:
    table = taken(file)
    assert list(table.rows["engine.name"]) == ["torch", "onnx", "torch"]
    assert list(table.rows["energy/total_j"]) == [7200, 3600, 7200]
    assert list(table.rows["latency/e2e_s"]) == [0.25, 0.2, 0.25]
    assert list(table.rows["round"]) == [1, 1, 2]
    assert table.guessed == (
        "Columns guessed: model from 'LLM', engine from 'Runtime', energy/total_j from"
        " 'Energy (Wh)' in Wh, latency/e2e_s from 'Latency ms' in ms, repetition from 'run';"
        " not used: Notes."
    )


def test_the_words_that_a_refusal_proposes_read_the_table_in_the_same_way(file: Path) -> None:
    with pytest.raises(AnalysisError, match="columns=guess takes as well") as refused:
        read(file, columns({"factors": {"model": "LLM", "engine": "engine", "provider": None}}))
    words = str(refused.value).partition("; probably ")[2].rpartition(", which ")[0]
    mapping = compose("analysis", ["study=null", *shlex.split(words)], keys=["study"])["columns"]
    assert read(file, columns(mapping)).rows.equals(taken(file).rows)


def test_what_was_set_is_not_guessed(file: Path) -> None:
    table = taken(file, factors={"engine": "Notes"}, repetition="run", keep={"Runtime": ["torch"]})
    assert set(table.rows["engine.name"]) == {"ok"}
    assert "engine from" not in table.guessed


def test_a_column_that_was_set_and_is_not_there_is_not_replaced_by_a_guess(file: Path) -> None:
    with pytest.raises(AnalysisError, match=r"no column 'Threads'.*columns.factors.engine.threads"):
        taken(file, factors=NOTHING | {"engine.threads": "Threads"})


@pytest.mark.parametrize(
    ("column", "metric", "factor"),
    [
        ("Energy [kWh]", "energy/total_j", 3.6e6),
        ("energy_per_token_mJ", "energy/per_output_token_j", 1e-3),
        ("GPU energy (J)", "energy/gpu_j", 1),
        ("TTFT (ms)", "latency/ttft_s", 1e-3),
        ("Duration, s", "time/total_s", 1),
        ("Tokens/s", "throughput/tokens_per_s", 1),
        ("Throughput (tok/s)", "throughput/tokens_per_s", 1),
        ("Avg Power (W)", "power/mean_w", 1),
        ("peak_memory_GiB", "memory/peak_mb", 1073.741824),
        ("energy/total_j", "energy/total_j", 1),
    ],
)
def test_a_metric_is_known_by_its_quantity_and_unit(
    tmp_path: Path, column: str, metric: str, factor: float
) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f'engine,"{column}"\na,2\n')
    assert taken(path).rows[metric].iloc[0] == pytest.approx(2 * factor)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("engine,Energy", "a,1"), "no column has a usual name of a metric with its unit"),
        (("who,Energy (J)", "a,1"), "no column has a usual name of an engine or a model"),
        (
            ("engine,Energy (J),quant", "a,1,q4", "a,2,q8"),
            "column 'quant' may be a factor, .*: add "
            "'columns.factors={engine: engine, engine.quant: quant}', or delete it",
        ),
        (
            ("engine,Energy (J),context", "a,1,512", "a,2,512", "a,3,1024", "a,4,1024"),
            "column 'context' may be a factor",
        ),
    ],
)
def test_what_cannot_be_guessed_is_one_clear_line(
    tmp_path: Path, lines: tuple[str, ...], message: str
) -> None:
    path = tmp_path / "t.csv"
    path.write_text("\n".join(lines))
    with pytest.raises(AnalysisError, match=message):
        taken(path)
