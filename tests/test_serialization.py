from __future__ import annotations

import dataclasses
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from slm_energy.serialization import from_plain, parse_json, read_json, to_plain, write_json


@dataclasses.dataclass(frozen=True, kw_only=True)
class Point:
    x: int
    y: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line:
    points: tuple[Point, ...]
    names: dict[str, str]


LINE = Line(points=(Point(x=1, y=2.5), Point(x=2**62)), names={"a": "b"})


def test_dataclasses_survive_a_file(tmp_path: Path) -> None:
    write_json(tmp_path / "line.json", LINE)
    assert read_json(tmp_path / "line.json", Line) == LINE
    assert [path.name for path in tmp_path.iterdir()] == ["line.json"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"points": [{"x": "1"}], "names": {}}, r"Line\.points\.x: expected int, got '1'"),
        ({"points": [], "names": {}, "z": 1}, "Line: unknown key 'z'; known: points, names"),
        ({"points": []}, "names is missing"),
        ({"points": 3, "names": {}}, r"Line\.points: expected a list, got 3"),
    ],
)
def test_a_wrong_shape_is_named(data: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_plain(Line, data)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 101 + "]" * 101, "more than 100 lists or objects inside each other"),
        ("[" * 200_000, "more than 100 lists or objects inside each other"),
        ("9" * 5000, "a number of more than 4,300 digits"),
        ("{", "Expecting property name"),
    ],
)
def test_what_python_cannot_hold_is_a_wrong_value_like_any_other(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_json(text)
    assert parse_json("[" * 100 + "]" * 100)


def test_an_integer_too_large_for_a_number_is_named() -> None:
    with pytest.raises(ValueError, match=r"Point\.y: expected a number below 1e308"):
        from_plain(Point, {"x": 1, "y": 10**400})


def test_a_file_that_several_write_at_once_is_complete_at_all_times(tmp_path: Path) -> None:
    file, start = tmp_path / "line.json", threading.Barrier(8)

    def write_and_read(x: int) -> None:
        start.wait()
        for y in range(10):
            write_json(file, Point(x=x, y=y))
            read_json(file, Point)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write_and_read, range(8)))
    assert read_json(file, Point).y == 9
    assert os.listdir(tmp_path) == ["line.json"]


def test_not_a_number_is_not_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "point.json", Point(x=1, y=float("nan")))
    assert not os.listdir(tmp_path)


def test_tuples_become_lists() -> None:
    assert to_plain(LINE)["points"] == [{"x": 1, "y": 2.5}, {"x": 2**62, "y": None}]
