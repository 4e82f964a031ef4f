"""The terminal, and text on it that can be pasted into a shell."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from rich.console import Console


def terminal() -> Console:
    """The terminal; a file or a pipe gets lines of 100 characters."""
    return Console(width=None if sys.stdout.isatty() else 100)


def shell_path(location: str | Path) -> str:
    """A path, or where MLflow stores an artifact, quoted for a shell.

    MLflow's `file://` URIs are percent-encoded; they become paths. Other URIs stay as they are.
    """
    text = str(location)
    if text.startswith("file://"):
        text = url2pathname(urlsplit(text).path)
    return shlex.quote(text)


def shell_override(key: str, value: str) -> str:
    """KEY=VALUE, quoted for Hydra where its grammar needs that, and then for a shell."""
    if not re.fullmatch(r"[A-Za-z./][\w/.:+@%-]*", value, re.ASCII):
        # Within quotes Hydra's grammar takes a backslash as it is, except before a quote.
        doubled = re.sub(r'(\\+)(?="|\Z)', r"\1\1", value)
        value = '"' + doubled.replace('"', '\\"') + '"'
    return shlex.quote(f"{key}={value}")
