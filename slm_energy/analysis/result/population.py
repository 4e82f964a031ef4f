"""Part of a result: what holds over models in general, of which the study has a sample."""

from __future__ import annotations

import dataclasses

from slm_energy.analysis.result.verdict import Verdict


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ModelRatio:
    """One pair of configurations on one model.

    Attributes:
        model: its name.
        ratio: geometric mean of a / b on it.
        low: lower end of its t interval over rounds, for this model alone; None where unknown.
        high: upper end.
        instrument: the factor by which the instruments could have got it wrong; 1 where the metric
            has no intervals, None where one has no end.
    """

    model: str
    ratio: float
    low: float | None
    high: float | None
    instrument: float | None = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PopulationPair:
    """Configuration `a` against `b` over models; `a` is the better ranked.

    Attributes:
        a: a configuration: what a cell's label has besides the model.
        b: another.
        models: their ratio on each model that has both, in the order of the study.
        won: of these, the models on which `a` is better.
        ratio: geometric mean over models.
        low: lower end of its t interval over models, for this pair alone; None where unknown.
        high: upper end.
        joint_low: lower end of the simultaneous interval: those of all pairs hold together.
        joint_high: upper end.
        p: of no difference over models, adjusted for all pairs; None where it cannot be tested.
        verdict: about `a`, against the margin.
    """

    a: str
    b: str
    models: tuple[ModelRatio, ...]
    won: int
    ratio: float
    low: float | None = None
    high: float | None = None
    joint_low: float | None = None
    joint_high: float | None = None
    p: float | None = None
    verdict: Verdict = "inconclusive"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Population:
    """The model as a random factor: configurations compared over models like those of the study.

    Attributes:
        models: that have a value.
        ranked: configurations that at least two models have, from best to worst over models.
        pairs: every pair that at least two models have.
        reason: why nothing is said of models in general; empty where it is.
    """

    models: tuple[str, ...]
    ranked: tuple[str, ...]
    pairs: tuple[PopulationPair, ...]
    reason: str = ""
