from __future__ import annotations

import dataclasses
import subprocess
from pathlib import Path

import pytest

from slm_energy.config.groups import RunConfig
from slm_energy.planning.freeze import Frozen, changes, freeze, scope_change
from slm_energy.record import Source
from slm_energy.scope import Scope, of_sources
from slm_energy.serialization import from_plain, to_plain
from tests.conftest import a_cell


def test_nothing_has_changed_as_long_as_nothing_changed(config: RunConfig) -> None:
    cells = [a_cell(config, "c1"), a_cell(config, "c2")]
    first, again = freeze(config.study, cells), freeze(config.study, cells[::-1])
    assert first.digest == again.digest
    assert changes(first, again) == ()
    assert from_plain(type(first), to_plain(first)) == first


def test_more_rounds_extend_a_study_and_another_seed_is_another_plan(config: RunConfig) -> None:
    first = freeze(config.study, [a_cell(config)])
    longer = freeze(dataclasses.replace(config.study, rounds=9), [a_cell(config)])
    assert changes(first, longer) == ()
    other = freeze(dataclasses.replace(config.study, seed=7), [a_cell(config)])
    assert other.digest != first.digest
    assert changes(first, other) == ("study.seed was 0 and is 7",)


def test_new_cells_are_told_and_a_narrower_grid_is_the_same_plan(config: RunConfig) -> None:
    first = freeze(config.study, [a_cell(config, "c1"), a_cell(config, "c2")])
    narrower = freeze(config.study, [a_cell(config, "c2")])
    assert narrower.digest == first.digest
    assert changes(first, narrower) == ()
    assert changes(narrower, first) == ("1 of 2 cells are new",)


def test_a_library_of_another_version_is_named(config: RunConfig) -> None:
    first = freeze(config.study, [a_cell(config)])
    now = dataclasses.replace(first, facts=first.facts | {"version.numpy": "1.0"})
    [text] = changes(first, now)
    assert text == f"version.numpy was {first.facts['version.numpy']} and is 1.0"


def a_scope(*devices: tuple[str, str]) -> Scope:
    sources = [
        Source(id=d, kind="counter", domain=domain, unit="uJ", summed=True, device=d)
        for domain, d in devices
    ]
    scope = of_sources(sources)
    assert scope is not None
    return scope


def test_what_is_summed_is_part_of_the_plan(config: RunConfig) -> None:
    whole = a_scope(("cpu_package", "package-0"), ("gpu", "GPU-1"))
    gpu, wall = a_scope(("gpu", "GPU-1")), a_scope(("wall", ""))
    unknown = freeze(config.study, [a_cell(config)])
    first = dataclasses.replace(unknown, scopes=(whole,))
    less = dataclasses.replace(unknown, scopes=(gpu,))
    assert first.digest != less.digest
    assert from_plain(type(first), to_plain(first)) == first
    [text] = changes(first, less)
    assert text == scope_change(first, less)
    assert text == (
        "the sum was over processor package of 1 socket, 1 GPU (GPU-1); memory not included and is"
        " over GPU only: 1 GPU (GPU-1); processors and memory not included"
        " (no longer: cpu_package package-0)"
    )
    assert changes(first, first) == changes(first, unknown) == changes(unknown, less) == ()
    both = dataclasses.replace(unknown, scopes=(whole, wall))
    assert changes(both, first) == ()
    assert "whole machine at the wall" in scope_change(first, both)


def test_a_plan_of_an_older_version_has_no_scope(config: RunConfig) -> None:
    plain = to_plain(freeze(config.study, [a_cell(config)]))
    del plain["scopes"]
    assert from_plain(Frozen, plain).scopes == ()


def test_the_commit_of_the_working_folder_is_told(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert freeze(config.study, []).git is None
    identity = ("-c", "user.name=a", "-c", "user.email=a@localhost")
    (tmp_path / "file").write_text("1")
    for words in (("init", "-q"), ("add", "file"), (*identity, "commit", "-qm", "one")):
        subprocess.run(["git", *words], check=True)
    commit = freeze(config.study, []).git
    assert commit is not None
    assert len(commit) == 40
    (tmp_path / "file").write_text("2")
    assert freeze(config.study, []).git == f"{commit}+changes"
