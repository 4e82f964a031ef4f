"""What is composed quickly is what Hydra composes, whatever a person's own files do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from slm_energy.config.combinations import Combinations
from slm_energy.config.compose import compose_grid

GRID = ("-m", "engine=torch,onnx", "provider=cpu,cuda")
GLOBAL = "# @package _global_\nengine: {name: torch}\nmodel: {attention: eager}\n"
SPECIAL = """defaults:
  - config
  - optional tuning@_global_: ${engine}_${provider}
  - _self_
"""


@pytest.fixture
def compositions(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Each grid is composed twice, by us and by Hydra, and compared; how often we asked Hydra."""
    asked: list[int] = []
    ours = Combinations.compose

    def compared(self: Combinations, words: Sequence[Sequence[str]]) -> list[DictConfig]:
        found = ours(self, words)
        asked.append(self._whole.cache_info().currsize)
        for each, config in list(zip(words, found, strict=True))[:: max(1, len(words) // 4)]:
            whole = self._loader.load_sweep_config(self._config, list(each))
            wanted: Any = OmegaConf.to_container(whole, resolve=True)
            del wanted["hydra"]
            assert OmegaConf.to_container(config, resolve=True) == wanted, each
        return found

    monkeypatch.setattr(Combinations, "compose", compared)
    return asked


@pytest.mark.parametrize(
    ("words", "times"),
    [
        ((*GRID, "workload.limit=1,2", "+engine.options.x=5"), 3),
        (("-m", "workload.limit=1,2", "study.seed=1,2"), 1),
        (("-m", "engine=torch,onnx", "workload.limit=1,2"), 2),
    ],
    ids=["groups and values", "values", "one group"],
)
def test_groups_and_values_that_are_apart_are_composed_once(
    compositions: list[int], words: Sequence[str], times: int
) -> None:
    assert len(compose_grid(words)) in (4, 8)
    assert compositions == [times]


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"engine/other.yaml": GLOBAL}, ("-m", "engine=torch,other", "provider=cpu,cuda")),
        (
            {"mine.yaml": SPECIAL, "tuning/onnx_cuda.yaml": "workload: {limit: 9}\n"},
            ("--config-name", "mine", *GRID),
        ),
        (
            {"provider/other.yaml": "defaults: [cuda, _self_]\n"},
            ("-m", "engine=torch,onnx", "provider=cpu,other"),
        ),
    ],
    ids=["a choice that changes another group", "a file for two choices", "a choice with defaults"],
)
def test_what_is_not_apart_is_composed_whole(
    tmp_path: Path, compositions: list[int], files: dict[str, str], words: Sequence[str]
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert len(compose_grid(("--config-dir", str(tmp_path), *words))) == 4
    assert compositions[0] >= 4


def test_groups_of_a_further_folder_are_groups(tmp_path: Path, compositions: list[int]) -> None:
    (tmp_path / "tuning").mkdir()
    (tmp_path / "tuning" / "short.yaml").write_text("# @package workload\nlimit: 7\n")
    words = ("-m", f"hydra.searchpath=[file://{tmp_path}]", "+tuning=short", "engine=torch,onnx")
    assert compose_grid(words)[0].workload.limit == 7
    assert compositions == [2]


def test_a_choice_may_refer_to_a_value_that_is_swept(
    tmp_path: Path, compositions: list[int]
) -> None:
    (tmp_path / "engine").mkdir()
    (tmp_path / "engine" / "other.yaml").write_text("name: torch\nthreads: ${workload.limit}\n")
    words = ("-m", "engine=torch,other", "provider=cpu,cuda", "workload.limit=1,2")
    configs = compose_grid(("--config-dir", str(tmp_path), *words))
    assert {config.engine.threads for config in configs} == {None, 1, 2}
