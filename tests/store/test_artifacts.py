from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from xml.etree import ElementTree

import pyarrow.parquet
import pytest

from slm_energy.config.groups import RunConfig
from slm_energy.record import Record, Series
from slm_energy.running import trial
from slm_energy.store import artifacts
from slm_energy.store.traces import power_svg
from tests.captures import S, a_capture, a_counter, a_gauge, a_reference
from tests.conftest import a_trial


def a_record(config: RunConfig) -> Record:
    holes = a_counter()
    holes = Series(
        source=holes.source,
        before_ns=holes.before_ns,
        raw=(None, 2**62, *holes.raw[2:]),
        after_ns=holes.after_ns,
        errors={"0": "EACCES"},
    )
    capture = a_capture(series=(holes, a_gauge()))
    reference = a_reference(capture.generations, output_ids=(1, 2, 9, 4))
    return trial.derive(a_trial(config), dataclasses.replace(capture, reference=reference), 0)


def test_a_record_comes_back_as_it_was(tmp_path: Path, config: RunConfig) -> None:
    record = a_record(config)
    assert not artifacts.is_complete(tmp_path)
    artifacts.write(tmp_path, record, {"a": "def a():", "b": "def b():"})
    assert artifacts.is_complete(tmp_path)
    assert artifacts.read(tmp_path) == record


def test_a_record_appears_when_the_rest_is_on_the_disk(
    tmp_path: Path, config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_disk: set[Path] = set()
    fsync = os.fsync

    def spy(descriptor: int) -> None:
        fsync(descriptor)
        if not artifacts.is_complete(tmp_path):
            on_disk.add(Path(os.readlink(f"/proc/self/fd/{descriptor}")))

    monkeypatch.setattr("os.fsync", spy)
    artifacts.write(tmp_path, a_record(config), {})
    assert {tmp_path, *tmp_path.rglob("*")} - {tmp_path / "record.json"} <= on_disk


def test_a_failed_record_has_no_capture_and_comes_back_too(
    tmp_path: Path, config: RunConfig
) -> None:
    record = trial.failed(a_trial(config), "it broke", 0)
    artifacts.write(tmp_path, record, {})
    assert artifacts.read(tmp_path) == record
    assert not (tmp_path / "outputs" / "generations.json").exists()


def test_a_person_can_read_the_files(tmp_path: Path, config: RunConfig) -> None:
    artifacts.write(tmp_path, a_record(config), {"a": "def a():", "b": "def b():"})
    table = json.loads((tmp_path / "outputs" / "generations.json").read_text())
    assert table["columns"][:3] == ["task_id", "prompt", "completion"]
    assert [row[:3] for row in table["data"]] == [
        ["a", "def a():", "pass"],
        ["b", "def b():", "pass"],
    ]
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    assert [row["prompt_digest"] for row in rows] == ["prompt a", "prompt b"]
    assert [row["differs_at"] for row in rows] == [2, 2]
    assert "name: scripted" in (tmp_path / "config" / "settings.yaml").read_text()
    readings = pyarrow.parquet.read_table(tmp_path / "capture" / "readings.parquet").to_pylist()
    assert readings[0] == {
        "source": "fake/package",
        "before_ns": S // 25,
        "after_ns": S // 25,
        "raw_int": None,
        "raw_float": None,
        "error": "EACCES",
    }
    assert readings[1]["raw_int"] == 2**62


def test_what_was_never_compared_is_not_shown_as_equal(tmp_path: Path, config: RunConfig) -> None:
    record = trial.derive(a_trial(config), a_capture(), 0)
    artifacts.write(tmp_path, record, {})
    table = json.loads((tmp_path / "outputs" / "generations.json").read_text())
    assert "differs_at" not in table["columns"]
    assert artifacts.read(tmp_path) == record


def test_the_metrics_can_be_derived_again_from_the_files(tmp_path: Path, config: RunConfig) -> None:
    record = a_record(config)
    artifacts.write(tmp_path, record, {})
    read = artifacts.read(tmp_path)
    assert read.capture is not None
    again = trial.derive(read.trial, read.capture, 0)
    assert (again.metrics, again.checks) == (record.metrics, record.checks)
    assert again.metrics["quality/agreeing_tokens"] == 0.5


def test_the_picture_is_an_svg_with_a_text_alternative(tmp_path: Path, config: RunConfig) -> None:
    artifacts.write(tmp_path, a_record(config), {})
    root = ElementTree.fromstring((tmp_path / "power.svg").read_text())
    space = "{http://www.w3.org/2000/svg}"
    assert root.find(f"{space}title") is not None
    description = root.findtext(f"{space}desc") or ""
    assert "serve 4.0 s" in description
    assert len(list(root.iter(f"{space}polyline"))) == 2


def test_the_picture_of_an_estimate_says_so(config: RunConfig) -> None:
    words = "(estimated, not measured)"
    assert words in power_svg(a_capture(series=(a_counter("estimate"),)))
    assert words not in power_svg(a_capture())
