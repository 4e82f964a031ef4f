"""Hydra: from command-line words to checked configurations.

Only this module, `combinations`, `foreign_files` and the plugin shim (`hydra_plugins/`) import
Hydra. An error that Hydra prints over several lines becomes one `ConfigError`.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import yaml

from slm_energy.config.check import run_config
from slm_energy.config.composition_errors import one_line
from slm_energy.config.foreign_files import foreign_files_checked, refuse_deep
from slm_energy.config.groups import LauncherConfig, RunConfig
from slm_energy.config.keys import GROUPS
from slm_energy.errors import ConfigError, SlmEnergyError
from slm_energy.places import file_errors

CONF = Path(__file__).parents[1] / "conf"

_CLUSTERS: dict[str, Literal["slurm", "local"]] = {
    "SlurmLauncher": "slurm",
    "LocalLauncher": "local",
}
"""Classes of Hydra's submitit launcher, and what they submit to."""
_FOLDERS = ("hydra.run.dir", "hydra.sweep.dir")
"""Keys of folders that Hydra makes."""
_DIGITS = 300
"""No number needs more, and Python reads at most 4,300."""
_NO_TOKEN = r"[^\x00-\x7d\x7f]"
"""What Hydra's grammar has no token for: characters beyond ASCII, and `~`."""
_MAY_BE_NEW = re.compile(
    r"[\w.]+=\{|columns\.(metrics|repetition|decimal|thousands)="
    r"|hydra\.launcher\.additional_parameters\."
)
"""Words for what a file may lack: keys of a mapping, those that a refused table asks for, and
options of sbatch. They are checked after composition."""
_NOT_ASKED = (
    "submitit_folder", "wait_for_completion", "max_num_timeout", "nodes", "tasks_per_node",
    "stderr_to_stdout",
)  # fmt: skip
"""Settings that are the same for every sweep: it waits, and a trial is one process on one node."""


def compose_grid(arguments: Sequence[str]) -> list[RunConfig]:
    """Compose one configuration, or with `-m` a grid.

    Args:
        arguments: Hydra's command line.

    Returns:
        One configuration for each combination of what is swept. None where Hydra only printed
        something (`--cfg job`).

    Raises:
        ConfigError: Hydra cannot compose it, or a key or value is not valid.
    """
    import hydra
    from hydra.errors import ConfigCompositionException

    configs: list[RunConfig] = []
    errors: list[SlmEnergyError] = []

    def check(composed: Any) -> None:
        every = composed if isinstance(composed, list) else [composed]
        try:
            launcher, named = _launcher(), _named()
            configs.extend(run_config(_plain(config), launcher, named) for config in every)
        except SlmEnergyError as error:
            # Hydra would print a line of its own before it passes an exception on.
            errors.append(error)

    app = hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(check)

    def run_hydra(words: Sequence[str]) -> None:
        with _command_line(words):
            app()

    # Hydra's parser wants all KEY=VALUE in one piece; people put -m anywhere.
    words = sorted(arguments, key=lambda word: word not in ("-m", "--multirun"))
    words = [parsable(word) for word in words]
    assigned = [(key, value) for key, _, value in (word.partition("=") for word in words)]
    folders = [(key, value) for key, value in assigned if key in _FOLDERS]
    with file_errors(folders), _clear_errors(tuple(GROUPS)), foreign_files_checked():
        try:
            run_hydra(words)
        except ConfigCompositionException as error:
            if "Could not override" not in str(error):
                raise
            # The group's default choice lacks the key; those of a sweep may have it.
            try:
                run_hydra([_for_each_choice(word) for word in words])
            except ConfigCompositionException as second:
                if "requires --multirun" in str(second):  # a single run: there is no sweep
                    raise error from error.__cause__
                raise
    if errors:
        raise errors[0]
    return configs


def _for_each_choice(word: str) -> str:
    """Make `GROUP.KEY=VALUE` a sweep over one value.

    Hydra applies it then to each choice of a swept group, and not to the group's default.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import OverrideType

    key, equals, value = word.partition("=")
    if not equals or key.partition(".")[0] not in GROUPS or "." not in key:
        return word
    [override] = OverridesParser.create().parse_overrides([word])
    if override.type is not OverrideType.CHANGE or override.is_sweep_override():
        return word
    if override.value() is None:
        value = "'${oc.decode:null}'"  # choice() accepts no null
    return f"{key}=choice({value or repr('')})"


def parsable(word: str) -> str:
    """Quote what Hydra has no token for, outside quotes and mappings.

    What a file may lack gets the sign with which Hydra adds it.

    Raises:
        ConfigError: Python's or Hydra's parser would fail with an error of its own.
    """
    key, equals, value = word.partition("=")
    if re.search(rf"\d{{{_DIGITS}}}", value):
        raise ConfigError(f"{key}: a number of more than {_DIGITS} digits")
    refuse_deep(((char in "[{(") - (char in "]})") for char in value), key)
    if _MAY_BE_NEW.match(word):
        key, word = f"++{key}", f"++{word}"
    if not re.search(_NO_TOKEN, value) or word.startswith("-") or set(value) & set("'\"{}"):
        return word
    return key + equals + re.sub(rf"[^][,()]*{_NO_TOKEN}[^][,()]*", r'"\g<0>"', value)


@contextmanager
def _command_line(words: Sequence[str]) -> Iterator[None]:
    """What Hydra reads from its process; afterwards all is as it was."""
    argv, full_error = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv = ["slm-energy", *words]
    # Makes Hydra raise what it would otherwise print over several lines.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        sys.argv = argv
        if full_error is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = full_error


def compose(name: str, overrides: Sequence[str], *, keys: Sequence[str] = ()) -> dict[str, Any]:
    """Compose conf/NAME.yaml with overrides into plain values.

    Args:
        name: the file.
        overrides: as on Hydra's command line.
        keys: keys of the file that a group has for its name too; Hydra would take an override of
            them for a choice in that group.

    Raises:
        ConfigError: Hydra cannot compose it.
    """
    import hydra
    from hydra.core.override_parser.overrides_parser import OverridesParser

    with (
        _clear_errors(_top(name)),
        foreign_files_checked(),
        hydra.initialize_config_dir(version_base="1.3", config_dir=str(CONF)),
    ):
        words = [parsable(word) for word in overrides]
        parsed = OverridesParser.create().parse_overrides(words)
        others = [str(each.input_line) for each in parsed if each.key_or_group not in keys]
        config = hydra.compose(name, others)
        for override in parsed:
            if override.key_or_group in keys:
                config[override.key_or_group] = override.value()
        return _plain(config)


def _top(name: str) -> tuple[str, ...]:
    """The groups and keys at the top of conf/NAME.yaml."""
    file = yaml.safe_load((CONF / f"{name}.yaml").read_text(encoding="utf-8"))
    files = [each for each in file.pop("defaults") if each != "_self_"]
    groups = [group for each in files for group in (_top(each) if isinstance(each, str) else each)]
    return (*groups, *file)


def _named() -> list[str]:
    """Groups whose name the user has set, on the command line or in the file of a sweep."""
    from hydra.core.hydra_config import HydraConfig

    hydra = HydraConfig.get()
    words = [*(hydra.sweeper.get("params") or ()), *hydra.overrides.task]
    keys = [word.partition("=")[0].lstrip("+") for word in words]
    return [key.removesuffix(".name") for key in keys if key.endswith(".name")]


def _launcher() -> LauncherConfig | None:
    """What `hydra/launcher` asks for, once Hydra has composed it; None for Hydra's own `basic`.

    Raises:
        ConfigError: it is another plugin's, or lets no job run.
    """
    from hydra.core.hydra_config import HydraConfig

    asked = _plain(HydraConfig.get().launcher)
    launcher = str(asked.pop("_target_")).rpartition(".")[2]
    if launcher == "BasicLauncher":
        return None
    if launcher not in _CLUSTERS:
        raise ConfigError(f"hydra/launcher={launcher}: choose one of basic, slurm, processes")
    at_once = int(asked.pop("array_parallelism", 1))
    if at_once < 1:
        raise ConfigError(f"hydra.launcher.array_parallelism={at_once} is out of range: at least 1")
    parameters = {k: v for k, v in asked.items() if v is not None and k not in _NOT_ASKED}
    return LauncherConfig(cluster=_CLUSTERS[launcher], at_once=at_once, parameters=parameters)


def _plain(config: Any) -> dict[str, Any]:
    from omegaconf import OmegaConf
    from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

    try:
        plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        raise ConfigError(f"{error.full_key} is missing: set {error.full_key}=...") from error
    except OmegaConfBaseException as error:
        # Here, because Hydra prints a line of its own before it passes an exception on.
        raise ConfigError(one_line(error, tuple(GROUPS))) from error
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


@contextmanager
def _clear_errors(names: Sequence[str]) -> Iterator[None]:
    """Turn Hydra's errors into one line; `names` as in `one_line`."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(one_line(error, names)) from error
