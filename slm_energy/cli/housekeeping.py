"""The verbs `cache` and `env`: what this package keeps on the disk, and how to be rid of it."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from slm_energy import cache, environments
from slm_energy.cell import Settings, settings
from slm_energy.config.check import run_config
from slm_energy.config.compose import CONF, compose
from slm_energy.config.groups import RunConfig
from slm_energy.engines.describe import Description
from slm_energy.environments import Environment
from slm_energy.errors import ConfigError
from slm_energy.machine import measuring
from slm_energy.worker import interpreters

_TOLD = ("model", "model_digest", "engine", "dtype", "provider", "transformers", "torch")
_SHOWN_VERSIONS = ("torch", "transformers", "onnxruntime-gpu", "onnxruntime", "openvino",
                   "llama-cpp-python", "onnxruntime-genai", "vllm")  # fmt: skip


def cache_verb(arguments: Sequence[str], console: Console) -> int:
    """`cache [KEY=VALUE]` lists the entries, `cache clear [KIND|KEY ...] [KEY=VALUE]` removes some.

    Raises:
        ConfigError: nothing in the cache is called so.
    """
    changes = [word for word in arguments if "=" in word]
    words = [word for word in arguments if "=" not in word]
    config = _config(changes)
    folder = cache.root(config.cache.folder)
    found = cache.entries(folder)
    if not words:
        _show_cache(folder, found, config.cache.limit_gb, console)
        return 0
    if words[0] != "clear":
        raise ConfigError(f"cache {words[0]}: there is only slm-energy cache clear [KIND|KEY ...]")
    return _clear(found, words[1:], console)


def _show_cache(
    folder: Path, found: Sequence[cache.CacheEntry], limit_gb: float, console: Console
) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("kind", "key"):
        table.add_column(heading, no_wrap=True)
    table.add_column("GB", justify="right", no_wrap=True)
    table.add_column("last used", no_wrap=True)
    table.add_column("what")
    for entry in reversed(found):
        used = datetime.datetime.fromtimestamp(entry.used_unix_s).strftime("%Y-%m-%d %H:%M")
        what = _what(entry) if entry.state == "whole" else f"[yellow]{entry.state}[/]"
        size = f"{entry.size_bytes / 1e9:.3f}"
        table.add_row(entry.kind, entry.path.name, size, used, what)
    if found:
        console.print(table)
    total_gb = sum(entry.size_bytes for entry in found) / 1e9
    console.print(
        f"{len(found)} entries, {total_gb:.3f} GB of cache.limit_gb={limit_gb:g}, in {folder}",
        highlight=False,
        soft_wrap=True,
    )


def _what(entry: cache.CacheEntry) -> str:
    """The most telling parts of an entry's identity."""
    flat: dict[str, object] = {}
    for key, value in entry.identity.items():
        flat |= value if isinstance(value, dict) else {key: value}
    return escape(", ".join(f"{key}={flat[key]}" for key in _TOLD if key in flat))


def _clear(found: Sequence[cache.CacheEntry], names: Sequence[str], console: Console) -> int:
    for name in names:
        if not any(name in (entry.kind, entry.path.name) for entry in found):
            kinds = ", ".join(sorted({entry.kind for entry in found})) or "nothing"
            raise ConfigError(f"cache clear {name}: no such kind or key; the cache has {kinds}")
    chosen = [e for e in found if not names or e.kind in names or e.path.name in names]

    def waiting(path: Path) -> None:
        console.print(f"a sweep is using the cache ({path}); waiting for it to end")

    with measuring(waiting):
        removed = [entry for entry in chosen if cache.remove(entry.path)]
    size_gb = sum(entry.size_bytes for entry in removed) / 1e9
    console.print(f"removed {len(removed)} entries, {size_gb:.3f} GB", highlight=False)
    if len(removed) == len(chosen):
        return 0
    console.print(f"{len(chosen) - len(removed)} entries are being made right now and stay")
    return 1


def env_verb(arguments: Sequence[str], console: Console) -> int:
    """`env create NAME [--python EXE] [REQUIREMENTS.txt]`, `env list`, `env remove NAME`.

    Raises:
        ConfigError: the words are none of these, or an environment cannot be made or removed.
    """
    usage = "slm-energy env create NAME [--python EXE] [REQUIREMENTS.txt] | list | remove NAME"
    match list(arguments):
        case [] | ["list"]:
            _show_environments(console)
        case ["remove", name]:
            environments.remove(name)
            console.print(f"removed {name}")
        case ["create", *words]:
            python = None
            if "--python" in words[:-1]:
                at = words.index("--python")
                python = words[at + 1]
                del words[at : at + 2]
            if not 1 <= len(words) <= 2 or any(word.startswith("-") for word in words):
                raise ConfigError(usage)
            _create(words[0], Path(words[1]) if words[1:] else None, python, console)
        case _:
            raise ConfigError(usage)
    return 0


def _create(name: str, requirements: Path | None, python: str | None, console: Console) -> None:
    with console.status("") as status:
        shown = set[str]()

        def tell(step: str, line: str) -> None:
            if step not in shown:
                console.print(step, highlight=False, soft_wrap=True)
                shown.add(step)
            status.update(escape(line[: console.width - 4]))

        made = environments.create(name, requirements, python, tell)
    console.print(
        f"{name} is {'ready' if made else 'there already'}: engine.python={name}", highlight=False
    )


def _show_environments(console: Console) -> None:
    found = environments.existing()
    asked = _every_engine()
    for environment in found:
        size = f"{environment.size_bytes / 1e9:.1f} GB"
        if not environment.whole:
            line = f"[bold]{environment.name}[/]  {size}, [yellow]unfinished[/]: remove it"
            console.print(line, highlight=False)
            continue
        try:
            told = interpreters.ask(str(environment.python), list(asked.values()))
        except ConfigError as error:
            line = f"[bold]{environment.name}[/]  {size}, [yellow]broken[/]: {escape(str(error))}"
            console.print(line, highlight=False, soft_wrap=True)
            continue
        _show_environment(environment, size, dict(zip(asked, told, strict=True)), console)
    if not found:
        console.print("no environments")
    ready = ", ".join(name for name in environments.ready() if name not in {e.name for e in found})
    if ready:
        console.print(f"slm-energy env create NAME makes another; ready: {ready}", highlight=False)


def _show_environment(
    environment: Environment, size: str, told: dict[str, Description], console: Console
) -> None:
    """Print name, size, versions, engines."""
    versions = {k: v for each in told.values() for k, v in each.versions.items() if v != "absent"}
    shown = [f"{name} {versions[name]}" for name in _SHOWN_VERSIONS if name in versions]
    able = [name for name, each in told.items() if each.unsupported is None and each.error is None]
    python = versions.get("python", "?")
    for line in (
        f"[bold]{environment.name}[/]  Python {python}, {size}, {environment.folder}",
        f"  versions: {', '.join(shown) or 'none of an engine'}",
        f"  engines:  {', '.join(able) or 'none'}",
    ):
        console.print(line, highlight=False, soft_wrap=True)


def _every_engine() -> dict[str, Settings]:
    """conf/engine/NAME to its settings on the bundled model."""
    names = sorted(path.stem for path in (CONF / "engine").glob("*.yaml"))
    return {name: settings(_config([f"engine={name}"])) for name in names}


def _config(overrides: Sequence[str]) -> RunConfig:
    return run_config(compose("config", overrides))
