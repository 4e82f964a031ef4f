"""Part of a result: a section that an error kept out of the report."""

from __future__ import annotations

import dataclasses

from slm_energy.analysis.result.metric import Metric


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """A section of a report that could not be made.

    Attributes:
        part: what is missing, such as `effects of the factors`.
        reason: the error, one line.
        traceback: where it was raised; for the log, not for the page.
        metric: name of the metric that the section is about; empty where it is about none.
    """

    part: str
    reason: str
    traceback: str
    metric: str = ""

    @property
    def section(self) -> str:
        """The section as a reader knows it."""
        return f"{Metric(name=self.metric).heading}: {self.part}" if self.metric else self.part

    def sentence(self) -> str:
        """What the report says in its place."""
        return f"Left out after an error: {self.section}: {self.reason}."
