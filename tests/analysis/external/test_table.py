"""Reading somebody else's table: what is right becomes trials, what is wrong is one clear line."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from slm_energy.analysis.external.columns import columns
from slm_energy.analysis.external.table import read
from slm_energy.errors import AnalysisError, ConfigError

FACTORS = {"model": "model", "engine": "engine", "provider": None}
HEAD = "model,engine,energy/total_j"
Read = Callable[..., pd.DataFrame]


@pytest.fixture
def table(tmp_path: Path) -> Read:
    """Read lines of CSV with keys of a mapping."""

    def reader(*lines: str, **keys: Any) -> pd.DataFrame:
        path = tmp_path / "t.csv"
        path.write_text("\n".join(lines) + "\n" if lines else "")
        return read(path, columns({"factors": FACTORS, **keys})).rows

    return reader


def energies(frame: pd.DataFrame) -> dict[tuple[str, int], float]:
    return {
        (str(engine), int(number)): float(value)
        for engine, number, value in zip(
            frame["engine.name"], frame["round"], frame["energy/total_j"], strict=True
        )
    }


def test_rows_of_a_cell_are_its_repetitions(table: Read) -> None:
    frame = table(HEAD, "m,a,1", "m,b,3", "m,a,2")
    assert energies(frame) == {("a", 1): 1, ("b", 1): 3, ("a", 2): 2}
    assert set(frame["outcome"]) == {"valid"}
    assert frame["cell"].nunique() == 2
    assert set(frame["provider.name"]) == {"not given"}
    assert "not measured by slm_energy" in frame["machine"].iloc[0]


def test_units_become_ours(table: Read) -> None:
    metrics = [
        {"name": "energy/total_j", "column": "E", "unit": "kWh"},
        {"name": "latency/e2e_p50_s", "column": "t", "unit": "ms"},
        {"name": "memory/process_peak_mb", "column": "m", "unit": "GiB"},
    ]
    row = table("model,engine,E,t,m", "m,a,0.5,250,1", metrics=metrics).iloc[0]
    assert row["energy/total_j"] == pytest.approx(1.8e6)
    assert row["latency/e2e_p50_s"] == pytest.approx(0.25)
    assert row["memory/process_peak_mb"] == pytest.approx(1073.741824)


def test_a_byte_order_mark_is_no_part_of_a_name(table: Read) -> None:
    assert len(table("\ufeff" + HEAD, "m,a,1")) == 1


def test_the_order_of_trials_is_that_of_rounds_or_else_of_the_file(table: Read) -> None:
    lines = ("model,engine,rep,energy/total_j", "m,a,1,1", "m,a,2,2", "m,b,1,3", "m,b,2,4")
    blocked = table(*lines, repetition="rep", rounds=True).sort_values("order")
    loose = table(*lines, repetition="rep").sort_values("order")
    assert list(blocked["energy/total_j"]) == [1, 3, 2, 4]
    assert list(loose["energy/total_j"]) == [1, 2, 3, 4]


WIDE = ("model,engine,what,run1,run2,run10", "m,a,E,1,2,3", "m,b,E,4,,6", "m,a,t,7,8,9")
LONG = ("model,engine,rep,what,value", "m,a,x,E,1", "m,a,y,E,2", "m,b,x,E,4", "m,a,x,t,7")
METRIC = [{"name": "energy/total_j", "column": "E", "unit": "J"}]


def test_repetitions_and_metrics_may_be_columns_or_rows(table: Read) -> None:
    wide = table(*WIDE, metrics=METRIC, variable="what", repetition_columns="run")
    found = energies(wide)
    assert np.isnan(found.pop(("b", 2)))
    assert found == {("a", 1): 1, ("a", 2): 2, ("a", 3): 3, ("b", 1): 4, ("b", 3): 6}
    long = table(*LONG, metrics=METRIC, variable="what", repetition="rep")
    assert energies(long) == {("a", 1): 1, ("a", 2): 2, ("b", 1): 4}
    unnumbered = table(*LONG, metrics=METRIC, variable="what")
    assert energies(unnumbered) == {("a", 1): 1, ("a", 2): 2, ("b", 1): 4}


def test_other_factors_and_kept_rows(table: Read) -> None:
    factors = FACTORS | {"workload.batch_size": "batch"}
    lines = ("model,engine,batch,use,energy/total_j", "m,a,1,yes,1", "m,a,8,yes,2", "m,b,1,no,3")
    frame = table(*lines, factors=factors, keep={"use": ["yes"]})
    assert list(frame["workload.batch_size"]) == ["1", "8"]
    assert frame["cell"].nunique() == 2


@pytest.mark.parametrize(
    ("lines", "keys", "message"),
    [
        ((), {}, "empty"),
        ((HEAD,), {}, "no data below its head"),
        (("model,engine,kJ", "m,a,1"), {}, "no column has the name of a metric"),
        (
            ("llm,engine,energy/total_j", "m,a,1"),
            {},
            "no column 'model'; it has llm, engine, energy/total_j; set columns.factors.model to",
        ),
        ((HEAD, "m,a,1"), {"metrics": METRIC}, "no column 'E'; it has model, engine"),
        ((HEAD, "m,a,1"), {"repetition": "rep"}, "no column 'rep'"),
        ((HEAD, "m,a,1"), {"keep": {"use": ["x"]}}, "no column 'use'"),
        ((HEAD, "m,a,1"), {"keep": {"engine": ["x"]}}, "keep.engine: no row is left"),
        (WIDE, {"metrics": METRIC, "variable": "wat"}, "no column 'wat'"),
        (
            WIDE,
            {"metrics": METRIC, "variable": "what", "repetition_columns": "rep"},
            "no column 'rep1'",
        ),
        (
            LONG,
            {"metrics": [METRIC[0] | {"column": "joule"}], "variable": "what"},
            "column 'what' has no 'joule'; it has E, t",
        ),
        ((HEAD, "m,a,1", "m,b,one"), {}, "row 3, column 'energy/total_j': 'one' is not a number"),
        ((HEAD, "m,a,1,5"), {}, "row 2 has 4 values and the head 3"),
        ((HEAD, "m,a,1", "", "m,b,-2"), {}, "row 4, column 'energy/total_j': '-2' is negative"),
        ((HEAD, "m,a,inf"), {}, "row 2, column 'energy/total_j': 'inf' is infinite"),
        ((HEAD, "m,a,NaN", "m,b,"), {}, "no row has a value of 'energy/total_j'"),
        ((HEAD, "m,,1"), {}, "row 2, column 'engine' is empty"),
        (("model,engine,engine,energy/total_j", "m,a,a,1"), {}, "two columns are named 'engine'"),
        (
            ("model,engine,rep,energy/total_j", "m,a,1,1", "m,b,1,1", "m,a,1,2"),
            {"repetition": "rep"},
            "rows 2, 4 are the same cell and repetition (model m, engine a, rep 1)",
        ),
        ((HEAD, "m,a,1", "m,a,2"), {"aggregate": "median of 9"}, "rows 2, 3 are the same cell"),
        (
            (*LONG, "m,b,x,E,5"),
            {"metrics": METRIC, "variable": "what", "repetition": "rep"},
            "rows 4, 6 are the same cell and repetition",
        ),
        (
            (*LONG[:3], "m,b,x,E,four"),
            {"metrics": METRIC, "variable": "what", "repetition": "rep"},
            "row 4, column 'value': 'four' is not a number",
        ),
    ],
)
def test_a_bad_table_is_one_clear_line(
    table: Read, lines: tuple[str, ...], keys: dict[str, Any], message: str
) -> None:
    with pytest.raises(AnalysisError) as caught:
        table(*lines, **keys)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "cannot be read"), (b"\xff\xfe\x00", "not a CSV file in UTF-8")],
)
def test_a_file_that_is_no_table(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "t.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(AnalysisError, match=message):
        read(path, columns({"factors": FACTORS}))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"wat": 1}, "unknown key 'wat'"),
        ({"factors": {"engine": None}}, "columns.factors names no column"),
        ({"factors": {"colour": "c"}}, "columns.factors.colour: no such factor"),
        (
            {"metrics": [METRIC[0] | {"unit": "s"}]},
            "unit 's' does not fit energy/total_j; choose J",
        ),
        ({"metrics": [METRIC[0] | {"name": "joules"}]}, "'joules' is no name of a metric"),
        ({"metrics": METRIC * 2}, "names energy/total_j twice"),
        (
            {"claims": [{"text": "x", "kind": "least_saving", "metric": "y", "groups": 1}]},
            "'x' lacks published",
        ),
        ({"variable": "what"}, "columns.variable needs columns.metrics"),
        ({"rounds": True}, "columns.rounds=true needs columns.repetition"),
        ({"aggregate": "mean", "repetition": "rep"}, "contradicts columns.repetition"),
    ],
)
def test_a_bad_mapping_is_one_clear_line(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        columns({"factors": FACTORS, **keys})


@pytest.mark.parametrize("mark", [";", "\t", ","])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("named", [False, True])
def test_a_spreadsheets_dialects_are_read(
    tmp_path: Path, mark: str, encoding: str, named: bool
) -> None:
    path = tmp_path / "t.csv"
    lines = [line.replace(",", mark) for line in (HEAD, "m,a,1.5", "m,b,3")]
    path.write_bytes("\r\n".join([*[f"sep={mark}"] * named, *lines]).encode(encoding))
    table = read(path, columns({"factors": FACTORS}))
    words = {";": "semicolon", "\t": "tab", ",": "comma"}
    assert table.dialect == f"{words[mark]}-separated, decimal point"
    frame = table.rows
    assert energies(frame) == {("a", 1): 1.5, ("b", 1): 3}
    first = 3 if named else 2  # rows are those of the file
    assert list(frame["run_id"]) == [f"row {first}", f"row {first + 1}"]


COMMA, POINT = "columns.decimal=comma", "columns.decimal=point"


@pytest.mark.parametrize(
    ("numbers", "advice"),
    [
        (("1,234",), f"add {COMMA} (1,234 is 1.234), or columns.thousands=comma (1,234 is 1234)"),
        (("1,234", "99,9"), f"add {COMMA} (1,234 is 1.234)"),
        (("1,234,567",), "add columns.thousands=comma (1,234,567 is 1234567)"),
        (("1.234", "1.234,5"), f"add {COMMA} columns.thousands=point (1.234 is 1234)"),
        (("1,234.5",), "add columns.thousands=comma (1,234.5 is 1234.5)"),
        (("1 234,5",), f"add {COMMA} columns.thousands=space (1 234,5 is 1234.5)"),
        (("1'234.5",), "add columns.thousands=apostrophe (1'234.5 is 1234.5)"),
        (("1.234",), f"2 ways: add {POINT} (1.234 is 1.234), or {COMMA} columns.thousands=point"),
    ],
)
def test_a_mark_in_a_number_is_never_guessed_and_the_keys_to_add_are_named(
    tmp_path: Path, numbers: tuple[str, ...], advice: str
) -> None:
    path = tmp_path / "t.csv"
    path.write_text("\n".join([HEAD.replace(",", ";"), *(f"m;a;{each}" for each in numbers)]))
    with pytest.raises(AnalysisError) as caught:
        read(path, columns({"factors": FACTORS}))
    assert str(caught.value).find(advice) > 0
    for words in re.findall(
        r"((?:columns\.\w+=\w+ ?)+)\(\S.* is ([\d.]+)\)", advice.partition(", or")[0]
    ):
        keys = dict(re.findall(r"columns\.(\w+)=(\w+)", words[0]))
        read_again = read(path, columns({"factors": FACTORS, **keys}))
        assert read_again.rows["energy/total_j"][0] == float(words[1])


def test_one_number_in_a_column_decides_what_points_are(table: Read) -> None:
    lines = [line.replace(",", ";") for line in (HEAD, "m,a,1.234", "m,b,1.5")]
    assert energies(table(*lines)) == {("a", 1): 1.234, ("b", 1): 1.5}


def test_numbers_of_a_notation_that_was_named_are_checked_against_it(table: Read) -> None:
    lines = (HEAD.replace(",", ";"), "m;a;1.234,5", "m;b;1.5")
    with pytest.raises(AnalysisError, match=r"row 3.*'1.5' is not a number"):
        table(*lines, decimal="comma", thousands="point")


def test_a_head_with_two_separators_asks_which_one_it_is(table: Read) -> None:
    with pytest.raises(AnalysisError, match="both comma and semicolon: write 'sep=,' or 'sep=;'"):
        table("model;engine, the one;energy/total_j", "m;a;1")
    quoted = table('"model";"engine";"energy/total_j";"a, b"', "m;a;1;x")
    assert energies(quoted) == {("a", 1): 1}
