"""Part of a result: how much each factor matters."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LevelEffect:
    """One level of a factor against the geometric mean over the factor's levels.

    Attributes:
        level: its name.
        ratio: to that mean, other terms held equal.
        low: lower end of its t interval.
        high: upper end.
    """

    level: str
    ratio: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Effect:
    """One term of the linear model.

    Attributes:
        term: factor name, `round`, or two names joined by ` x `.
        df: degrees of freedom.
        f: F statistic (type II sums of squares), which takes all cells to be equally noisy.
        p: of no effect.
        partial_eta_squared: sum of squares over itself plus the residual one.
        levels: of a main effect; empty for interactions and rounds.
        unequal_noise: p and the levels' intervals give each cell a noise of its own
            (`stats.unequal_noise`); False where p is that of F, as in reports of earlier versions.
    """

    term: str
    df: int
    f: float
    p: float
    partial_eta_squared: float
    levels: tuple[LevelEffect, ...]
    unequal_noise: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Effects:
    """Ordinary least squares of the log metric: round + factors + two-way interactions.

    Attributes:
        formula: the model in words.
        trials: how many.
        df_residual: degrees of freedom of the residual.
        r_squared: of the model.
        residual_sd_pct: residual standard deviation, in per cent.
        effects: terms, rounds last; empty when nothing could be fitted.
        reason: why nothing was fitted; empty otherwise. Terms that the design cannot tell apart are
            in `Report.left_out`.
    """

    formula: str
    trials: int
    df_residual: int
    r_squared: float | None
    residual_sd_pct: float | None
    effects: tuple[Effect, ...]
    reason: str

    @classmethod
    def not_fitted(cls, reason: str) -> Effects:
        """Of a metric for which nothing could be fitted."""
        return cls(
            formula="", trials=0, df_residual=0, r_squared=None, residual_sd_pct=None, effects=(),
            reason=reason,
        )  # fmt: skip
