"""The cells of one metric, compared family by family: `report` puts the metrics together."""

from __future__ import annotations

import dataclasses

from slm_energy.analysis.options import AnalysisOptions
from slm_energy.analysis.result.metric import Metric
from slm_energy.analysis.result.report import Factor, Family, LeftOut, MetricResult
from slm_energy.analysis.sentinel import sentinel_drift
from slm_energy.analysis.stats import conventional, diagnostics, factorial_anova
from slm_energy.analysis.stats.paired import Block, Rule, compare, ranking, savings
from slm_energy.analysis.stats.power import plan
from slm_energy.analysis.text.disagreement import disagreements
from slm_energy.analysis.trials.frame import Study, level
from slm_energy.errors import AnalysisError


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Design:
    """What the options mean in this study.

    Attributes:
        options: as asked.
        factors: whose effects are estimated.
        families: cell id to the name of its family.
        references: family to the cell that was named as its reference.
    """

    options: AnalysisOptions
    factors: tuple[Factor, ...]
    families: dict[str, str]
    references: dict[str, str]


def resolve_design(study: Study, options: AnalysisOptions) -> Design:
    """Look up what the options name.

    Raises:
        AnalysisError: the study has no such factor or cell.
    """
    families = _families(study, options)
    return Design(
        options=options,
        factors=study.factors(options.factors, "factors"),
        families=families,
        references=_references(study, families, options.reference),
    )


def _families(study: Study, options: AnalysisOptions) -> dict[str, str]:
    """Cell id to the name of its family: its levels of the factors that make one."""
    split = study.factors(options.families, "families")
    return {
        cell: " / ".join(level(study.settings[cell], factor.key) for factor in split)
        for cell in study.cells
    }


def _references(study: Study, families: dict[str, str], asked: str | None) -> dict[str, str]:
    """Family to the cell that was named as its reference; empty when none was."""
    if asked is None:
        return {}
    found: dict[str, str] = {}
    for cell, label in study.labels.items():
        within = [part for part in label.split(" / ") if part not in families[cell].split(" / ")]
        if asked in (cell, label, " / ".join(within)):
            found.setdefault(families[cell], cell)
    if not found:
        known = ", ".join(study.labels[cell] for cell in study.cells[:8])
        more = f" and {len(study.cells) - 8} more" if len(study.cells) > 8 else ""
        raise AnalysisError(
            f"reference={asked}: no such cell; study={study.name} has: {known}{more}"
        )
    valid = set(study.valid["cell"])
    if not any(cell in valid for cell in found.values()):
        raise AnalysisError(f"reference={asked} has no valid trial; choose another, or null")
    return found


def analyse_metric(
    study: Study,
    metric: Metric,
    block: Block,
    design: Design,
    decides: bool,
    left_out: list[LeftOut],
) -> MetricResult:
    """Analyse one metric, family by family.

    Args:
        study: its trials.
        metric: which.
        block: its values over all cells.
        design: what the options mean.
        decides: the verdict rests on it, so that the conventional chain stands beside it.
        left_out: gets what could not be done.
    """
    rule = Rule(
        alpha=design.options.alpha,
        margin=design.options.margin,
        draws=design.options.draws,
        seed=design.options.seed,
        higher_is_better=metric.higher_is_better,
    )
    members: dict[str, list[str]] = {}
    for cell in ranking(block, rule):
        members.setdefault(design.families[cell], []).append(cell)
    found = [
        _family(block.of(tuple(cells)), name, design.references.get(name), rule, decides, left_out)
        for name, cells in members.items()
    ]
    ranked = tuple(cell for family in found for cell in family.ranked)
    own = block.of(ranked)
    levels = [{f.key: level(study.settings[c], f.key) for f in design.factors} for c in ranked]
    effects, confounded = factorial_anova.effects(own, levels, design.factors, rule.alpha)
    left_out += confounded
    rows = (diagnostics.describe(own, cell, rule.alpha) for cell in ranked)
    return MetricResult(
        metric=metric,
        descriptive=tuple(row for row in rows if row is not None),
        diagnostics=diagnostics.diagnose(own, study.valid, found, rule),
        families=tuple(found),
        effects=effects,
        sentinel=sentinel_drift(study, metric, rule),
    )


def _family(
    block: Block,
    name: str,
    named: str | None,
    rule: Rule,
    decides: bool,
    left_out: list[LeftOut],
) -> Family:
    """Compare one family; the conventional chain is for the metric that decides."""
    comparison = compare(block, rule, named)
    cells = len(comparison.ranked)
    chain = None
    if decides and cells > 1:
        where = f" ({name})" if name else ""
        chain, missing = conventional.chain(block, comparison.pairs, rule.alpha, where)
        left_out += missing
    there = named in comparison.ranked
    return Family(
        name=name,
        ranked=comparison.ranked,
        reference=named if named is not None and there else comparison.ranked[0],
        named=there,
        complete_rounds=comparison.complete_rounds,
        draws=comparison.draws,
        exact=comparison.exact,
        reason=comparison.reason,
        pairs=comparison.pairs,
        savings=savings(comparison, rule),
        conventional=chain,
        disagreements=()
        if chain is None
        else disagreements(chain, comparison.pairs, cells, rule.alpha),
        power=plan(comparison, rule),
    )
