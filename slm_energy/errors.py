"""The one error tree. Every message is one line that names the key or command that mends it."""

import textwrap

from slm_energy import redaction


def one_line(text: object, width: int = 200) -> str:
    """What another library says, on one line of at most `width` characters, cut between words."""
    return textwrap.shorten(redaction.masked(str(text)), width, placeholder=" ...")


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
