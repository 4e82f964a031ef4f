"""What is composed quickly is what Hydra composes, whatever a person's own files do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from slm_energy.config.combinations import Combinations
from slm_energy.config.compose import compose_grid
from slm_energy.errors import ConfigError
from slm_energy.testing import CONF as TESTING_CONF

GRID = ("-m", "engine=torch,onnx", "provider=cpu,cuda")
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
        (
            {"mine.yaml": SPECIAL, "tuning/onnx_cuda.yaml": "workload: {limit: 9}\n"},
            ("--config-name", "mine", *GRID),
        ),
        (
            {"provider/other.yaml": "defaults: [cuda, _self_]\n"},
            ("-m", "engine=torch,onnx", "provider=cpu,other"),
        ),
    ],
    ids=["a file for two choices", "a choice with defaults"],
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


MIXED = ("-m", "engine=vllm,openai_server")


def contexts(*words: str) -> list[Any]:
    """`engine.options.context` of each configuration."""
    return [config.engine.options["context"] for config in compose_grid(words)]


def test_an_option_that_every_engine_of_a_grid_has_is_set_for_all() -> None:
    assert contexts(*MIXED, "engine.options.context=2048") == [2048, 2048]
    assert contexts(*MIXED, "engine.options.context=2048", "provider=cpu,cuda") == [2048] * 4
    assert contexts(*MIXED, "engine.options.context=1024,2048") == [1024, 2048] * 2
    assert contexts(*MIXED) == [4096, None]


def test_text_numbers_and_nothing_keep_their_types_as_options_of_a_grid() -> None:
    for text, value in (("''", ""), ("", ""), ("null", None), ("'a, b'", "a, b"), ("on", "on")):
        configs = compose_grid((*MIXED, f"engine.options.server={text}"))
        assert [config.engine.options["server"] for config in configs] == [value] * 2


def test_a_ready_sweep_takes_an_option_of_the_engines_that_it_is_narrowed_to() -> None:
    words = ("--config-name", "cpu_engines", "engine=onnx", "engine.options.spinning=off")
    configs = compose_grid((*words, "engine.decode=session"))
    assert [config.engine.options["spinning"] for config in configs] == ["off"]


@pytest.mark.parametrize(
    ("words", "lacking", "having"),
    [
        (("engine=vllm,torch,openai_server", "engine.options.context=2048"), "torch",
         "vllm, openai_server"),
        (("engine=onnx,torch,openvino", "engine.options.spinning=off,on"), "torch, openvino",
         "onnx"),
        (("engine=scripted,onnx", "engine.options.token_s=0.1"), "onnx", "scripted"),
        (("engine=scripted,onnx", "provider=cpu,cuda", "engine.options.token_s=0.1"), "onnx",
         "scripted"),
        (("engine=vllm,openai_server", "engine.options.url=http://127.0.0.1"), "vllm",
         "openai_server"),
        (("measurement=wall,auto", "measurement.wall_meter.unit=W"), "auto", "wall"),
    ],
    ids=["one lacks it", "one has it", "fake", "two groups", "same runtime", "another group"],
)  # fmt: skip
def test_an_option_that_only_some_engines_of_a_grid_have_is_refused_with_their_names(
    words: Sequence[str], lacking: str, having: str
) -> None:
    group, key = words[0].partition("=")[0], words[-1].partition("=")[0]
    with pytest.raises(ConfigError) as raised:
        compose_grid(("--config-dir", str(TESTING_CONF), "-m", *words))
    assert str(raised.value).startswith(
        f"{key}: {group}={lacking} does not have this key, {group}={having} does: take {lacking}"
        f" out of the grid, or try to add it with ++{key}="
    )


def test_an_option_that_is_added_keeps_its_meaning() -> None:
    words = ("-m", "engine=torch,onnx")
    added = compose_grid((*words, "+engine.options.extra=1"))
    assert [config.engine.options["extra"] for config in added] == [1, 1]
    assert contexts("-m", "engine=torch,vllm", "++engine.options.context=7") == [7, 7]
    with pytest.raises(ConfigError, match="An item is already at"):
        compose_grid((*MIXED, "+engine.options.ready_s=1"))
