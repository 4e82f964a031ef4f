from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import hydra
import pytest
from omegaconf import OmegaConf

from slm_energy.config.check import run_config
from slm_energy.config.compose import CONF, compose, compose_grid
from slm_energy.config.groups import LauncherConfig
from slm_energy.config.key import keys_of
from slm_energy.config.keys import FILES, GROUPS, keys, known_keys
from slm_energy.errors import ConfigError
from slm_energy.serialization import to_plain
from slm_energy.testing import CONF as TESTING_CONF

SWEEPS = CONF.parent / "sweeps"
# What a person must give for files that cannot know it.
GIVEN = {
    "load/open": ["load.rate=1"],
    "measurement/wall": [
        "measurement.wall_meter.url=http://127.0.0.1/rpc/Switch.GetStatus?id\\=0",
        "measurement.wall_meter.path=aenergy.total",
        "measurement.wall_meter.unit=Wh",
    ],
    "tracking/server": ["tracking.uri=http://127.0.0.1:5000"],
    "model/codegemma-2b": [f"model.revision={'a' * 40}"],
    "model/stablecode-instruct-alpha-3b": [f"model.revision={'a' * 40}"],
}


COMPLETE = (
    "model/bundled",
    "engine/torch",
    "provider/cpu",
    "measurement/auto",
    "workload/bundled",
    "load/batch",
    "study/default",
    "tracking/local",
    "cache/local",
    "load/batch",
)
"""The files that show every key of their group."""
CHANGED = {
    "engine": {"decode", "python", "options"},
    "engine/torch": {"options"},
    "model": {"revision", "attention", "architecture", "fim"},
    "load/closed": {"name", "mode", "clients"},
    "load/open": {"name", "mode", "rate"},
    "measurement/off": {"mode", "baseline_s"},
    "measurement/strict": {
        "mode",
        "limits.foreign_cpu_pct",
        "limits.steal_pct",
        "limits.throttled_pct",
    },
    "measurement/wall": {"wall_meter"},
    "tracking/offline": {"offline"},
    "tracking/server": {"uri"},
    "workload/humaneval": {"new_tokens"},
}
"""Keys that a file sets, or files of a group may set, to another value than the default."""
ENGINES = {"llama_cpp_server": "openai_server", "vllm": "openai_server"}
ENGINES |= {"vllm_cpu": "openai_server", "sglang": "openai_server"}
"""Ready commands for an engine of another name."""


def group_files() -> list[str]:
    return sorted(
        f"{path.parent.name}/{path.stem}"
        for group in GROUPS
        for path in (CONF / group).glob("*.yaml")
    )


@pytest.mark.parametrize("name", group_files())
def test_every_group_file_composes_and_passes_its_checks(name: str) -> None:
    overrides = [name.replace("/", "="), *GIVEN.get(name, [])]
    config = run_config(compose("config", overrides))
    group, _, file = name.partition("/")
    assert getattr(config, group).name == ENGINES.get(file, file)


def changed_keys(chosen: Any) -> set[str]:
    """The keys of a group whose value is not the default, nested ones dotted."""
    changed = set[str]()
    for key in (key for key in keys_of(type(chosen)) if "." not in key.name and not key.required):
        value = getattr(chosen, key.name)
        if dataclasses.is_dataclass(key.default):
            changed |= {f"{key.name}.{inner}" for inner in changed_keys(value)}
        elif value != key.default:
            changed.add(key.name)
    return changed


@pytest.mark.parametrize("name", group_files())
def test_a_group_file_has_the_defaults_but_for_what_it_is_there_for(name: str) -> None:
    group, _, file = name.partition("/")
    config = run_config(compose("config", [f"{group}={file}", *GIVEN.get(name, [])]))
    changed = changed_keys(getattr(config, group))
    if name in COMPLETE or name in CHANGED:
        assert changed == CHANGED.get(name, set())
    else:
        assert changed <= CHANGED.get(group, set())


@pytest.mark.parametrize("name", COMPLETE)
def test_a_file_that_people_copy_shows_every_key_in_order(name: str) -> None:
    group, _, file = name.partition("/")
    composed = compose("config", [f"{group}={file}"])[group]
    assert list(composed) == known_keys(group)[1]
    for key, value in composed.items():
        path, inner = known_keys(f"{group}.{key}")
        if path != group and value is not None:
            assert list(value) == inner


@pytest.mark.parametrize("name", FILES)
def test_the_file_of_a_verb_has_the_defaults_and_every_key(name: str) -> None:
    needs_study = ("analysis", "export", "recommend", "score")
    given = {"study": "a study"} if name in needs_study else {}
    composed = compose(name, [f"{key}='{value}'" for key, value in given.items()], keys=["study"])
    known = {
        key.name: given.get(key.name, to_plain(key.default))
        for file in (("analysis", "export") if name == "export" else (name,))
        for key in keys(file)
        if "." not in key.name
    }
    groups = ("tracking", "columns", "measurement", "cache")
    assert {key: value for key, value in composed.items() if key not in groups} == known


@pytest.mark.parametrize("path", sorted(SWEEPS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_sweep_composes_and_is_a_multirun(path: Path) -> None:
    with hydra.initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        composed = hydra.compose(path.stem, return_hydra_config=True)
    assert composed.hydra.mode.name == "MULTIRUN"
    assert composed.hydra.sweeper.params
    plain = OmegaConf.to_container(OmegaConf.masked_copy(composed, list(GROUPS)), resolve=True)
    assert isinstance(plain, dict)
    run_config({str(key): value for key, value in plain.items()})


def test_the_configuration_of_the_fakes_composes() -> None:
    with hydra.initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        composed = hydra.compose(
            "config", ["engine=scripted", f"hydra.searchpath=[file://{TESTING_CONF}]"]
        )
    assert composed.engine.options.fail == "never"


def test_a_report_takes_the_name_of_its_study_although_a_group_has_that_name() -> None:
    asked = compose("analysis", ["study='a study'", "margin=0.05"], keys=["study"])
    assert (asked["study"], asked["margin"]) == ("a study", 0.05)
    assert asked["tracking"]["folder"] == "mlruns"
    assert compose("ui", ["port=5001"])["port"] == 5001


def launcher(*words: str) -> LauncherConfig | None:
    """How a command line wants its trials run."""
    return compose_grid(words)[-1].launcher


@pytest.mark.parametrize("mode", [[], ["-m"]])
def test_a_launcher_is_taken_from_hydra_in_a_single_run_and_in_a_grid(mode: list[str]) -> None:
    assert launcher(*mode) is None
    asked = launcher(
        *mode,
        "hydra/launcher=slurm",
        "hydra.launcher.partition=big",
        "hydra.launcher.array_parallelism=7",
        "hydra.launcher.additional_parameters.gres=gpu:1",
    )
    assert asked is not None
    assert (asked.cluster, asked.at_once) == ("slurm", 7)
    assert asked.parameters["partition"] == "big"
    assert asked.parameters["additional_parameters"] == {"exclusive": True, "gres": "gpu:1"}
    assert "account" not in asked.parameters
    processes = launcher(*mode, "hydra/launcher=processes")
    assert processes is not None
    assert (processes.cluster, processes.at_once) == ("local", 1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["hydra.launcher.array_parallelism=0"], r"array_parallelism=0 is out of range: at least"),
        (["hydra.launcher.partitoin=big"], r"hydra\.launcher\.partitoin: no such key"),
        (["hydra.launcher._target_=a.JoblibLauncher"], "JoblibLauncher: choose one of basic, sl"),
    ],
)
def test_a_launcher_that_runs_no_trial_is_one_line(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        launcher("hydra/launcher=slurm", *words)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("config", ["engine=foo"], "engine=foo: there is no such engine; choose one of .*torch"),
        (
            "config",
            ["engine.decod=1"],
            r"engine\.decod: no such key; did you mean engine\.decode\?",
        ),
        ("config", ["foo=1"], "foo: no such key or group"),
        ("config", [f"study.rounds={'9' * 5000}"], r"study\.rounds: a number of more than 300"),
        (
            "config",
            [f"engine.options={'[' * 99}{']' * 99}"],
            r"engine\.options: more than 20 lists",
        ),
        (
            "config",
            ["measurement.limits.steal=1"],
            r"limits\.steal: no such key; did you mean measurement\.limits\.steal_pct\?",
        ),
        (
            "config",
            ["measurement.wall_meter.unit=W"],
            r"measurement\.wall_meter\.unit: measurement\.wall_meter is null here",
        ),
        ("config", ["engine"], "Error parsing override 'engine'"),
        ("config", ["tracking=server"], "tracking.uri is missing: set tracking.uri="),
        ("analysis", [], "study is missing: set study="),
    ],
)
def test_what_cannot_be_composed_is_one_line(name: str, overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        compose(name, overrides)
    assert "\n" not in str(raised.value)


def test_sources_that_are_left_out_are_ids_and_patterns_without_quotes() -> None:
    words = ["measurement.leave_out=[rapl/intel-rapl:0:2,nvml/GPU-?2*]"]
    [config] = compose_grid(words)
    assert config.measurement.leave_out == ("rapl/intel-rapl:0:2", "nvml/GPU-?2*")
