"""Models and workloads that are named by their source."""

from __future__ import annotations

from pathlib import Path

import pytest

from slm_energy.config.compose import compose_grid
from slm_energy.config.sources import source_name
from slm_energy.errors import ConfigError

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def models(*words: str) -> list[tuple[str, str]]:
    return [(c.model.name, c.model.source) for c in compose_grid(["-m", *words])]


def test_a_folder_or_a_hub_id_is_a_choice_of_the_group() -> None:
    assert models("model=bundled,Qwen/Qwen2.5-Coder-0.5B,/data/tuned,~/mine") == [
        ("bundled", "bundled"),
        ("Qwen2.5-Coder-0.5B", "Qwen/Qwen2.5-Coder-0.5B"),
        ("tuned", "/data/tuned"),
        ("mine", "~/mine"),
    ]


def test_a_file_of_the_users_own_comes_first(tmp_path: Path) -> None:
    (tmp_path / "model" / "org").mkdir(parents=True)
    (tmp_path / "model" / "org" / "own.yaml").write_text("name: own\nsource: /data/own\n")
    assert models("--config-dir", str(tmp_path), "model=org/own") == [("own", "/data/own")]


def test_the_file_of_a_sweep_names_models_as_the_command_line_does(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "defaults: [config, _self_]\n"
        "hydra: {mode: MULTIRUN, sweeper: {params: {model: 'org/a,/data/b,~/c'}}}\n"
    )
    (tmp_path / "named.yaml").write_text(
        "defaults: [config, {override model: org/a}, _self_]\n"
        "hydra: {mode: MULTIRUN, sweeper: {params: {model.source: '/data/a,/data/b',"
        " model.name: bundled}}}\n"
    )
    mine = ("--config-dir", str(tmp_path), "--config-name", "mine")
    assert models(*mine) == [("a", "org/a"), ("b", "/data/b"), ("c", "~/c")]
    assert models(*mine[:3], "named") == [("bundled", "/data/a"), ("bundled", "/data/b")]


def test_a_mistyped_name_is_no_source() -> None:
    with pytest.raises(ConfigError, match=r"model=phi2: there is no such model; did you mean"):
        models("model=phi2")


def test_another_source_has_its_own_name() -> None:
    assert models("model.source=bundled,/data/a,org/b") == [
        ("bundled", "bundled"),
        ("a", "/data/a"),
        ("b", "org/b"),
    ]
    assert models("model.source=/data/a", "model.name=mine") == [("mine", "/data/a")]
    assert models("model.source=/data/a", "model.name=bundled") == [("bundled", "/data/a")]
    [config] = compose_grid(["workload.source=/data/Own.jsonl.gz"])
    assert config.workload.name == "Own"


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("org/name-1.5", "name-1.5"),
        ("/models/tuned/", "tuned"),
        (f"/hub/models--org--name/snapshots/{COMMIT}", "name"),
        ("tasks.jsonl.gz", "tasks"),
    ],
    ids=["hub", "folder", "snapshot", "file"],
)
def test_a_source_is_called_as_a_person_would(source: str, name: str) -> None:
    assert source_name(source) == name


def test_a_revision_may_come_from_the_study() -> None:
    words = ("model.source=org/a,org/b", f"study.revisions={{a: {COMMIT}}}")
    assert [c.model.revision for c in compose_grid(["-m", *words])] == [COMMIT, None]
