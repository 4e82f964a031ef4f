"""The one error tree. Every message is one line that names the key or command that mends it."""

import difflib
import textwrap
from collections.abc import Iterable

from slm_energy import redaction


def one_line(text: object, width: int = 200) -> str:
    """What another library says, on one line of at most `width` characters, cut between words."""
    return textwrap.shorten(redaction.masked(str(text)), width, placeholder=" ...")


def did_you_mean(
    name: str, choices: Iterable[str], *, otherwise: str = "", prefix: str = ""
) -> str:
    """What a message about an unknown name ends with: the most similar choice, or other advice.

    Args:
        name: what was written.
        choices: what could have been meant.
        otherwise: the advice where nothing is similar.
        prefix: stands before each choice.
    """
    similar = difflib.get_close_matches(name, list(choices), n=1)
    return f"did you mean {prefix}{similar[0]}?" if similar else otherwise


class SlmEnergyError(Exception):
    """Base of everything this package raises on purpose; no message gives a secret away."""

    def __init__(self, message: str) -> None:
        super().__init__(redaction.masked(message))


class ConfigError(SlmEnergyError):
    """A configuration value is unknown, out of range or contradicts another one."""


class ModelError(SlmEnergyError):
    """A model's files cannot be found, read or trusted."""


class WorkloadError(SlmEnergyError):
    """The prompts cannot be found, read, or do not fit the model."""


class EngineError(SlmEnergyError):
    """An engine cannot load, or gave something that is no result (NaN logits, a fallback)."""


class MeterError(SlmEnergyError):
    """A source of energy or utilization readings is missing or not readable."""


class TrackingError(SlmEnergyError):
    """The MLflow store cannot be opened, written or read."""


class AnalysisError(SlmEnergyError):
    """A study cannot be analysed as asked."""
