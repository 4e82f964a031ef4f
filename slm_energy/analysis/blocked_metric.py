"""One metric whose cells are compared within rounds, family by family."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
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
from slm_energy.analysis.sentinel import sentinel_drift
from slm_energy.analysis.stats import conventional, diagnostics, factorial_anova, outliers
from slm_energy.analysis.stats.comparison import Block, Rule, ranking, savings
from slm_energy.analysis.stats.leave_one_out import rests_on
from slm_energy.analysis.stats.paired import compare
from slm_energy.analysis.stats.power import plan
from slm_energy.analysis.text.disagreement import disagreements
from slm_energy.analysis.trials.frame import Study

_DRAWS_WITHOUT_A_ROUND = 999
"""Fewer than of the comparison itself, for there is one of them for each round."""


def analyse_blocked(
    study: Study,
    trials: Sequence[diagnostics.TrialFacts],
    metric: Metric,
    block: Block,
    design: Design,
    decides: bool,
    sections: Sections,
) -> tuple[MetricResult, list[LeftOut]]:
    """Analyse one metric.

    Args:
        study: its trials.
        trials: the valid ones, as `trials.blocks` gives them.
        metric: which.
        block: its values over all cells.
        design: what the options mean.
        decides: the verdict rests on it, so the conventional tests are run as well, and the stated
            verdicts are checked without each round.
        sections: makes its parts, each on its own.

    Returns:
        The result, and what could not be done.
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
    for name, cells in members(ranking(block, rule), design).items():
        named = design.references.get(name)
        family, missing = sections.make(
            f"comparison{of_family(name)}",
            partial(_family, block.of(cells), name, metric, named, rule, decides, sections),
            partial(_not_compared, name, cells),
            metric=metric.name,
        )
        families.append(family)
        left_out += missing
    ranked = tuple(cell for family in families for cell in family.ranked)
    own = block.of(ranked)
    cell_levels = levels(study, ranked, design.factors)
    effects, confounded = sections.make(
        "effects of the factors",
        lambda: factorial_anova.effects(own, cell_levels, design.factors, rule),
        lambda failure: (Effects.not_fitted(failure.reason), []),
        metric=metric.name,
    )
    flagged = sections.make(
        "flagged trials",
        lambda: outliers.find(own.values, rule.alpha, rounds=True),
        lambda failure: outliers.Outliers.unknown(own.values.shape),
        metric=metric.name,
    )
    changed = sections.make(
        "verdicts without flagged trials",
        lambda: diagnostics.changed_verdicts(
            own,
            flagged,
            families,
            lambda kept, reference: compare(kept, rule, reference),
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
            "drift and outliers",
            lambda: diagnostics.diagnose(own, trials, flagged, changed, rule.alpha),
            lambda failure: Diagnostics.unknown(),
            metric=metric.name,
        ),
        families=tuple(families),
        effects=effects,
        sentinel=sections.make(
            "sentinel",
            lambda: sentinel_drift(study, metric, rule.alpha),
            lambda failure: None,
            metric=metric.name,
        ),
        population=sections.make(
            "over models",
            lambda: over_models(study, own, rule, rounds=True),
            lambda failure: None,
            metric=metric.name,
        ),
    )
    return result, left_out + confounded


def _family(
    block: Block,
    name: str,
    metric: Metric,
    named: str | None,
    rule: Rule,
    decides: bool,
    sections: Sections,
) -> tuple[Family, list[LeftOut]]:
    """Compare one family; the conventional tests are for the metric that decides."""
    comparison, where = compare(block, rule, named), of_family(name)
    cells = len(comparison.ranked)
    make = partial(sections.make, metric=metric.name)
    chain: Conventional | None = None
    left_out: list[LeftOut] = []
    if decides and cells > 1:
        chain, left_out = make(
            f"conventional tests{where}",
            lambda: conventional.chain(
                block, comparison.pairs, rule.alpha, f" ({name})" if name else ""
            ),
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
        disagreements=make(
            f"disagreement of tests{where}",
            lambda: (
                () if chain is None else disagreements(chain, comparison.pairs, block, rule.alpha)
            ),
            lambda failure: (),
        ),
        power=make(f"power{where}", lambda: plan(comparison, rule), lambda failure: None),
    )
    if decides and cells > 1:
        fewer = dataclasses.replace(rule, draws=min(rule.draws, _DRAWS_WITHOUT_A_ROUND))
        without = make(
            f"verdicts without each round{where}",
            lambda: rests_on(
                block,
                family.stated,
                lambda kept: compare(kept, fewer, named),
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
