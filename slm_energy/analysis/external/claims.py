"""What a paper claims about its table, checked against the table.

A claim is data: its kind says what to compute, and the answer is yes, no or
`cannot be determined`, with the number. All but `differ` rest on one figure
per cell, see `savings`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Literal

import pandas as pd

from slm_energy.analysis.external.savings import groups, saving_pct, setting
from slm_energy.analysis.result.report import Report
from slm_energy.errors import one_line

Follows = Literal["yes", "no", "cannot be determined"]
CORE = ("model.name", "engine.name", "provider.name")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """One statement.

    Attributes:
        text: in our own words.
        kind: what it says of each group:
            least_saving: the smallest saving over the groups is `published`.
            largest_saving: the largest one is.
            cheaper: every cell of `cell` costs less than every one of `than`, or than all others.
            differ: Kruskal-Wallis finds a difference.
        metric: of what.
        among: levels of the cells that it is about, such as {provider: CUDA}.
        cell: levels of the cells that are said to cost less; empty: the cheapest of each group.
        than: levels of those that it is compared with; empty: all others.
        rival: with savings, the `dearest` of the others (the authors' definition) or the `nearest`.
        each: factors whose levels make a group.
        groups: how many groups the authors had; fewer can refute a claim, not confirm it.
        published: with savings, the published figure in per cent, with its digits.
        note: what a reader needs to interpret the answer.
    """

    text: str
    kind: Literal["least_saving", "largest_saving", "cheaper", "differ"]
    metric: str
    groups: int
    among: dict[str, str] = dataclasses.field(default_factory=dict)
    cell: dict[str, str] = dataclasses.field(default_factory=dict)
    than: dict[str, str] = dataclasses.field(default_factory=dict)
    rival: Literal["dearest", "nearest"] = "dearest"
    each: tuple[str, ...] = ("model",)
    published: float | None = None
    note: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class CheckedClaim:
    """A claim and what the table says.

    Attributes:
        claim: the statement.
        computed: the same from the table, in words.
        follows: whether it does.
    """

    claim: Claim
    computed: str
    follows: Follows

    @property
    def published(self) -> str:
        """The published figure."""
        return "-" if self.claim.published is None else f"{self.claim.published} %"

    def sentence(self) -> str:
        """For a report's notes."""
        verdict = {"yes": "follows from this table", "no": "does not follow from this table"}
        figure = "" if self.claim.published is None else f" (published: {self.published})"
        note = f" {self.claim.note}." if self.claim.note else ""
        return (
            f"Claim: {self.claim.text}{figure}: {verdict.get(self.follows, self.follows)}: "
            f"{self.computed}.{note}"
        )


def check(claim: Claim, medians: pd.DataFrame, report: Report) -> CheckedClaim:
    """Check a claim against the table.

    Args:
        claim: the statement.
        medians: one row per cell, as `savings.cell_medians` gives it.
        report: of the same table; `differ` reads its conventional tests.
    """
    computed, follows = _tested(claim, report) if claim.kind == "differ" else _read(claim, medians)
    return CheckedClaim(claim=claim, computed=computed, follows=follows)


def _read(claim: Claim, medians: pd.DataFrame) -> tuple[str, Follows]:
    names = {*claim.among, *claim.cell, *claim.than, *claim.each}
    for name in (claim.metric, *map(setting, sorted(names))):
        if name not in medians:
            return f"the table has no {name}", "cannot be determined"
    rows = medians[_has(medians, claim.among) & (medians[claim.metric] > 0)]
    sides = {
        name: _sides(claim, cells)
        for name, cells in groups(rows, [setting(factor) for factor in claim.each])
    }
    sides = {name: side for name, side in sides.items() if not any(part.empty for part in side)}
    if not sides:
        return "the table has none of the cells it is about", "cannot be determined"
    part = f" of {claim.groups} groups" if len(sides) < claim.groups else ""
    if claim.kind == "cheaper":
        not_so = [name for name, (own, others) in sides.items() if own.max() >= others.min()]
        text = f"so in {len(sides) - len(not_so)} of {len(sides)}"
        if not_so:
            return f"{text}, not in {one_line(', '.join(not_so), 120)}", "no"
        if part:
            return f"{text}, which are not all{part}", "cannot be determined"
        return text, "yes"
    assert claim.published is not None
    savings = {
        name: saving_pct(own.max(), others.min() if claim.rival == "nearest" else others.max())
        for name, (own, others) in sides.items()
    }
    choose = min if claim.kind == "least_saving" else max
    name = choose(savings, key=savings.__getitem__)
    by = "" if claim.cell else f", by {_name(claim, rows.loc[sides[name][0].index[0]])}"
    digits = len(str(claim.published).partition(".")[2])
    text = f"{savings[name]:.{digits}f} % ({name}{by})"
    if part:
        return f"{text} in {len(sides)}{part}", "cannot be determined"
    same = abs(savings[name] - claim.published) <= 0.5 * 10**-digits + 1e-9
    return text, "yes" if same else "no"


def _sides(claim: Claim, cells: pd.DataFrame) -> tuple[pd.Series[float], pd.Series[float]]:
    """Costs of the claim's cells, and of those that they are compared with."""
    costs = cells[claim.metric]
    own = _has(cells, claim.cell) if claim.cell else costs.index == costs.idxmin()
    others = ~own & _has(cells, claim.than)
    return costs[own], costs[others]


def _name(claim: Claim, cell: pd.Series[str]) -> str:
    """What distinguishes a cell from the others of its group."""
    known = {setting(name) for name in (*claim.each, *claim.among)}
    return " / ".join(str(cell[key]) for key in CORE if key not in known)


def _tested(claim: Claim, report: Report) -> tuple[str, Follows]:
    """Kruskal-Wallis in each family."""
    p = [
        family.conventional.kruskal_p
        for result in report.metrics
        if result.metric.name == claim.metric
        for family in result.families
        if family.conventional is not None
    ]
    if not p:
        return "a test needs repetitions, and the table has none to test", "cannot be determined"
    differing = sum(value <= report.options.alpha for value in p)
    text = f"p <= {report.options.alpha:g} in {differing} of {len(p)}"
    if differing < len(p):
        return text, "no"
    if len(p) < claim.groups:
        return f"{text}, which are not all of {claim.groups} groups", "cannot be determined"
    return text, "yes"


def _has(rows: pd.DataFrame, levels: Mapping[str, str]) -> pd.Series[bool]:
    matching = pd.Series(True, index=rows.index)
    for name, level in levels.items():
        matching &= rows[setting(name)] == level
    return matching
