"""What a configuration file from somebody else may not do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from slm_energy.config.compose import compose, compose_grid
from slm_energy.errors import ConfigError

Write = Callable[[str, str], None]
SECRET = "SECRET_OF_A_TEST"


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write a file into a folder of somebody's configurations."""
    monkeypatch.setenv(SECRET, "kept-secret")

    def write(name: str, text: str) -> None:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)

    return write


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: !!python/object/apply:os.mkdir [made]", "line 1: a tag of YAML is not allowed"),
        ("name: torch\ndtype: !!binary aGVsbG8=", "line 2: a tag of YAML is not allowed"),
        ("name: !own torch", "a tag of YAML is not allowed"),
        ("name: [", "is not valid YAML: while parsing"),
        (f"name: {'[' * 1000}{']' * 1000}", "more than 20 lists or mappings inside each other"),
        ("# @package _global_\nstudy: {name: x}", "@package _global_ is not allowed"),
        ("  #  @package _global_.study\nname: x", "@package _global_.study is not allowed"),
        ("# @package hydra\nrun: {dir: made}", "@package hydra is not allowed"),
        ("defaults: [{/study@_global_: default}]\nname: x", "@_global_ is not allowed"),
    ],
)
@pytest.mark.parametrize("mode", [(), ("-m", "provider=cpu,cuda")])
def test_a_file_sets_the_keys_of_its_own_group_as_plain_values(
    mode: tuple[str, ...], text: str, message: str, write: Write, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    write("engine/theirs.yaml", text + "\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"engine/theirs\.yaml") as refused:
        compose_grid(["--config-dir", str(tmp_path), *mode, "engine=theirs"])
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
    assert [path.name for path in tmp_path.iterdir()] == ["engine"]


@pytest.mark.parametrize("resolver", ["oc.env", "oc.select", "oc.create"])
def test_no_file_reads_the_environment(
    resolver: str, write: Write, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write("study/theirs.yaml", f"name: ${{{resolver}:{SECRET}}}\n")
    with pytest.raises(ConfigError) as refused:
        compose_grid(["--config-dir", str(tmp_path), "study=theirs"])
    assert str(refused.value).startswith(f"study.name: ${{{resolver}:...}} is not available")
    printed = capfd.readouterr()
    assert printed.out + printed.err == ""


def test_a_mapping_of_columns_is_such_a_file(write: Write, tmp_path: Path) -> None:
    place = f"hydra.searchpath=[file://{tmp_path}]"
    words = ["data=x.csv", "study=null", "columns=theirs", place]
    write("columns/theirs.yaml", f"source: ${{oc.env:{SECRET}}}\n")
    with pytest.raises(ConfigError, match=r"columns.source: \$\{oc.env:...\} is not available"):
        compose("analysis", words, keys=["study"])
    write("columns/theirs.yaml", "# @package _global_\nout: /elsewhere\n")
    with pytest.raises(ConfigError, match="@package _global_ is not allowed"):
        compose("analysis", words, keys=["study"])
    write("columns/theirs.yaml", "source: a paper\n")
    assert compose("analysis", words, keys=["study"])["columns"]["source"] == "a paper"


def test_other_users_of_hydra_in_this_process_keep_their_resolvers() -> None:
    compose("ui", [])
    assert OmegaConf.create({"key": "${oc.env:HOME}"}).key
