"""What the parsers of all verbs share: errors of one line, KEY=VALUE, Hydra's own flags."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from slm_energy.errors import ConfigError, did_you_mean


class Parser(argparse.ArgumentParser):
    """An `argparse` parser whose options and words come in any order.

    A mistake is a `ConfigError` of one line, and not a usage text.
    """

    def __init__(self, **settings: Any) -> None:
        formatter = argparse.RawDescriptionHelpFormatter
        super().__init__(formatter_class=formatter, allow_abbrev=False, **settings)

    def parse_words(self, words: Sequence[str]) -> argparse.Namespace:
        """Parse what follows the verb.

        Raises:
            ConfigError: an option is unknown or has a wrong value.
        """
        arguments, unknown = self.parse_known_intermixed_args(words)
        if unknown:
            option = unknown[0].partition("=")[0]
            advice = did_you_mean(
                option, self._option_string_actions, otherwise=f"see {self.prog} --help"
            )
            raise ConfigError(f"no option {option!r}: {advice}")
        return arguments

    def error(self, message: str) -> NoReturn:
        """Raise what `argparse` would print.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(f"{message}; see {self.prog} --help")


def add_words(parser: argparse.ArgumentParser) -> None:
    """Accept KEY=VALUE words."""
    parser.add_argument(
        "words", nargs="*", metavar="KEY=VALUE", help="set a key, or choose a file with GROUP=NAME"
    )


def overrides(arguments: argparse.Namespace) -> list[str]:
    """The KEY=VALUE words of a verb that accepts no others.

    Raises:
        ConfigError: a word is something else.
    """
    for word in arguments.words:
        if not is_override(word):
            raise ConfigError(
                f"{word!r} is not KEY=VALUE; a verb comes first: slm-energy VERB [KEY=VALUE ...]"
            )
    return list(arguments.words)


def is_override(word: str) -> bool:
    """Whether it is for Hydra: KEY=VALUE, or ~KEY, which removes a key."""
    return "=" in word or word.startswith("~")


def add_hydra(parser: argparse.ArgumentParser) -> None:
    """Accept KEY=VALUE words and Hydra's own flags."""
    add_words(parser)
    group = parser.add_argument_group("options of Hydra")
    mode = group.add_mutually_exclusive_group()
    mode.add_argument(
        "-m", "--multirun", action=_ForHydra, nargs=0, help="every combination of KEY=A,B"
    )
    mode.add_argument("-r", "--run", action=_ForHydra, nargs=0, help=argparse.SUPPRESS)
    mode.add_argument(
        "-c",
        "--cfg",
        action=_ForHydra,
        choices=("job", "hydra", "all"),
        help="print the composed configuration and do nothing else",
    )
    mode.add_argument(
        "-i",
        "--info",
        action=_ForHydra,
        nargs="?",
        const="all",
        choices=("all", "config", "defaults", "defaults-tree", "plugins", "searchpath"),
        metavar="WHAT",
        help="print how it was composed: %(choices)s",
    )
    mode.add_argument(
        "-sc",
        "--shell-completion",
        action=_ForHydra,
        nargs=0,
        help="with install=SHELL or uninstall=SHELL: complete keys in bash, fish or zsh",
    )
    group.add_argument(
        "-cn", "--config-name", action=_ForHydra, metavar="NAME", help="a ready sweep, such as demo"
    )
    group.add_argument(
        "-cd",
        "--config-dir",
        action=_ForHydra,
        metavar="DIR",
        help="a folder of your own files DIR/GROUP/NAME.yaml",
    )
    group.add_argument("-cp", "--config-path", action=_ForHydra, help=argparse.SUPPRESS)
    group.add_argument(
        "-p", "--package", action=_ForHydra, metavar="GROUP", help="with --cfg: print only GROUP"
    )
    group.add_argument(
        "--resolve", action=_ForHydra, nargs=0, help="with --cfg: resolve interpolations"
    )
    group.add_argument("--hydra-help", action=_ForHydra, nargs=0, help=argparse.SUPPRESS)
    group.add_argument("--experimental-rerun", action=_ForHydra, help=argparse.SUPPRESS)
    parser.set_defaults(hydra_flags=())


def hydra_words(arguments: argparse.Namespace) -> list[str]:
    """What Hydra gets: its flags, then all KEY=VALUE in one piece, as its own parser needs them.

    Raises:
        ConfigError: a word is neither, or a flag lacks the one that it belongs to.
    """
    flags = list(arguments.hydra_flags)
    if "--resolve" in flags and "--cfg" not in flags:
        raise ConfigError("--resolve belongs to --cfg: add --cfg job")
    return [*flags, *overrides(arguments)]


class _ForHydra(argparse.Action):
    """Keeps a flag and its value as Hydra will read them."""

    def __init__(self, option_strings: Sequence[str], dest: str, **settings: Any) -> None:
        super().__init__(option_strings, dest="hydra_flags", **settings)

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        value = [values] if isinstance(values, str) else []
        namespace.hydra_flags = (*namespace.hydra_flags, self.option_strings[-1], *value)
