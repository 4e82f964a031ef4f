"""One metric of a study: its cells are compared family by family.

Where cells ran in rounds, they are compared within them (`stats.paired`). Where not, each cell's
repetitions are a sample of their own (`stats.independent`): the conventional tests run for every
metric, without those that need blocks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from functools import partial

import numpy as np

from slm_energy.analysis.over_models import over_models
from slm_energy.analysis.resolve_design import Design, levels, members
from slm_energy.analysis.result.comparison import Conventional, Family, Pair, Savings
from slm_energy.analysis.result.design import LeftOut
from slm_energy.analysis.result.diagnostics import Diagnostics
from slm_energy.analysis.result.effects import Effects
from slm_energy.analysis.result.failure import Failure
from slm_energy.analysis.result.metric import Metric
from slm_energy.analysis.result.report import MetricResult
from slm_energy.analysis.sections import Sections, of_family
from slm_energy.analysis.sentinel import sentinel_drift
from slm_energy.analysis.stats import (
    conventional,
    diagnostics,
    factorial_anova,
    independent,
    outliers,
    paired,
)
from slm_energy.analysis.stats.comparison import Block, Rule, ranking, savings
from slm_energy.analysis.stats.independent import NO_SPREAD, one_row, one_value_per_row
from slm_energy.analysis.stats.leave_one_out import rests_on
from slm_energy.analysis.stats.power import plan
from slm_energy.analysis.text.disagreement import disagreements
from slm_energy.analysis.trials.frame import Study

_DRAWS_WITHOUT_A_ROUND = 999
"""Fewer than of the comparison itself, for there is one of them for each round."""

_NO_ROUNDS = "the repetitions are not rounds, so no cell's repetition belongs to another cell's"
ONE_MACHINE = "machines share no round: report each of them alone"
_NEED_ROUNDS = "max-T over rounds, paired t intervals, rounds won, Friedman, Conover, drift, power"
_NEED_SPREAD = (
    "t intervals, Welch's t test, max-T test, Games-Howell, equivalence tests, Cliff's delta, A12, "
    "Shapiro-Wilk, Levene, Kruskal-Wallis, Dunn, Friedman, Conover, factor effects, power"
)


def analyse(
    study: Study,
    trials: Sequence[diagnostics.TrialFacts],
    metric: Metric,
    block: Block,
    design: Design,
    sections: Sections,
    *,
    decides: bool,
) -> tuple[MetricResult, list[LeftOut]]:
    """Analyse one metric.

    Args:
        study: its trials.
        trials: the valid ones, as `trials.blocks` gives them.
        metric: which.
        block: its values over all cells; its rows are rounds, or numbers of repetitions.
        design: what the options mean, and which of the two the rows are.
        sections: makes its parts, each on its own.
        decides: the verdict rests on it, so the conventional tests are run as well, and the stated
            verdicts are checked without each round.

    Returns:
        The result, and what could not be done; `not_possible` names what never can.
    """
    rule = design.rule(higher_is_better=metric.higher_is_better)
    make = partial(sections.make, metric=metric.name)
    families: list[Family] = []
    left_out: list[LeftOut] = []
    order = ranking(block if design.rounds else one_value_per_row(block), rule)
    for name, cells in members(order, design).items():
        family, missing = make(
            f"comparison{of_family(name)}",
            partial(_family, block.of(cells), name, metric, rule, design, decides, sections),
            partial(_not_compared, name, cells),
        )
        families.append(family)
        left_out += missing
    shared = design.rounds and design.one_machine
    own = block.of(tuple(cell for family in families for cell in family.ranked))
    effects, confounded = make(
        "effects of the factors",
        lambda: _effects(study, own, design, rule),
        lambda failure: (Effects.not_fitted(failure.reason), []),
    )
    flagged = make(
        "flagged trials",
        lambda: outliers.find(own.values, rule.alpha, rounds=shared),
        lambda failure: outliers.Outliers.unknown(own.values.shape),
    )
    changed = make(
        "verdicts without flagged trials",
        lambda: diagnostics.changed_verdicts(
            own, flagged, families, _compare(metric, rule, design), metric.higher_is_better
        ),
        lambda failure: (),
    )
    result = MetricResult(
        metric=metric,
        descriptive=make(
            "cell by cell",
            lambda: diagnostics.describe_all(own, rule.alpha),
            lambda failure: (),
        ),
        diagnostics=make(
            "drift and outliers",
            lambda: diagnostics.diagnose(own, trials, flagged, changed, rule.alpha, rounds=shared),
            lambda failure: Diagnostics.unknown(),
        ),
        families=tuple(families),
        effects=effects,
        sentinel=make(
            "sentinel",
            lambda: sentinel_drift(study, metric, rule.alpha),
            lambda failure: None,
        ),
        population=make(
            "over models",
            lambda: (
                over_models(study, own, rule, rounds=design.rounds)
                if design.one_machine and not design.load
                else None
            ),
            lambda failure: None,
        ),
    )
    return result, left_out + confounded


def not_possible(metrics: Iterable[MetricResult]) -> LeftOut:
    """The tests that repetitions do not allow: they need rounds or, with one value, a spread."""
    if any(result.repeated for result in metrics):
        return LeftOut(scope="test", name=_NEED_ROUNDS, reason=_NO_ROUNDS)
    return LeftOut(scope="test", name=_NEED_SPREAD, reason=NO_SPREAD)


def _compare(metric: Metric, rule: Rule, design: Design) -> diagnostics.Compare:
    """How the cells of a family are compared."""
    if design.rounds:
        return lambda block, reference: paired.compare(block, rule, reference)
    return lambda block, reference: independent.compare(block, metric, rule, reference)


def _family(
    block: Block,
    name: str,
    metric: Metric,
    rule: Rule,
    design: Design,
    decides: bool,
    sections: Sections,
) -> tuple[Family, list[LeftOut]]:
    """Compare one family; the conventional tests are for the metric that decides."""
    named, where, rounds = design.references.get(name), of_family(name), design.rounds
    comparison = _compare(metric, rule, design)(block, named)
    make = partial(sections.make, metric=metric.name)
    examined = decides and len(comparison.ranked) > 1
    chain: Conventional | None = None
    left_out: list[LeftOut] = []
    if examined:
        chain, left_out = make(
            f"conventional tests{where}",
            lambda: _conventional(block, name, comparison.pairs, rule, rounds),
            lambda failure: (None, []),
        )
    has_named = named in comparison.ranked
    family = Family(
        name=name,
        ranked=comparison.ranked,
        reference=named if named is not None and has_named else comparison.ranked[0],
        named=has_named,
        complete_rounds=comparison.complete_rounds,
        draws=comparison.draws,
        exact=comparison.exact,
        reason=comparison.reason,
        pairs=comparison.pairs,
        savings=make(
            f"savings{where}", lambda: savings(comparison, rule), lambda failure: Savings.unknown()
        ),
        conventional=chain,
        disagreements=(),
        power=None,
    )
    if not rounds:
        return family, left_out
    family = dataclasses.replace(
        family,
        disagreements=make(
            f"disagreement of tests{where}",
            lambda: (
                () if chain is None else disagreements(chain, comparison.pairs, block, rule.alpha)
            ),
            lambda failure: (),
        ),
        power=make(f"power{where}", lambda: plan(comparison, rule), lambda failure: None),
    )
    if examined:
        fewer = dataclasses.replace(rule, draws=min(rule.draws, _DRAWS_WITHOUT_A_ROUND))
        stated = {frozenset((pair.a, pair.b)) for pair in family.stated}
        without = make(
            f"verdicts without each round{where}",
            lambda: rests_on(
                block,
                family.stated,
                lambda kept: paired.compare(kept, fewer, named, stated),
                metric.higher_is_better,
            ),
            lambda failure: None,
        )
        family = dataclasses.replace(family, rests_on=without)
    return family, left_out


def _not_compared(
    name: str, cells: tuple[str, ...], failure: Failure
) -> tuple[Family, list[LeftOut]]:
    return Family.not_compared(name, cells, failure.reason), []


def _conventional(
    block: Block, name: str, pairs: Sequence[Pair], rule: Rule, rounds: bool
) -> tuple[Conventional | None, list[LeftOut]]:
    """The conventional tests of a family, and which of them could not be run."""
    where = f" ({name})" if name else ""
    if rounds:
        return conventional.chain(block, pairs, rule.alpha, where)
    chain, missing = conventional.chain(one_value_per_row(block), pairs, rule.alpha, where)
    # `not_possible` says once for all families what needs rounds, or a second value of a cell.
    repeated = (~np.isnan(block.values)).sum(axis=0).max() > 1
    return chain, [out for out in missing if repeated and "Friedman" not in out.name]


def _effects(
    study: Study, block: Block, design: Design, rule: Rule
) -> tuple[Effects, list[LeftOut]]:
    """The linear model of rounds and factors; of factors alone where there are no rounds."""
    if not design.one_machine:
        return Effects.not_fitted(ONE_MACHINE), []
    values = block if design.rounds else one_row(block)
    cell_levels = levels(study, values.cells, design.factors)
    effects, confounded = factorial_anova.effects(values, cell_levels, design.factors, rule)
    if design.rounds or len(values.cells) > len(set(values.cells)):
        return effects, confounded
    return dataclasses.replace(Effects.not_fitted(NO_SPREAD), trials=effects.trials), []
