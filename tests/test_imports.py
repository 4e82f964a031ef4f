"""No import circle anywhere: not between modules, and not between packages of either depth.

Imports for types and inside functions count as well.
"""

from __future__ import annotations

import graphlib

import grimp
import pytest

GRAPH = grimp.build_graph("slm_energy")


def circle(dependencies: dict[str, set[str]]) -> list[str]:
    """One circle among these dependencies; empty if there is none."""
    try:
        graphlib.TopologicalSorter(dependencies).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def test_no_two_modules_import_each_other() -> None:
    modules = {name: GRAPH.find_modules_directly_imported_by(name) for name in GRAPH.modules}
    assert circle(modules) == []


@pytest.mark.parametrize("depth", [2, 3])
def test_no_two_packages_import_each_other(depth: int) -> None:
    """`slm_energy.analysis` is of depth 2, `slm_energy.analysis.stats` of depth 3."""
    packages: dict[str, set[str]] = {}
    for name in GRAPH.modules:
        importer = package(name, depth)
        for other in GRAPH.find_modules_directly_imported_by(name):
            imported = package(other, depth)
            if not nested(importer, imported):
                packages.setdefault(importer, set()).add(imported)
    assert circle(packages) == []


def package(module: str, depth: int) -> str:
    return ".".join(module.split(".")[:depth])


def nested(one: str, other: str) -> bool:
    """Whether one is the other, or holds it: what a package exports comes from within."""
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")


def test_a_circle_is_found() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}})
    assert circle({"a": {"b"}, "b": set()}) == []
