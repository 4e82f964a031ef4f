"""The verb `fetch`: download what a grid needs before its trials do."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from slm_energy.cell import settings
from slm_energy.cli import exit_codes, key_help
from slm_energy.cli.console import terminal
from slm_energy.cli.words import add_hydra, hydra_words
from slm_energy.config import files
from slm_energy.config.compose import compose_grid
from slm_energy.config.groups import ModelConfig, RunConfig
from slm_energy.errors import HubUnreachable, ModelError, SlmEnergyError
from slm_energy.escape import shell_override
from slm_energy.places import file_errors

SUMMARY = "download the models and data sets of a grid beforehand"


def configure(parser: argparse.ArgumentParser) -> None:
    """Take the same words as `run`."""
    add_hydra(parser)
    examples = (
        ("slm-energy fetch --config-name paper", "the models and data sets of a ready sweep"),
        ("slm-energy fetch -m model=phi-2,starcoder2-3b", "those of two models"),
    )
    parser.epilog = key_help.help_text(
        examples,
        ("model", "workload", "cache"),
        "Takes the same words as run. An interrupted download is resumed. A model without a"
        " pinned commit is not downloaded; the word that pins it is printed.",
    )


def run(arguments: argparse.Namespace) -> int:
    """Download, and show what is available now; 1 if anything is not."""
    from slm_energy.planning.plan import exclusion

    configs = [
        config
        for config in compose_grid(hydra_words(arguments))
        if exclusion(settings(config), config.study.exclude) is None
    ]
    if not configs:
        return exit_codes.GOOD
    console = terminal()
    with file_errors(files.places(configs)):
        missing = _fetch(configs, console)
        pins = _pins(config.model for config in configs if config.model.name in missing)
    if pins:
        word = escape(shell_override("study.revisions", pins))
        console.print(f"to pin the newest commits: {word}", highlight=False, soft_wrap=True)
    return exit_codes.FAILED if missing else exit_codes.GOOD


def _fetch(configs: Sequence[RunConfig], console: Console) -> set[str]:
    """Download what is not here; return the names of what cannot be had."""
    from slm_energy import cache
    from slm_energy.models import source
    from slm_energy.planning.contents import Contents

    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("", "download", "status"):
        table.add_column(heading, no_wrap=heading == "download", overflow="fold")
    contents, missing, unreachable = Contents(), set[str](), False
    for model in {repr(config.model): config.model for config in configs}.values():
        found = contents.model(model)
        error: SlmEnergyError | None = found.error
        size = f"{found.download_bytes / 1e9:.2f} GB" if found.download_bytes else "-"
        if found.download_bytes:
            console.print(f"{escape(model.name)}: {size}", highlight=False)
            try:
                source.fetch(model, cache.root(configs[0].cache.folder))  # shows its progress
            except ModelError as caught:
                error = caught
        if error is not None:
            missing.add(model.name)
        status = str(error or "available")
        if isinstance(error, HubUnreachable):  # said once, below the table
            status, unreachable = f"{model.source} is not in the local cache", True
        table.add_row(escape(model.name), size, escape(status))
    for workload in dict.fromkeys(config.workload for config in configs):
        asked = contents.workload(workload).error
        if asked is not None:
            missing.add(workload.name)
        table.add_row(escape(workload.name), "-", escape(str(asked or "available")))
    console.print(table)
    if unreachable:
        console.print(
            "the hub cannot be reached: run this command where there is a network, or set"
            " model.source to local folders",
            soft_wrap=True,
        )
    return missing


def _pins(models: Iterable[ModelConfig]) -> dict[str, str]:
    """The newest commits of models that have none."""
    from slm_energy import hub

    pins: dict[str, str] = {}
    for model in models:
        if hub.is_hub_id(model.source) and model.revision is None and model.name not in pins:
            with contextlib.suppress(ModelError):  # the table has the reason
                pins[model.name] = hub.repository(model.source, None).commit
    return pins
