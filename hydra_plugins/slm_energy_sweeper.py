"""Hydra finds plugins only in this namespace. The grid comes from here, the plan from us."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from slm_energy.config.combinations import Combinations
from slm_energy.config.compose import parsable
from slm_energy.config.sources import is_source, model_of


@dataclass
class SlmEnergySweeperConf:
    """Hydra's schema of `hydra.sweeper`."""

    _target_: str = "hydra_plugins.slm_energy_sweeper.SlmEnergySweeper"
    params: dict[str, str] = field(default_factory=dict)


ConfigStore.instance().store(
    group="hydra/sweeper", name="slm_energy", node=SlmEnergySweeperConf, provider="slm_energy"
)


class SlmEnergySweeper(Sweeper):
    """Expands the grid and hands all of its configurations to the task function at once.

    The task function decides order, resumes and isolates trials. Of Hydra's launcher it takes the
    settings, from `HydraConfig` as in a single run.
    """

    def __init__(self, params: dict[str, str]) -> None:
        self._params = params

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Keep what `sweep` needs; Hydra calls this once."""
        self._loader = hydra_context.config_loader
        self._task_function = task_function
        self._config = config
        HydraConfig.instance().set_config(config)

    def sweep(self, arguments: list[str]) -> Any:
        """Compose every combination and call the task function with the list.

        Args:
            arguments: overrides from the command line; they replace those of a sweep file by key,
                so that a ready sweep can be narrowed.
        """
        parser = OverridesParser.create(config_loader=self._loader)
        swept = [parsable(f"{key}={value}") for key, value in self._params.items()]
        overrides = parser.parse_overrides([*swept, *arguments])
        [combinations] = BasicSweeper.split_arguments(overrides, max_batch_size=None)
        return self._task_function(Combinations(self._loader, self._config).compose(combinations))


class SlmEnergySearchPath(SearchPathPlugin):
    """Lets `--config-name demo` find the sweeps that come with the package."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append the folder of sweeps."""
        sweeps = Path(__file__).parent.parent / "slm_energy" / "sweeps"
        search_path.append(provider="slm_energy", path=f"file://{sweeps}")
        # Before the first `schema` Hydra inserts the folder of --config-dir.
        search_path.append(provider="schema", path=f"{SourceChoices.scheme()}://")


class SourceChoices(ConfigSource):
    """Lets a folder or hub id be a choice of the group `model`; files with that name come first."""

    @staticmethod
    def scheme() -> str:
        """What its place in the search path begins with."""
        return "source"

    def load_config(self, config_path: str) -> ConfigResult:
        """The keys of a model with that source."""
        config = OmegaConf.create(model_of(config_path.partition("/")[2]))
        return ConfigResult(self.provider, config_path, config, header={"package": None})

    def is_config(self, config_path: str) -> bool:
        """Whether it is such a choice."""
        group, _, choice = config_path.partition("/")
        return group == "model" and is_source(choice)

    def is_group(self, config_path: str) -> bool:
        """It has no group of its own."""
        return False

    def available(self) -> bool:
        """It needs no file."""
        return True

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """Sources cannot be listed."""
        return []
