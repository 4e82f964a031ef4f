"""Optional dependencies: whether they are installed, and the extra that installs them."""

from __future__ import annotations

import importlib.util


def missing(extra: str, *modules: str) -> str | None:
    """Name a missing module and the extra that installs it. Imports none of them.

    Args:
        extra: as in `[project.optional-dependencies]`.
        modules: top-level modules, the most informative one first.

    Returns:
        `MODULE: pip install 'slm-energy[EXTRA]'` for the first that is not installed, or None.
    """
    for module in modules:
        if importlib.util.find_spec(module) is None:
            return f"{module}: pip install 'slm-energy[{extra}]'"
    return None
