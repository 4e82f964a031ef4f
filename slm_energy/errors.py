"""The error tree. Every message is one line that names the key or command that fixes the error."""

import difflib
import textwrap
from collections.abc import Iterable

from slm_energy import redaction


def one_line(text: object, width: int = 200) -> str:
    """Shorten a library's message to one line of at most `width` characters, cut between words."""
    return textwrap.shorten(redaction.masked(str(text)), width, placeholder=" ...")


def did_you_mean(
    name: str, choices: Iterable[str], *, otherwise: str = "", prefix: str = ""
) -> str:
    """The end of a message about an unknown name: the most similar choice, or other advice.

    Args:
        name: the unknown name.
        choices: the valid names.
        otherwise: the advice if no choice is similar.
        prefix: text before the choice.
    """
    similar = difflib.get_close_matches(name, list(choices), n=1)
    return f"did you mean {prefix}{similar[0]}?" if similar else otherwise


class SlmEnergyError(Exception):
    """Base of everything this package raises on purpose; messages contain no secrets.

    Args:
        message: one line.
        permanent: see the attribute; None leaves it to the class.

    Attributes:
        permanent: settings or files cause it, so that a trial that fails with it is not tried again
            in the same sweep.
    """

    permanent = False

    def __init__(self, message: str, *, permanent: bool | None = None) -> None:
        super().__init__(redaction.masked(message))
        if permanent is not None:
            self.permanent = permanent


class ConfigError(SlmEnergyError):
    """A configuration value is unknown, out of range or contradicts another one."""

    permanent = True


class ModelError(SlmEnergyError):
    """A model's files cannot be found, read or trusted."""

    permanent = True


class HubUnreachable(ModelError):
    """The hub cannot be reached: every download would fail for the same reason."""

    permanent = False


class WorkloadError(SlmEnergyError):
    """The prompts cannot be found, read, or do not fit the model."""

    permanent = True


class EngineError(SlmEnergyError):
    """An engine cannot load, or gave an invalid result (NaN logits, a fallback)."""


class MeterError(SlmEnergyError):
    """A source of energy or utilization readings is missing or not readable."""


class TrackingError(SlmEnergyError):
    """The MLflow store cannot be opened, written or read."""


class AnalysisError(SlmEnergyError):
    """A study cannot be analysed as requested."""
