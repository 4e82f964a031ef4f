"""Critical difference diagram: mean ranks over rounds, and the groups that do not differ.

The diagram is Demsar's (2006), with the groups of the report's own comparison instead of a Nemenyi
distance: a bar joins neighbours no two of which differ at alpha. Ranks are not joules, so ranks of
estimates look the same; the title says when the ranked metric is estimated.

    ranking      mean ranks, and which cells do not differ
    to_svg       as SVG
    to_tikz      as a tikzpicture
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import scipy.stats

from slm_energy.analysis.result.comparison import Family
from slm_energy.analysis.result.report import MetricResult
from slm_energy.escape import latex
from slm_energy.svg import ROW, WIDTH, Picture, Scale, shortened


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Ranking:
    """Cells by mean rank.

    Attributes:
        cells: (k,) ids, best first.
        mean_ranks: (k,) over the rounds; 1 is best; ties share their ranks.
        rounds: how many.
        cliques: first and last index of each group of two or more cells that do not differ.
    """

    cells: tuple[str, ...]
    mean_ranks: tuple[float, ...]
    rounds: int
    cliques: tuple[tuple[int, int], ...]


def ranking(result: MetricResult, family: Family, alpha: float) -> Ranking | None:
    """Rank the cells of a family within each complete round.

    Returns:
        None with fewer than three cells or without a complete round, as where repetitions are not
        blocks.
    """
    values: dict[int, dict[str, float]] = {}
    for point in result.diagnostics.points:
        values.setdefault(point.round, {})[point.cell] = point.value
    cells = family.ranked
    rows = [[row[c] for c in cells] for row in values.values() if all(c in row for c in cells)]
    if len(cells) < 3 or not family.complete_rounds or not rows:
        return None
    table = np.array(rows) * (-1 if result.metric.higher_is_better else 1)
    means = scipy.stats.rankdata(table, axis=1).mean(axis=0)
    order = np.argsort(means, kind="stable")
    differ = {
        frozenset((pair.a, pair.b))
        for pair in family.pairs
        if pair.p is not None and pair.p <= alpha
    }
    ordered = tuple(cells[i] for i in order)
    return Ranking(
        cells=ordered,
        mean_ranks=tuple(float(means[i]) for i in order),
        rounds=len(rows),
        cliques=_cliques(ordered, differ),
    )


def _cliques(cells: Sequence[str], differ: set[frozenset[str]]) -> tuple[tuple[int, int], ...]:
    """The longest runs of neighbours no two of which differ; none lies within another."""
    cliques: list[tuple[int, int]] = []
    for first in range(len(cells)):
        last = first
        while last + 1 < len(cells) and not any(
            frozenset((cells[last + 1], cells[i])) in differ for i in range(first, last + 1)
        ):
            last += 1
        if last > first and (not cliques or last > cliques[-1][1]):
            cliques.append((first, last))
    return tuple(cliques)


def to_svg(ranking: Ranking, labels: Mapping[str, str], title: str) -> str:
    """The diagram as SVG.

    Args:
        ranking: what it shows.
        labels: cell id to name.
        title: what is ranked.
    """
    names = [labels[cell] for cell in ranking.cells]
    top = 40.0 + 10 * len(ranking.cliques)
    axis = Scale(low=1, high=max(2, len(names)), left=100, right=WIDTH - 100)
    words = "; ".join(
        f"{name} {rank:.2f}" for name, rank in zip(names, ranking.mean_ranks, strict=True)
    )
    height = top + 10 + len(names) * ROW
    picture = Picture(WIDTH, height, f"{title}: mean ranks, 1 is best", words)
    picture.line(axis.left, 26, axis.right, 26, "axis")
    for tick in _ticks(len(names)):
        picture.line(axis(tick), 21, axis(tick), 26, "axis")
        picture.text(axis(tick), 16, str(tick), "small soft", "middle")
    for level, (first, last) in enumerate(ranking.cliques):
        y = 36.0 + 10 * level
        low, high = ranking.mean_ranks[first], ranking.mean_ranks[last]
        picture.line(axis(low) - 3, y, axis(high) + 3, y, "clique")
    for position, (name, rank) in enumerate(zip(names, ranking.mean_ranks, strict=True)):
        at, y = axis(rank), top + 4 + position * ROW
        picture.line(at, 26, at, y, "thin")
        picture.circle(at, y, 4, "best")
        left, right = (at - 8, "end"), (at + 8, "start")
        (x, anchor), (other_x, other) = (right, left) if at < WIDTH / 2 else (left, right)
        picture.text(x, y + 4, shortened(name), "", anchor)
        picture.text(other_x, y + 4, f"{rank:.2f}", "small soft", other)
    return picture.svg()


def to_tikz(ranking: Ranking, labels: Mapping[str, str], title: str) -> str:
    r"""The diagram as a tikzpicture, 8 cm between best and worst; needs only the package tikz.

    Args:
        ranking: what it shows.
        labels: cell id to name.
        title: what is ranked.
    """
    count = len(ranking.cells)
    half = (count + 1) // 2
    step = 8 / max(1, count - 1)
    top = 0.5 + 0.15 * len(ranking.cliques)

    def x(rank: float) -> str:
        return f"{(rank - 1) * step:.3f}"

    lines = [
        f"% {latex(title)}: mean ranks over {ranking.rounds} rounds, 1 is best.",
        r"\begin{tikzpicture}[font=\small]",
        rf"\draw (0,0) -- ({x(count)},0);",
    ]
    for tick in _ticks(count):
        lines.append(rf"\draw ({x(tick)},0) -- ({x(tick)},0.1) node[above] {{{tick}}};")
    for level, (first, last) in enumerate(ranking.cliques):
        low, high = ranking.mean_ranks[first], ranking.mean_ranks[last]
        y = f"{-0.2 - 0.15 * level:.3f}"
        lines.append(
            rf"\draw[line width=1.6pt] ([xshift=-2pt]{x(low)},{y}) -- ([xshift=2pt]{x(high)},{y});"
        )
    for position, (cell, rank) in enumerate(zip(ranking.cells, ranking.mean_ranks, strict=True)):
        on_left = position < half
        y = f"{-top - 0.45 * (position if on_left else count - 1 - position):.3f}"
        end, side = ("-0.3", "left") if on_left else (f"{8.3:g}", "right")
        name = latex(labels[cell])
        lines.append(rf"\draw ({x(rank)},0) |- ({end},{y}) node[{side}] {{{name}}};")
    return "\n".join([*lines, r"\end{tikzpicture}", ""])


def _ticks(count: int) -> range:
    """Ranks that the axis names: all of them, or every second, third, ... of many."""
    return range(1, count + 1, 1 + count // 25)
