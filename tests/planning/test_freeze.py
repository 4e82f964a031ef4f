from __future__ import annotations

import dataclasses
import subprocess
from pathlib import Path

import pytest

from slm_energy.config.groups import RunConfig
from slm_energy.planning.freeze import changes, freeze
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
