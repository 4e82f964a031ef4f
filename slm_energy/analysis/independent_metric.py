"""One metric whose repetitions are not rounds: cells as independent samples, family by family.

The conventional tests run for every metric, without those that need blocks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from functools import partial

from slm_energy.analysis.over_models import over_models
from slm_energy.analysis.resolve_design import Design, levels, members
from slm_energy.analysis.result.comparison import Conventional, Family, Savings
from slm_energy.analysis.result.design import LeftOut
from slm_energy.analysis.result.diagnostics import Diagnostics
from slm_energy.analysis.result.effects import Effects
from slm_energy.analysis.result.failure import Failure
from slm_energy.analysis.result.metric import Metric
from slm_energy.analysis.result.report import MetricResult
from slm_energy.analysis.sections import Sections, of_family
from slm_energy.analysis.stats import conventional, diagnostics, factorial_anova, outliers
from slm_energy.analysis.stats.comparison import Block, Rule, ranking, savings
from slm_energy.analysis.stats.independent import NO_SPREAD, compare, one_row, one_value_per_row
from slm_energy.analysis.trials.frame import Study

_NO_ROUNDS = "the repetitions are not rounds, so no cell's repetition belongs to another cell's"
_NEED_ROUNDS = "max-T over rounds, paired t intervals, rounds won, Friedman, Conover, drift, power"
_NEED_SPREAD = (
    "t intervals, Welch's t test, max-T test, Games-Howell, equivalence tests, Cliff's delta, A12, "
    "Shapiro-Wilk, Levene, Kruskal-Wallis, Dunn, Friedman, Conover, factor effects, power"
)


def analyse_independent(
    study: Study,
    trials: Sequence[diagnostics.TrialFacts],
    metric: Metric,
    block: Block,
    design: Design,
    sections: Sections,
) -> tuple[MetricResult, list[LeftOut]]:
    """Analyse one metric.

    Args:
        study: its repetitions.
        trials: the valid ones, as `trials.blocks` gives them.
        metric: which.
        block: its values over all cells; its rows are the numbers of repetitions, not rounds.
        design: what the options mean.
        sections: makes its parts, each on its own.

    Returns:
        The result, and what could not be done; `not_possible` names what never can.
    """
    rule = Rule(
        alpha=design.options.alpha,
        margin=design.options.margin,
        draws=design.options.draws,
        seed=design.options.seed,
        higher_is_better=metric.higher_is_better,
        sharing=design.sharing,
    )
    families: list[Family] = []
    left_out: list[LeftOut] = []
    for name, cells in members(ranking(one_value_per_row(block), rule), design).items():
        named = design.references.get(name)
        family, missing = sections.make(
            f"comparison{of_family(name)}",
            partial(_family, block.of(cells), name, metric, named, rule, sections),
            partial(_not_compared, name, cells),
            metric=metric.name,
        )
        families.append(family)
        left_out += missing
    ranked = tuple(cell for family in families for cell in family.ranked)
    own = block.of(ranked)
    effects, confounded = sections.make(
        "effects of the factors",
        lambda: _effects(study, own, design, rule),
        lambda failure: (Effects.not_fitted(failure.reason), []),
        metric=metric.name,
    )
    flagged = sections.make(
        "flagged trials",
        lambda: outliers.find(own.values, rule.alpha, rounds=False),
        lambda failure: outliers.Outliers.unknown(own.values.shape),
        metric=metric.name,
    )
    changed = sections.make(
        "verdicts without flagged trials",
        lambda: diagnostics.changed_verdicts(
            own,
            flagged,
            families,
            lambda kept, reference: compare(kept, metric, rule, reference),
            metric.higher_is_better,
        ),
        lambda failure: (),
        metric=metric.name,
    )
    result = MetricResult(
        metric=metric,
        descriptive=sections.make(
            "cell by cell",
            lambda: diagnostics.describe_all(own, rule.alpha),
            lambda failure: (),
            metric=metric.name,
        ),
        diagnostics=sections.make(
            "outliers",
            lambda: diagnostics.diagnose_independent(own, trials, flagged, changed),
            lambda failure: Diagnostics.unknown(),
            metric=metric.name,
        ),
        families=tuple(families),
        effects=effects,
        population=sections.make(
            "over models",
            lambda: over_models(study, own, rule, rounds=False),
            lambda failure: None,
            metric=metric.name,
        ),
    )
    return result, left_out + confounded


def not_possible(metrics: Iterable[MetricResult]) -> LeftOut:
    """The tests that such data do not allow: they need rounds or, with one value, a spread."""
    if any(result.repeated for result in metrics):
        return LeftOut(scope="test", name=_NEED_ROUNDS, reason=_NO_ROUNDS)
    return LeftOut(scope="test", name=_NEED_SPREAD, reason=NO_SPREAD)


def _family(
    block: Block, name: str, metric: Metric, named: str | None, rule: Rule, sections: Sections
) -> tuple[Family, list[LeftOut]]:
    comparison = compare(block, metric, rule, named)
    make = partial(sections.make, metric=metric.name)
    chain: Conventional | None = None
    left_out: list[LeftOut] = []
    if len(block.cells) > 1:
        where = f" ({name})" if name else ""
        samples = one_value_per_row(block)
        chain, missing = make(
            f"conventional tests{of_family(name)}",
            lambda: conventional.chain(samples, comparison.pairs, rule.alpha, where),
            lambda failure: (None, []),
        )
        # `not_possible` says once for all families why there is no Friedman and no Conover.
        left_out = [out for out in missing if chain is not None and "Friedman" not in out.name]
    has_named = named in comparison.ranked
    family = Family(
        name=name,
        ranked=comparison.ranked,
        reference=named if named is not None and has_named else comparison.ranked[0],
        named=has_named,
        complete_rounds=0,
        draws=0,
        exact=False,
        reason=comparison.reason,
        pairs=comparison.pairs,
        savings=make(
            f"savings{of_family(name)}",
            lambda: savings(comparison, rule),
            lambda failure: Savings.unknown(),
        ),
        conventional=chain,
        disagreements=(),
        power=None,
    )
    return family, left_out


def _not_compared(
    name: str, cells: tuple[str, ...], failure: Failure
) -> tuple[Family, list[LeftOut]]:
    return Family.not_compared(name, cells, failure.reason), []


def _effects(
    study: Study, block: Block, design: Design, rule: Rule
) -> tuple[Effects, list[LeftOut]]:
    """The linear model without rounds."""
    values = one_row(block)
    cell_levels = levels(study, values.cells, design.factors)
    effects, confounded = factorial_anova.effects(values, cell_levels, design.factors, rule)
    if len(values.cells) > len(set(values.cells)):
        return effects, confounded
    return dataclasses.replace(Effects.not_fitted(NO_SPREAD), trials=effects.trials), []
