"""Compose many combinations of overrides to what Hydra composes, without its price for each.

Hydra reads and merges some twenty files for every combination: 60 ms, a minute for a thousand
cells. Two things of it need not be done each time:

    a value (`workload.limit=3`) is set on what was composed without it, as Hydra itself does
    a choice (`engine=onnx`) decides its own group only: each is composed once, not each with each

The second holds for groups of plain files. It is looked at, and where it does not hold (a choice
changes another group, a defaults list has `${...}`) every combination is composed whole.
"""

import copy
import functools
from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import ConfigCompositionException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from slm_energy.errors import ConfigError

Words = tuple[str, ...]


class Combinations:
    """The combinations of one sweep."""

    def __init__(self, loader: Any, config: DictConfig) -> None:
        """Compose nothing yet.

        Args:
            loader: Hydra's.
            config: what Hydra composed of the command line, without what is swept.
        """
        self._loader = loader
        self._config = config
        self._parser = OverridesParser.create(config_loader=loader)
        self._parsed = functools.cache(self._parse)
        self._whole = functools.cache(self._compose)
        # Which groups there are in further folders only Hydra knows, while it composes.
        self._further = bool(config.hydra.searchpath)

    def compose(self, combinations: Sequence[Sequence[str]]) -> list[DictConfig]:
        """One configuration for each list of overrides, without Hydra's own part.

        Raises:
            ConfigError: a key is set that only some choices of its group have.
        """
        choices = [tuple(w for w in words if not self._is_value(w)) for words in combinations]
        single = self._single(list(dict.fromkeys(choices)))
        composed = []
        for words, choice in zip(combinations, choices, strict=True):
            config = self._chosen(choice, choices[0], single)
            for value in (self._parsed(word) for word in words if self._is_value(word)):
                try:
                    self._loader._apply_overrides_to_config([value], config)
                except ConfigCompositionException as error:
                    if "Could not override" in str(error):
                        self._refuse_partial_key(value, choices, single)
                    raise
            composed.append(config)
        return composed

    def _refuse_partial_key(
        self, override: Override, choices: Sequence[Words], single: Mapping[str, Words]
    ) -> None:
        """Name the choices of a group that lack the key of an override, where others have it.

        Raises:
            ConfigError: others have it.
        """
        key = override.key_or_group
        group, (parent, _, name) = key.partition(".")[0], key.rpartition(".")
        having, lacking = list[str](), list[str]()
        for choice in dict.fromkeys(choices):
            keys = OmegaConf.select(self._chosen(choice, choices[0], single), parent)
            has_key = OmegaConf.is_dict(keys) and name in list(keys)  # ??? counts too
            (having if has_key else lacking).append(self._name_of_choice(group, choice))
        if having:
            lack, have = ", ".join(dict.fromkeys(lacking)), ", ".join(dict.fromkeys(having))
            raise ConfigError(
                f"{key}: {group}={lack} does not have this key, {group}={have} does: take {lack}"
                f" out of the grid, or try to add it with ++{override.input_line}"
            )

    def _name_of_choice(self, group: str, choice: Words) -> str:
        chosen = {self._parsed(word).key_or_group: self._parsed(word).value() for word in choice}
        return str(chosen.get(group, self._config.hydra.runtime.choices.get(group)))

    def _parse(self, word: str) -> Override:
        [override] = self._parser.parse_overrides([word])
        return override

    def _is_value(self, word: str) -> bool:
        override = self._parsed(word)
        if self._further or override.is_hydra_override():
            return False
        return isinstance(override.value(), dict) or not self._is_group(override.key_or_group)

    def _is_group(self, key: str) -> bool:
        return bool(self._loader.repository.group_exists(key))

    def _compose(self, words: Words) -> DictConfig:
        whole = self._loader.load_sweep_config(self._config, list(words))
        config = OmegaConf.masked_copy(whole, [str(key) for key in whole if key != "hydra"])
        OmegaConf.set_struct(config, True)
        return config

    def _single(self, choices: Sequence[Words]) -> dict[str, Words]:
        """Each choice that the first combination has not, and that combination with it alone.

        Empty where every combination is to be composed whole.
        """
        first = choices[0]
        single = {
            word: (*first[:place], word, *first[place + 1 :])
            for words in choices
            for place, word in enumerate(words)
            if word != first[place]
        }
        fewer = len(single) + 1 < len(choices)
        return single if fewer and self._are_apart(first, single) else {}

    def _chosen(self, choice: Words, first: Words, single: Mapping[str, Words]) -> DictConfig:
        """A fresh copy of what these choices compose to."""
        if not single:
            return copy.deepcopy(self._whole(choice))
        config = copy.deepcopy(self._whole(first))
        for word in choice:
            if word in single:
                key = self._parsed(word).key_or_group
                config[key] = self._whole(single[word])[key]
        return config

    def _are_apart(self, first: Words, single: Mapping[str, Words]) -> bool:
        """Whether each choice decides its own group, whatever the others are.

        Args:
            first: the choices of one combination.
            single: another choice to `first` with only that one changed.
        """
        chosen = {word: self._parsed(word) for word in single}
        if self._further or not all(_is_plain(override) for override in chosen.values()):
            return False
        repository, name = self._loader.repository, self._config.hydra.job.config_name
        listed = self._loader.compute_defaults_list(
            name, [*self._config.hydra.overrides.hydra, *first], RunMode.RUN
        )
        for path in {each.config_path for each in listed.defaults}:
            defaults = repository.load_config(path).defaults_list
            if any("${" in str(value) for each in defaults for value in vars(each).values()):
                return False
        for override in chosen.values():
            loaded = repository.load_config(f"{override.key_or_group}/{override.value()}")
            if loaded is None or loaded.defaults_list:
                return False
        return all(
            _without(self._whole(first), chosen[word].key_or_group)
            == _without(self._whole(words), chosen[word].key_or_group)
            for word, words in single.items()
        )


def _is_plain(override: Override) -> bool:
    """Whether it is `group=choice` of a group that stands at the top."""
    change = override.is_add() or override.is_force_add() or override.is_delete()
    choice = isinstance(override.value(), str) and "/" not in override.key_or_group
    return choice and not change and override.package is None


def _without(config: DictConfig, group: str) -> dict[str, Any]:
    plain = OmegaConf.to_container(config)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items() if key != group}
