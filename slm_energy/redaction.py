"""What is never told: passwords, and tokens.

No configuration holds one, so that a configuration may be printed, stored, and handed to other
processes on their command line. They stand in environment variables or files that MLflow, the
database's driver and the wall meter read; no process of a trial inherits those variables.
"""

from __future__ import annotations

import os
import re

_OPENS_STORES = ("MLFLOW_", "DATABRICKS_", "PGPASS")
"""How variables begin that only the process needs which speaks to the store."""

_IN_URL = re.compile(
    r"(?:(?<=http://)|(?<=https://))[^/\s]+(?=@)"  # whoever asks; alone, it may be a token
    r"|(?<=://)[^/\s]*:[^/\s]*(?=@)"  # of a database a user name is no secret
    r"|(?<=[?&]password=)[^&\s]+"
)


def inherited() -> dict[str, str]:
    """The environment variables that processes of a trial get: they run other people's code."""
    return {name: v for name, v in os.environ.items() if not name.startswith(_OPENS_STORES)}


def masked(text: str) -> str:
    """The text, with three stars for what gives access in the URLs that it quotes."""
    return _IN_URL.sub("***", text)


def in_url(url: str) -> bool:
    """Whether a URL gives access by itself."""
    # A password with a slash in it ends the part of the URL where a password is looked for.
    return masked(url) != url or (url.startswith(("http://", "https://")) and "@" in url)
