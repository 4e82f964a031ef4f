"""The verb `env`: Python environments for engines that cannot be installed together."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from slm_energy.cli import key_help
from slm_energy.cli.console import shell_path, terminal
from slm_energy.config.check import run_config
from slm_energy.config.compose import CONF, compose
from slm_energy.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from slm_energy.cell import Settings
    from slm_energy.engines.describe import Description
    from slm_energy.environments import Environment

SUMMARY = "list, create or remove Python environments for engine.python=NAME"

_ACTIONS = ("list", "create", "remove")
_USAGE = (
    "%(prog)s [list]",
    "%(prog)s create NAME [REQUIREMENTS.txt] [--python EXE]",
    "%(prog)s remove NAME",
)
_ADVICE = "env accepts list, create NAME [REQUIREMENTS.txt] [--python EXE], or remove NAME"
_SHOWN_VERSIONS = ("torch", "transformers", "onnxruntime-gpu", "onnxruntime", "openvino",
                   "llama-cpp-python", "onnxruntime-genai", "vllm")  # fmt: skip


def configure(parser: argparse.ArgumentParser) -> None:
    """What to do, and with which environment."""
    parser.usage = "\n       ".join(_USAGE)
    parser.add_argument(
        "words",
        nargs="*",
        metavar="WORD",
        help="list (the default) shows versions, and which engines run in each environment",
    )
    parser.add_argument("--python", metavar="EXE", help="the interpreter that create uses")
    examples = (
        ("slm-energy env create transformers5", "then engine.python=transformers5 uses it"),
        ("slm-energy env create mine requirements.txt --python python3.12", "packages of your own"),
    )
    ready = sorted(path.stem for path in (CONF / "env").glob("*.txt"))
    note = f"Ready requirements, by NAME: {', '.join(ready)}. The verb reads no keys."
    parser.epilog = key_help.help_text(examples, (), note)


def run(arguments: argparse.Namespace) -> int:
    """List, create or remove.

    Raises:
        ConfigError: the words are none of these, or an environment cannot be made or removed.
    """
    from slm_energy import environments

    console = terminal()
    match arguments.words:
        case [] | ["list"]:
            _show(console)
        case ["create", name]:
            _create(name, None, arguments.python, console)
        case ["create", name, requirements]:
            _create(name, Path(requirements), arguments.python, console)
        case ["remove", name]:
            environments.remove(name)
            console.print(f"removed {name}")
        case [action, *_] if action not in _ACTIONS:
            raise ConfigError(
                f"env {action}: no such action; {did_you_mean(action, _ACTIONS, otherwise=_ADVICE)}"
            )
        case _:
            raise ConfigError(_ADVICE)
    return 0


def _create(name: str, requirements: Path | None, python: str | None, console: Console) -> None:
    from slm_energy import environments

    with console.status("") as status:
        shown = set[str]()

        def progress(step: str, line: str) -> None:
            if step not in shown:
                console.print(escape(step), highlight=False, soft_wrap=True)
                shown.add(step)
            status.update(escape(line[: console.width - 4]))

        made = environments.create(name, requirements, python, progress)
    state = "ready" if made else "there already"
    console.print(f"{name} is {state}: engine.python={name}", highlight=False)


def _show(console: Console) -> None:
    from slm_energy import environments
    from slm_energy.worker import interpreters

    existing = environments.existing()
    engines = _every_engine()
    for environment in existing:
        size = f"{environment.size_bytes / 1e9:.1f} GB"
        heading = f"[bold]{environment.name}[/]  {size}"
        if not environment.whole:
            console.print(f"{heading}, [yellow]unfinished[/]: remove it", highlight=False)
            continue
        try:
            answers = interpreters.ask(str(environment.python), list(engines.values()))
        except ConfigError as error:
            line = f"{heading}, [yellow]broken[/]: {escape(str(error))}"
            console.print(line, highlight=False, soft_wrap=True)
            continue
        _show_one(environment, size, dict(zip(engines, answers, strict=True)), console)
    if not existing:
        console.print("no environments")
    ready = ", ".join(sorted({*environments.ready()} - {each.name for each in existing}))
    if ready:
        console.print(f"slm-energy env create NAME makes another; ready: {ready}", highlight=False)


def _show_one(
    environment: Environment, size: str, engines: dict[str, Description], console: Console
) -> None:
    """Print name, size, versions, engines."""
    versions = {
        name: version
        for description in engines.values()
        for name, version in description.versions.items()
        if version != "absent"
    }
    shown = [f"{name} {versions[name]}" for name in _SHOWN_VERSIONS if name in versions]
    able = [name for name, d in engines.items() if d.unsupported is None and d.error is None]
    python, folder = versions.get("python", "?"), escape(shell_path(environment.folder))
    for line in (
        f"[bold]{environment.name}[/]  Python {python}, {size}, {folder}",
        f"  versions: {', '.join(shown) or 'none of an engine'}",
        f"  engines:  {', '.join(able) or 'none'}",
    ):
        console.print(line, highlight=False, soft_wrap=True)


def _every_engine() -> dict[str, Settings]:
    """conf/engine/NAME to its settings on the bundled model."""
    from slm_energy.cell import settings

    names = sorted(path.stem for path in (CONF / "engine").glob("*.yaml"))
    return {name: settings(run_config(compose("config", [f"engine={name}"]))) for name in names}
