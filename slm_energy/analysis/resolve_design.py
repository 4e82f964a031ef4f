"""What the options mean in one study: its factors, families of cells, and their references."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from collections.abc import Iterable, Sequence

import numpy as np

from slm_energy.analysis.result.design import Factor
from slm_energy.analysis.stats.comparison import Block, Rule
from slm_energy.analysis.trials.frame import Study, level
from slm_energy.cell import ARRIVALS, arrivals_differ, joined_levels, named_levels
from slm_energy.config.groups import Scalar
from slm_energy.config.options import AnalysisOptions
from slm_energy.errors import AnalysisError


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Design:
    """What the options mean in this study.

    Attributes:
        options: as given.
        factors: whose effects are estimated.
        families: cell id to the name of its family.
        references: family to the cell that was named as its reference.
        rounds: cells ran in rounds; else each cell's repetitions are a sample of its own.
        sharing: comparisons that share alpha: 1, or with adjust=study all of them.
        split: settings whose levels make a family.
        load: those of them that say how requests come.
        one_machine: the cells ran on one, so that their rounds are those of all.
    """

    options: AnalysisOptions
    factors: tuple[Factor, ...]
    families: dict[str, str]
    references: dict[str, str]
    rounds: bool
    sharing: int = 1
    split: tuple[str, ...] = ()
    load: tuple[str, ...] = ()
    one_machine: bool = True

    def rule(self, *, higher_is_better: bool = False) -> Rule:
        """How comparisons on one metric decide."""
        return Rule(
            alpha=self.options.alpha,
            margin=self.options.margin,
            draws=self.options.draws,
            seed=self.options.seed,
            higher_is_better=higher_is_better,
            sharing=self.sharing,
        )


def resolve_design(study: Study, options: AnalysisOptions, *, rounds: bool = True) -> Design:
    """Look up what the options name.

    Cells under different loads do different work per second, so that only those under the same load
    are of one family, and the load is a factor beside those that are named.

    Args:
        study: its factors and cells.
        options: as given.
        rounds: see `Design.rounds`.

    Raises:
        AnalysisError: the study has no such factor or cell.
    """
    load = arrivals_differ(study.settings.values())
    named = [factor.key for factor in study.factors(options.families, "families")]
    split = list(dict.fromkeys([*named, *load]))
    families = {cell: family_name(study.settings[cell], split) for cell in study.cells}
    if load:
        by_load = sorted(study.cells, key=lambda cell: _order(study.settings[cell], split))
        families = {cell: families[cell] for cell in by_load}
    factors = (*options.factors, *(key for key in load if key not in options.factors))
    return Design(
        options=options,
        factors=study.factors(factors if options.factors else (), "factors"),
        families=families,
        references=_references(study, families, split, options.reference),
        rounds=rounds,
        split=tuple(split),
        load=load,
        one_machine=not study.scopes,
    )


def family_name(settings: dict[str, Scalar], split: Sequence[str]) -> str:
    """The levels that make a cell's family, those of its load as in its label: `rate=2.0`."""
    plain = [level(settings, key) for key in split if key not in ARRIVALS]
    return joined_levels([*plain, *named_levels(settings, _loads(split))])


def within_family(study: Study, cell: str, split: Sequence[str]) -> str:
    """What of a cell's label is not its family's."""
    own = named_levels(study.settings[cell], _loads(split))
    parts = [text for key, text in study.label_parts[cell].items() if key not in split]
    return " / ".join(p for text in parts for p in text.split(" / ") if p not in own)


def _loads(split: Sequence[str]) -> list[str]:
    return [key for key in split if key in ARRIVALS]


def _order(settings: dict[str, Scalar], split: Sequence[str]) -> list[tuple[float, str]]:
    """Sorts by levels, those of the load that are numbers as such."""
    texts = [(key, level(settings, key)) for key in split]
    return [
        (float(text), "") if key in ARRIVALS and re.fullmatch(r"[\d.]+", text) else (math.inf, text)
        for key, text in texts
    ]


def _references(
    study: Study, families: dict[str, str], split: Sequence[str], named: str | None
) -> dict[str, str]:
    """Family to the cell that was named as its reference; empty when none was.

    It may be named by its id, by its label, or by what of its label is not its family's.
    """
    if named is None:
        return {}
    references: dict[str, str] = {}
    for cell, label in study.labels.items():
        if named in (cell, label, within_family(study, cell, split)):
            references.setdefault(families[cell], cell)
    if not references:
        known = ", ".join(study.labels[cell] for cell in study.cells[:8])
        more = f" and {len(study.cells) - 8} more" if len(study.cells) > 8 else ""
        raise AnalysisError(
            f"reference={named}: no such cell; study={study.name} has: {known}{more}"
        )
    valid = set(study.valid["cell"])
    if not any(cell in valid for cell in references.values()):
        raise AnalysisError(f"reference={named} has no valid trial; choose another, or null")
    return references


def members(cells: Iterable[str], design: Design) -> dict[str, tuple[str, ...]]:
    """Family to its cells, both in the order in which the cells are given; families by load."""
    families: dict[str, list[str]] = {}
    for cell in cells:
        families.setdefault(design.families[cell], []).append(cell)
    names = list(dict.fromkeys(design.families.values())) if design.load else list(families)
    return {name: tuple(families[name]) for name in names if name in families}


def with_sharing(design: Design, blocks: Iterable[Block]) -> Design:
    """The design with the number of its comparisons, if these share one error rate.

    Args:
        design: as resolved.
        blocks: the values of each metric.

    Raises:
        AnalysisError: there are too few draws for so small a share.
    """
    if design.options.adjust == "family":
        return design
    sizes: list[int] = []
    for block in blocks:
        valued = np.asarray(~np.isnan(block.values).all(axis=0))
        families = members(itertools.compress(block.cells, valued), design)
        sizes += [len(cells) for cells in families.values() if len(cells) > 1]
    sharing, options = max(1, len(sizes)), design.options
    fewest = math.ceil(10 * sharing / options.alpha) - 1
    if options.draws < fewest and any(size > 2 for size in sizes):
        raise AnalysisError(
            f"adjust=study: draws={options.draws} are too few for an error rate of "
            f"{options.alpha:g} that {sharing} comparisons share; set draws={fewest} or more"
        )
    return dataclasses.replace(design, sharing=sharing)


def levels(study: Study, cells: Iterable[str], factors: Sequence[Factor]) -> list[dict[str, str]]:
    """Per cell, factor key to level."""
    return [
        {factor.key: level(study.settings[cell], factor.key) for factor in factors}
        for cell in cells
    ]
