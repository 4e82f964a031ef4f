"""The sections of a report are made one by one: an error in one leaves the others as they are.

An error that this package raises on purpose is not caught: it says that the request itself cannot
be met. Every other exception is an error in the program. It costs the section that it occurs in,
and nothing else: the section states the reason, the report lists it, errors.log among the report's
files has the traceback, and the command ends with exit code 1.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import TypeVar

from slm_energy import redaction
from slm_energy.analysis.result.failure import Failure
from slm_energy.errors import SlmEnergyError, one_line

T = TypeVar("T")


class Sections:
    """Makes the sections of one report, and keeps what failed."""

    def __init__(self) -> None:
        self._failures: list[Failure] = []

    @property
    def failures(self) -> tuple[Failure, ...]:
        """The sections that could not be made, in order."""
        return tuple(self._failures)

    def make(
        self,
        part: str,
        content: Callable[[], T],
        otherwise: Callable[[Failure], T],
        *,
        metric: str = "",
    ) -> T:
        """Make a section.

        Args:
            part: what it is, for `Failure.part`.
            content: makes it.
            otherwise: makes what takes its place.
            metric: name of the metric that it is about, if it is about one.

        Raises:
            SlmEnergyError: from `content`: the report cannot be made as requested.
        """
        try:
            return content()
        except SlmEnergyError:
            raise
        except Exception as error:
            failure = Failure(
                part=part,
                reason=one_line(f"{type(error).__name__}: {error}".rstrip(": ")),
                traceback=redaction.masked(traceback.format_exc()),
                metric=metric,
            )
            self._failures.append(failure)
            return otherwise(failure)


def of_family(name: str) -> str:
    """What the name of a section adds where there are several families."""
    return f" of {name}" if name else ""
