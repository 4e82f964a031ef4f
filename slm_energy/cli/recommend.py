"""The verb `recommend`: which configuration costs least under conditions, and how sure that is."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence

from slm_energy.cli import key_help
from slm_energy.cli.console import terminal
from slm_energy.cli.study import compose_study
from slm_energy.cli.words import add_words, overrides
from slm_energy.config.check import checked, tracking_group
from slm_energy.config.options import RecommendOptions
from slm_energy.errors import ConfigError

SUMMARY = "name the cheapest configuration under conditions (exit code 1 if none)"

_LIMITS = ("at_least", "at_most")


def configure(parser: argparse.ArgumentParser) -> None:
    """KEY=VALUE words only."""
    add_words(parser)
    examples = (
        ("slm-energy recommend study=demo", "the cheapest configuration per solved task"),
        (
            "slm-energy recommend study=demo at_least.pass_at_1=0.3 at_most.latency/e2e_p95_s=2",
            "of those that solve 30 % of the tasks within 2 s",
        ),
    )
    parser.epilog = key_help.help_text(examples, ("recommend", "tracking"))


def run(arguments: argparse.Namespace) -> int:
    """Recommend and print; 1 if nothing meets the conditions.

    Raises:
        ConfigError: an option is not valid, or a condition names no metric of the study.
        TrackingError: there is no such store or study.
        AnalysisError: the trials cannot be compared.
    """
    from slm_energy.analysis.render.solved_tables import candidates
    from slm_energy.analysis.render.terminal import print_grid, print_sentences
    from slm_energy.running.report import study_recommendations
    from slm_energy.store.tracking import open_existing

    composed = compose_study("recommend", gathered(overrides(arguments)), _LIMITS)
    tracking = tracking_group(composed)
    options, console = checked(RecommendOptions, composed, "recommend"), terminal()
    made = study_recommendations(open_existing(tracking), options)
    for each in made.recommendations:
        print_sentences(each.sentences, console)
        print_grid(candidates(made.result, each), console)
    for gap in made.gaps:
        console.print(gap, style="yellow", soft_wrap=True, highlight=False, markup=False)
    return 0 if any(each.eligible for each in made.recommendations) else 1


def gathered(words: Sequence[str]) -> list[str]:
    """The words with all `at_least.NAME=VALUE` in one mapping, because a key has no slash in Hydra.

    Raises:
        ConfigError: a limit has no name.
    """
    limits: dict[str, list[str]] = {}
    rest = []
    for word in words:
        match = re.fullmatch(r"\+{0,2}(at_least|at_most)\.([^=]*)=(.*)", word, re.DOTALL)
        if match is None:
            rest.append(word)
            continue
        key, name, value = match.groups()
        if not name or not value:
            raise ConfigError(f"{word}: write {key}.METRIC=NUMBER, such as {key}.pass_at_1=0.3")
        limits.setdefault(key, []).append(f"{name}:{value}")
    return [*rest, *(f"{key}={{{','.join(pairs)}}}" for key, pairs in limits.items())]
