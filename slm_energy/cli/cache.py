"""The verb `cache`: what was derived from weights and is kept on disk; list it, remove it."""

from __future__ import annotations

import argparse
import datetime
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from slm_energy import cache
from slm_energy.cli import key_help
from slm_energy.cli.console import shell_path, terminal
from slm_energy.cli.words import is_override
from slm_energy.config.check import run_config
from slm_energy.config.compose import compose
from slm_energy.errors import ConfigError, did_you_mean
from slm_energy.machine import measuring
from slm_energy.places import file_error, file_errors

SUMMARY = "list or remove what was derived from weights, such as exports"

_SHOWN = ("model", "model_digest", "engine", "dtype", "provider", "transformers", "torch")


def configure(parser: argparse.ArgumentParser) -> None:
    """`clear`, what to remove, and KEY=VALUE words."""
    parser.usage = "%(prog)s [list | clear [KIND|KEY ...]] [KEY=VALUE ...]"
    parser.add_argument(
        "words",
        nargs="*",
        metavar="WORD",
        help="list (the default), or clear: remove all entries, or those of a KIND or KEY;"
        " KEY=VALUE sets a key",
    )
    examples = (
        ("slm-energy cache", "kind, key, size, last use and content of each entry"),
        ("slm-energy cache clear onnx", "remove the ONNX exports"),
    )
    parser.epilog = key_help.help_text(examples, ("cache",))


def run(arguments: argparse.Namespace) -> int:
    """List or remove entries; 1 if some stay.

    Raises:
        ConfigError: the cache has no such kind or key.
    """
    changes = [word for word in arguments.words if is_override(word)]
    action, *names = [word for word in arguments.words if not is_override(word)] or ["list"]
    config, console = run_config(compose("config", changes)).cache, terminal()
    folder = cache.root(config.folder)
    with file_errors([("cache.folder", folder)]):
        entries = cache.entries(folder)
        if action == "clear":
            return _clear(entries, names, console)
    if action != "list" or names:
        advice = did_you_mean(action, ["clear", "list"], otherwise="cache clear [KIND|KEY ...]")
        raise ConfigError(f"cache {' '.join([action, *names])}: no such action; {advice}")
    _show(folder, entries, config.limit_gb, console)
    return 0


def _show(
    folder: Path, entries: Sequence[cache.CacheEntry], limit_gb: float, console: Console
) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("kind", "key"):
        table.add_column(heading, no_wrap=True)
    table.add_column("GB", justify="right", no_wrap=True)
    table.add_column("last used", no_wrap=True)
    table.add_column("what")
    for entry in reversed(entries):
        used = datetime.datetime.fromtimestamp(entry.used_unix_s).strftime("%Y-%m-%d %H:%M")
        what = _content(entry) if entry.state == "whole" else f"[yellow]{entry.state}[/]"
        size = "?" if entry.size_bytes is None else f"{entry.size_bytes / 1e9:.3f}"
        table.add_row(entry.kind, entry.path.name, size, used, what)
    if entries:
        console.print(table)
    line = f"{len(entries)} entries, {_size_gb(entries)} of cache.limit_gb={limit_gb:g}, in "
    console.print(line + escape(shell_path(folder)), highlight=False, soft_wrap=True)


def _content(entry: cache.CacheEntry) -> str:
    """The name of its model, and the most telling parts of its identity."""
    flat: dict[str, object] = {}
    for key, value in entry.identity.items():
        flat |= value if isinstance(value, dict) else {key: value}
    parts = [entry.model] if entry.model else []
    parts += [f"{key}={flat[key]}" for key in _SHOWN if key in flat]
    return escape(", ".join(parts))


def _clear(entries: Sequence[cache.CacheEntry], names: Sequence[str], console: Console) -> int:
    for name in names:
        if not any(name in (entry.kind, entry.path.name) for entry in entries):
            kinds = sorted({entry.kind for entry in entries})
            has = f"the cache has {', '.join(kinds) or 'nothing'}"
            advice = did_you_mean(name, kinds, otherwise=has)
            raise ConfigError(f"cache clear {name}: no such kind or key; {advice}")
    chosen = [e for e in entries if not names or e.kind in names or e.path.name in names]

    def waiting(path: Path) -> None:
        line = f"a sweep is using the cache ({shell_path(path)}); waiting for it to end"
        console.print(escape(line), soft_wrap=True, highlight=False)

    removed, stay = list[cache.CacheEntry](), list[str]()
    with measuring(waiting):
        for entry in chosen:
            if entry.state == "closed":
                stay.append(f"{shell_path(entry.path)} is another user's, closed to this one")
                continue
            try:
                if cache.remove(entry.path):
                    removed.append(entry)
                else:
                    stay.append(f"{shell_path(entry.path)} is being made right now")
            except PermissionError as error:  # another user's
                stay.append(str(file_error(error, [("cache.folder", entry.path.parents[1])])))
    console.print(f"removed {len(removed)} entries, {_size_gb(removed)}", highlight=False)
    for reason in stay:
        console.print(f"[yellow]stays[/]: {escape(reason)}", highlight=False, soft_wrap=True)
    return 1 if stay else 0


def _size_gb(entries: Sequence[cache.CacheEntry]) -> str:
    known = [entry.size_bytes for entry in entries if entry.size_bytes is not None]
    return f"{'at least ' * (len(known) < len(entries))}{sum(known) / 1e9:.3f} GB"
