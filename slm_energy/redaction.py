"""Redaction of passwords and tokens.

No configuration holds one, so that a configuration may be printed, stored, and passed to other
processes on their command line. They are in environment variables or files that MLflow, the
database driver and the wall meter read; no process of a trial inherits those variables.
"""

from __future__ import annotations

import os
import re

_OPENS_STORES = ("MLFLOW_", "DATABRICKS_", "PGPASS")
"""Prefixes of variables that only the process connected to the store needs."""

WALL_TOKEN = "SLM_ENERGY_WALL_TOKEN"
"""Variable with the bearer token of the wall meter, which only the sampler needs."""

_IN_URL = re.compile(
    r"(?:(?<=http://)|(?<=https://))[^/\s]+(?=@)"  # user information; a single value may be a token
    r"|(?<=://)[^/\s]*:[^/\s]*(?=@)"  # in a database URL a user name is not a secret
    r"|(?<=[?&]password=)[^&\s]+"
)


def inherited() -> dict[str, str]:
    """The environment variables for processes of a trial, which run third-party code."""
    return {name: v for name, v in for_sampler().items() if name != WALL_TOKEN}


def for_sampler() -> dict[str, str]:
    """The environment variables for the sampler, which reads the meters."""
    return {name: v for name, v in os.environ.items() if not name.startswith(_OPENS_STORES)}


def masked(text: str) -> str:
    """Replace credentials in the URLs of a text by three stars."""
    return _IN_URL.sub("***", text)


def in_url(url: str) -> bool:
    """Whether a URL contains credentials."""
    # A slash in a password ends the part of the URL that `masked` searches.
    return masked(url) != url or (url.startswith(("http://", "https://")) and "@" in url)
