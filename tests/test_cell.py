"""What cells are called."""

from __future__ import annotations

import dataclasses
from typing import Any

from slm_energy.cell import Cell, cell_labels, cell_levels
from slm_energy.config.groups import EngineConfig, RunConfig
from tests.conftest import a_cell

OLD = {"python": "3.11.7", "torch": "2.13.0", "transformers": "4.57.6", "optimum": "2.1.0"}
NEW = {"python": "3.11.7", "torch": "2.13.0", "transformers": "5.23.0", "optimum": "absent"}


def cell(config: RunConfig, key: str, versions: dict[str, str], **engine: Any) -> Cell:
    found = a_cell(config, key, engine=EngineConfig(**{"name": "torch"} | engine))
    return dataclasses.replace(found, versions=versions)


def labels(*cells: Cell) -> list[str]:
    return list(cell_labels((each.id, cell_levels(each)) for each in cells).values())


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


def test_cells_that_differ_in_nothing_visible_get_their_id(config: RunConfig) -> None:
    assert labels(cell(config, "a" * 12, OLD), cell(config, "b" * 12, OLD)) == [
        "bundled / torch / cpu / aaaaaa",
        "bundled / torch / cpu / bbbbbb",
    ]
