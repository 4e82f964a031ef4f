"""The plan of a package, run again by the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from slm_energy.errors import ConfigError
from slm_energy.replication import archive, reproduce
from tests.conftest import Command, refusal, trials


def test_words_of_a_run_change_the_plan_of_a_package(packed: Path) -> None:
    asked = reproduce.read(packed, ["study.rounds=2", "measurement.serve_s=3", "tracking.folder=x"])
    assert len(asked.configs) == len(asked.cells) == 2
    assert {c.engine.options["token_s"] for c in asked.configs} == {0.001, 0.002}
    for config in asked.configs:
        assert (config.study.name, config.study.rounds) == ("paper-reproduced", 2)
        assert config.study.reference == "scripted"
        assert config.measurement.serve_s == 3
        assert config.measurement.target_error == 0.05
        assert config.tracking.folder == "x"
    [config, _] = reproduce.read(packed, ["model.weights=random", "measurement=off"]).configs
    assert config.model.weights == "random"
    assert config.measurement.mode == "off"


def test_a_group_chooses_among_the_cells(packed: Path) -> None:
    assert len(reproduce.read(packed, ["engine=torch,scripted"]).configs) == 2
    with pytest.raises(ConfigError, match="engine=torch: the package has no such cell"):
        reproduce.read(packed, ["engine=torch"])


def test_a_package_that_was_changed_is_not_run(package: Path) -> None:
    (package / "README.md").write_text("another study")
    with pytest.raises(ConfigError, match=r"README\.md is not as .* slm-energy verify"):
        reproduce.read(package, [])


def test_the_answer_is_a_table_and_a_sentence_for_each_verdict(
    tmp_path: Path, slm_energy: Command, packed: Path
) -> None:
    archive.pack(packed, tmp_path / "paper.zip")
    again = slm_energy(
        "reproduce", "paper.zip", "study.rounds=1", "measurement.mode=off", "study.reference=null",
        quick=False,
    )  # fmt: skip
    assert "paper-reproduced" in "".join(p.name for p in (tmp_path / "mlruns/artifacts").iterdir())
    assert len(trials(tmp_path, "paper-reproduced")) == 2
    assert "latency p50" in again.stdout
    assert "not reproducible here: this machine has no energy per output token" in again.stdout
    assert again.returncode == 1
    assert refusal(slm_energy("reproduce", quick=False)).endswith(
        "name one package: slm-energy reproduce PACKAGE [KEY=VALUE ...]"
    )
