"""The verb `metrics`: name, unit, better direction, meaning and origin of each metric."""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import re
import textwrap
from collections.abc import Sequence

from slm_energy.cli import key_help
from slm_energy.cli.console import terminal
from slm_energy.errors import ConfigError, did_you_mean
from slm_energy.metric_catalog.catalog import GROUPS, METRICS, PLACEHOLDERS, find
from slm_energy.metric_catalog.definition import MetricDefinition

SUMMARY = "list the metrics of a trial: name, unit, better direction, meaning, origin"

_NOTE = (
    "The verb reads no keys. The names are those in MLflow, in trials.parquet and in"
    " slm-energy report metrics=[NAME,...]."
)


def configure(parser: argparse.ArgumentParser) -> None:
    """A word to search for, and `--json`."""
    parser.add_argument(
        "word",
        nargs="?",
        metavar="WORD",
        help="show only metrics with WORD in their name, title or meaning; or the NAME of one",
    )
    parser.add_argument("--json", action="store_true", help="print a JSON list, bounds included")
    examples = (
        ("slm-energy metrics", "every metric, group by group"),
        ("slm-energy metrics ttft", "those with the word in name, title or meaning"),
    )
    parser.epilog = key_help.help_text(examples, note=_NOTE)


def run(arguments: argparse.Namespace) -> int:
    """Print the metrics that match.

    Raises:
        ConfigError: none does.
    """
    metrics = METRICS if arguments.word is None else matching(arguments.word)
    if arguments.json:
        print(json.dumps([_plain(metric) for metric in metrics], indent=2, ensure_ascii=False))
    else:
        _show([metric for metric in metrics if not metric.bound] or metrics)
    return 0


def matching(word: str) -> Sequence[MetricDefinition]:
    """The metric of this name, else all in whose name, title or meaning the word occurs.

    Raises:
        ConfigError: there is none.
    """
    named = find(word)
    if named is not None:
        return [named]
    metrics = [
        metric
        for metric in METRICS
        if word.lower() in f"{metric.name} {metric.title} {metric.meaning}".lower()
    ]
    if not metrics:
        parts = {part for metric in METRICS for part in re.findall(r"[a-z0-9]+", metric.name)}
        everything = "slm-energy metrics lists them all"
        advice = did_you_mean(word.lower(), sorted(parts), otherwise=everything)
        raise ConfigError(
            f"metrics {word}: no metric has this word in its name or meaning; {advice}"
        )
    return metrics


def _plain(metric: MetricDefinition) -> dict[str, object]:
    unit = {"group": metric.group, "unit": metric.unit.stored}
    return {"name": metric.name, **unit, **dataclasses.asdict(metric)}


def _show(metrics: Sequence[MetricDefinition]) -> None:
    from rich.text import Text

    console = terminal()
    indent = " " * 6
    widest = max(len(metric.name) for metric in metrics)
    for group, members in itertools.groupby(metrics, key=lambda metric: metric.group):
        console.print(Text.assemble((group, "bold underline"), f": {GROUPS[group]}"))
        for metric in members:
            better = "" if metric.better == "neither" else f"{metric.better} is better"
            facts = f"{metric.unit.stored:<8}  {better}".rstrip()
            console.print(Text.assemble((f"  {metric.name:<{widest}}", "bold"), f"  {facts}"))
            words = f"{metric.title[:1].upper()}{metric.title[1:]}. {metric.meaning}"
            text = f"{words} [{metric.origin}]"
            filled = textwrap.fill(
                text, console.width, initial_indent=indent, subsequent_indent=indent
            )
            console.print(Text(filled, "dim"))
        console.print()
    families = " ".join(metric.name for metric in metrics)
    for key, placeholder in PLACEHOLDERS.items():
        if f"{{{key}}}" in families:
            console.print(Text.assemble((f"{{{key}}}", "bold"), f": {placeholder.values}"))
