"""The verb `fetch`: download what a grid needs before its trials do."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from slm_energy.cli import exit_codes, key_help
from slm_energy.cli.console import terminal
from slm_energy.cli.words import add_hydra, hydra_words
from slm_energy.config import files
from slm_energy.config.compose import compose_grid
from slm_energy.config.groups import ModelConfig, RunConfig
from slm_energy.errors import ModelError, SlmEnergyError
from slm_energy.places import file_errors

SUMMARY = "download the models and data sets of a grid beforehand"


def configure(parser: argparse.ArgumentParser) -> None:
    """The same words as `run` has."""
    add_hydra(parser)
    examples = (
        ("slm-energy fetch --config-name paper", "the weights of a ready sweep"),
        ("slm-energy fetch -m model=phi-2,starcoder2-3b", "those of two models"),
    )
    parser.epilog = key_help.help_text(
        examples,
        note="Give it the words of the run. A download that was interrupted goes on where it was."
        " A model without a pinned commit is not downloaded; the word that pins it is printed.",
    )


def run(arguments: argparse.Namespace) -> int:
    """Download, and say what is here now; 1 if anything is not."""
    configs = compose_grid(hydra_words(arguments))
    if not configs:
        return exit_codes.GOOD
    console = terminal()
    with file_errors(files.places(configs)):
        missing = _fetch(configs, console)
        pins = _pins(config.model for config in configs if str(config.model.name) in missing)
    if pins:
        word = ", ".join(f"{name}: {commit}" for name, commit in pins.items())
        console.print(f"to pin what is newest: 'study.revisions={{{word}}}'", soft_wrap=True)
    return exit_codes.FAILED if missing else exit_codes.GOOD


def _fetch(configs: Iterable[RunConfig], console: Console) -> dict[str, str]:
    """Download what is not here; return what cannot be had, by name, and why."""
    from slm_energy import cache
    from slm_energy.models import source
    from slm_energy.planning.contents import Contents

    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("", "downloaded", "now"):
        table.add_column(heading, no_wrap=heading == "downloaded", overflow="fold")
    contents, missing = Contents(), dict[str, str]()
    for model, config in {repr(c.model): (c.model, c) for c in configs}.values():
        found = contents.model(model)
        error: SlmEnergyError | None = found.error
        size = f"{found.download_bytes / 1e9:.2f} GB" if found.download_bytes else "-"
        if found.download_bytes:
            console.print(f"{escape(model.name)}: {size}", highlight=False)
            try:
                source.fetch(model, cache.root(config.cache.folder))  # shows its progress
            except ModelError as caught:
                error = caught
        if error is not None:
            missing[model.name] = str(error)
        table.add_row(escape(model.name), size, escape(str(error or "here")))
    for workload in dict.fromkeys(config.workload for config in configs):
        asked = contents.workload(workload).error
        if asked is not None:
            missing[workload.name] = str(asked)
        table.add_row(escape(workload.name), "-", escape(str(asked or "here")))
    console.print(table)
    return missing


def _pins(models: Iterable[ModelConfig]) -> dict[str, str]:
    """The newest commits of models that have none."""
    from slm_energy import hub

    pins: dict[str, str] = {}
    for model in models:
        if hub.is_hub_id(model.source) and model.revision is None and model.name not in pins:
            try:
                pins[model.name] = hub.repository(model.source, None).commit
            except ModelError:  # what cannot be asked has its reason in the table
                continue
    return pins
