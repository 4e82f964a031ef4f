"""One metric whose cells are compared within rounds, family by family."""

from __future__ import annotations

from collections.abc import Sequence

from slm_energy.analysis.over_models import over_models
from slm_energy.analysis.resolve_design import Design, levels, members
from slm_energy.analysis.result.comparison import Conventional, Family
from slm_energy.analysis.result.design import LeftOut
from slm_energy.analysis.result.metric import Metric
from slm_energy.analysis.result.report import MetricResult
from slm_energy.analysis.sentinel import sentinel_drift
from slm_energy.analysis.stats import conventional, diagnostics, factorial_anova, outliers
from slm_energy.analysis.stats.comparison import Block, Rule, ranking, savings
from slm_energy.analysis.stats.paired import compare
from slm_energy.analysis.stats.power import plan
from slm_energy.analysis.text.disagreement import disagreements
from slm_energy.analysis.trials.frame import Study


def analyse_blocked(
    study: Study,
    trials: Sequence[diagnostics.TrialFacts],
    metric: Metric,
    block: Block,
    design: Design,
    decides: bool,
) -> tuple[MetricResult, list[LeftOut]]:
    """Analyse one metric.

    Args:
        study: its trials.
        trials: the valid ones, as `trials.blocks` gives them.
        metric: which.
        block: its values over all cells.
        design: what the options mean.
        decides: the verdict rests on it, so the conventional tests are run as well.

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
        family, missing = _family(block.of(cells), name, named, rule, decides)
        families.append(family)
        left_out += missing
    ranked = tuple(cell for family in families for cell in family.ranked)
    own = block.of(ranked)
    cell_levels = levels(study, ranked, design.factors)
    effects, confounded = factorial_anova.effects(own, cell_levels, design.factors, rule)
    flagged = outliers.find(own.values, rule.alpha, rounds=True)
    changed = diagnostics.changed_verdicts(
        own,
        flagged,
        families,
        lambda kept, reference: compare(kept, rule, reference),
        metric.higher_is_better,
    )
    result = MetricResult(
        metric=metric,
        descriptive=diagnostics.describe_all(own, rule.alpha),
        diagnostics=diagnostics.diagnose(own, trials, flagged, changed, rule.alpha),
        families=tuple(families),
        effects=effects,
        sentinel=sentinel_drift(study, metric, rule.alpha),
        population=over_models(study, own, rule, rounds=True),
    )
    return result, left_out + confounded


def _family(
    block: Block, name: str, named: str | None, rule: Rule, decides: bool
) -> tuple[Family, list[LeftOut]]:
    """Compare one family; the conventional tests are for the metric that decides."""
    comparison = compare(block, rule, named)
    cells = len(comparison.ranked)
    chain: Conventional | None = None
    left_out: list[LeftOut] = []
    if decides and cells > 1:
        where = f" ({name})" if name else ""
        chain, left_out = conventional.chain(block, comparison.pairs, rule.alpha, where)
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
        savings=savings(comparison, rule),
        conventional=chain,
        disagreements=()
        if chain is None
        else disagreements(chain, comparison.pairs, block, rule.alpha),
        power=plan(comparison, rule),
    )
    return family, left_out
