"""Part of a result: what was declared before the study, and whether the study follows it."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RegisteredItem:
    """One thing that was declared in advance.

    Attributes:
        name: what, such as `margin`.
        registered: as declared.
        actual: in the study and its report.
        follows: they agree.
    """

    name: str
    registered: str
    actual: str
    follows: bool


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RegistrationCheck:
    """A registration, and the study beside it.

    Attributes:
        digest: of the registration's content.
        registered: when it was written, ISO 8601 in UTC, by its own account.
        hypotheses: as declared.
        items: everything that was compared.
    """

    digest: str
    registered: str
    hypotheses: tuple[str, ...]
    items: tuple[RegisteredItem, ...]

    @property
    def departures(self) -> tuple[RegisteredItem, ...]:
        """The items in which the study departs from it."""
        return tuple(item for item in self.items if not item.follows)
