"""How the figures about solved tasks were made, in the paragraphs of a paper's method section."""

from __future__ import annotations

from slm_energy.analysis.result.report import Report
from slm_energy.analysis.result.solved import CellSolved
from slm_energy.analysis.text.phrases import confidence, times


def methods(report: Report) -> tuple[str, ...]:
    """Two paragraphs, on one cell and on pairs; none where nothing was scored."""
    cells = [cell for each in report.solved for cell in each.cells]
    if not cells:
        return ()
    pairs = [p for each in report.solved for family in each.families for p in family.pairs]
    paragraphs = [_one_cell(report, cells)]
    if pairs:
        paragraphs.append(_two_cells(report, identical=any(pair.identical for pair in pairs)))
    return tuple(paragraphs)


def _one_cell(report: Report, cells: list[CellSolved]) -> str:
    """On pass rates and joules per solved task."""
    tasks = max(each.tasks for each in report.solved)
    varying = (
        "Where answers differ between rounds, a task counts with the share of rounds in which it "
        "is solved, and that variation is part of the interval for these tasks. "
        if any(cell.varying for cell in cells)
        else ""
    )
    energy = (
        "by the time that each task took"
        if all(cell.attributed for cell in cells)
        else "equally where the time that each task took is not known"
    )
    return (
        f"The first answer to each of {times(tasks, 'task')} was run against the task's tests. "
        f"{varying}Pass rates have Wilson's {confidence(report)} interval; where no task is solved "
        "the upper limit is the exact one-sided one. Joules per solved task are the energy of all "
        "attempts, failed ones included, over the number solved; they are undefined where none is "
        "solved. They have two intervals. The one for these tasks is a t interval on the log over "
        "rounds: the tasks are taken as given. The one for tasks like these takes the tasks as a "
        "random sample of others: it combines the intervals of energy over rounds, of energy over "
        "tasks and of the pass rate on the log scale, with the correlation of a task's energy with "
        f"its being solved (MOVER, Zou and Donner 2008); energy is attributed to tasks {energy}. "
        "Rounds that repeat an answer are not counted as further tasks."
    )


def _two_cells(report: Report, *, identical: bool) -> str:
    """On the comparison of cells that answered the same tasks."""
    options = report.options
    same = (
        " Cells that gave identical answers to all tasks are taken to do so for other tasks: the "
        "difference of their pass rates is 0, and the ratio of their joules per solved task is "
        "that of their energies, with its interval."
        if identical
        else ""
    )
    return (
        "Cells are paired by task. Equal pass rates are tested by McNemar's exact test, adjusted "
        "for all pairs of a family (Holm). The difference of two pass rates has Newcombe's "
        "interval for paired proportions (1998, method 10), at a level that holds for all pairs "
        "(Bonferroni): a cell is better where this interval is above 0 and the adjusted p is at "
        f"most {options.alpha:g}, not worse where it is above -{options.margin_points:g} "
        f"{'point' if options.margin_points == 1 else 'points'}, the margin that was declared, and "
        "worse where it is below it. The ratio of joules per solved task is compared as that of "
        "other metrics, with the choice of tasks as a further error that rounds do not reduce: "
        "each task has a random weight, the same in all cells (a paired bootstrap with normal "
        "weights on each task's influence, which has no samples without a solved task), and each "
        "cell the variance of one more solved task or one fewer that it shares with no other "
        "(after Bonett and Price 2006), so that few solved tasks give wide intervals."
        f"{same}"
    )
