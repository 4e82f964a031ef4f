"""How often the figures about solved tasks are right when the truth is known: simulated studies.

    python benchmarks/solved_intervals.py [--studies 1000] [--tasks 20 40 164] [--families]

A task is solved with a known chance; the energy of its answer is lognormal, and a failing answer is
longer (`workload.stop=code` ends a working one early); each round adds noise to the energy of all.
The whole chain of a report is run on each study: `analysis.solved.solved`.

Without options it prints, for one cell, how often the intervals of joules per solved task hold the
truth: for these tasks, and for tasks like these, where the chance of a study is drawn near the one
that is printed (the coverage of an interval from a count oscillates with the chance) and where it
is exactly that. A study in which nothing is solved holds if the upper limit of the pass rate does.
Beside it is the percentile bootstrap over tasks and rounds of the studies in which something is
solved; of its samples those in which nothing is are without an upper end.

With `--families` it prints how often any verdict of a family of cells is false, and how often all
of its intervals hold: where cells are alike, where half of them cost the margin more, and where
half of them solve the margin of pass rates less. Cells solve the same tasks to the extent that is
printed: 0 independently, 1 those of the better one and more.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from slm_energy.analysis.answered import Answered
from slm_energy.analysis.options import AnalysisOptions
from slm_energy.analysis.resolve_design import Design
from slm_energy.analysis.result.metric import Metric
from slm_energy.analysis.result.solved import CellSolved, Solved
from slm_energy.analysis.solved import solved
from slm_energy.analysis.stats.comparison import Block
from slm_energy.analysis.trials.answers import CellAnswers

Floats = npt.NDArray[np.float64]
ALPHA = 0.05
MARGIN = POINTS = 0.02
CHANCES = (0.05, 0.1, 0.3, 0.6, 0.95)
TASKS = (20, 40, 164)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """How studies come about.

    Attributes:
        tasks: of the workload.
        rounds: of the study.
        noise: standard deviation of a round's log energy, of each cell.
        spread: standard deviation of a task's log energy, shared by all cells.
        longer: by how much of itself a failing answer costs more.
        alike: how much cells solve the same tasks: correlation of their normal scores.
        sampled: answers differ between rounds: each round is a draw with the task's own chance,
            which is beta distributed over tasks; else all rounds repeat one answer.
    """

    tasks: int = 40
    rounds: int = 5
    noise: float = 0.02
    spread: float = 0.3
    longer: float = 0.8
    alike: float = 0.0
    sampled: bool = False

    def study(
        self, chances: Floats, costs: Floats, generator: np.random.Generator
    ) -> tuple[Answered, Floats, Floats]:
        """Run a study.

        Args:
            chances: per cell, of solving a task.
            costs: per cell, energy of an attempt relative to the others'.
            generator: of everything random.

        Returns:
            The study, and for each cell the log of joules per solved task, for tasks like these
            and for these tasks.
        """
        cells, n = len(chances), self.tasks
        answers, expected = self._answers(chances, generator)
        common = np.exp(generator.normal(-(self.spread**2) / 2, self.spread, n))
        energies = common * (1 + self.longer * (1 - answers)) * costs[:, None, None]
        noise = generator.normal(0, self.noise, (cells, self.rounds))
        measured = energies.mean(axis=2) * np.exp(noise)
        names = tuple(f"c{cell:02}" for cell in range(cells))
        rates = answers.mean(axis=(1, 2))
        with np.errstate(divide="ignore", invalid="ignore"):
            these = costs * (common * (1 + self.longer * (1 - expected))).mean(axis=1)
            these = np.log(these / expected.mean(axis=1))
            values = np.where(rates[:, None] > 0, measured / rates[:, None], np.nan)
            if self.sampled:  # as `analysis.solved` does
                values = values * np.exp(1 - answers.mean(axis=2) / rates[:, None])
        like = np.log(costs * (1 + self.longer * (1 - chances)) / chances)
        shares = (energies / energies.mean(axis=2, keepdims=True)).mean(axis=1)
        scores = {
            name: CellAnswers(
                tasks=tuple(map(str, range(n))),
                refused=0,
                unserved=0,
                solved=answers[cell],
                rounds=tuple(range(1, self.rounds + 1)),
                shares=shares[cell],
                digests=(),
            )
            for cell, name in enumerate(names)
        }
        block = Block(cells=names, values=values.T)
        return (
            Answered(metric=Metric(name="energy/per_solved_j"), answers=scores, block=block),
            like,
            these,
        )

    def _answers(self, chances: Floats, generator: np.random.Generator) -> tuple[Floats, Floats]:
        """Cells x rounds x tasks, and what they are on average over rounds without end."""
        shape = (len(chances), self.rounds, self.tasks)
        if self.sampled:  # a few tasks are nearly always solved, most nearly never
            own = generator.beta(0.5 * chances[:, None], 0.5 * (1 - chances[:, None]), shape[::2])
            return (generator.random(shape) < own[:, None, :]).astype(float), own
        both = generator.standard_normal(self.tasks) * np.sqrt(self.alike)
        score = generator.standard_normal(shape[::2]) * np.sqrt(1 - self.alike) + both
        passed = (score < ndtri(chances)[:, None]).astype(float)
        return np.repeat(passed[:, None, :], self.rounds, axis=1), passed


def analysed(answered: Answered) -> Solved:
    """The result of a study of one family."""
    asked = AnalysisOptions(
        study="simulated", draws=999, alpha=ALPHA, margin=MARGIN, margin_points=100 * POINTS
    )
    families = dict.fromkeys(answered.block.cells, "")
    return solved(
        answered, Design(options=asked, factors=(), families=families, references={}, rounds=True)
    )


def holds(row: CellSolved, chance: float, truth: float) -> bool:
    """Whether the interval for tasks like these holds, or the limit where nothing is solved."""
    if row.per_solved_j is None:
        assert row.rate_range.high is not None
        return chance <= row.rate_range.high
    assert row.like is not None
    assert row.like.low is not None
    high = np.inf if row.like.high is None else row.like.high
    return bool(row.like.low <= np.exp(truth) <= high)


def bootstrap(answered: Answered, generator: np.random.Generator, draws: int = 400) -> Floats:
    """Log ends of the percentile bootstrap over tasks and rounds of the first cell."""
    [name, *_] = answered.answers
    own = answered.answers[name]
    n, rounds = len(own.tasks), len(own.rounds)
    energy = np.log(answered.block.values[:, 0] * own.solved.mean())
    weights = generator.multinomial(n, np.full(n, 1 / n), draws) / n
    often = generator.multinomial(rounds, np.full(rounds, 1 / rounds), draws) / rounds
    assert own.shares is not None
    with np.errstate(divide="ignore"):
        logs = often @ energy + np.log(weights @ own.shares) - np.log(weights @ own.solved[0])
    return np.quantile(logs, [ALPHA / 2, 1 - ALPHA / 2], method="closest_observation")


SETTINGS = (
    Setting(noise=0.01, spread=0.0, longer=0.0),
    Setting(noise=0.02, spread=0.6, longer=0.0, rounds=10),
    Setting(noise=0.02, spread=0.6),
    Setting(noise=0.05, spread=0.3, rounds=3),
)
SAMPLED = Setting(sampled=True)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Coverage:
    """Shares of the studies of one setting and chance.

    Attributes:
        none: nothing is solved.
        these: the interval for these tasks holds, where something is solved.
        like: the one for tasks like these, or the limit of the pass rate.
        defined: the same, of the studies in which something is solved.
        plain: the percentile bootstrap, of the same.
    """

    none: float
    these: float
    like: float
    defined: float
    plain: float


def coverage(
    setting: Setting, chance: float, studies: int, seed: int, *, near: bool, plain: bool = False
) -> Coverage:
    """Simulate one cell.

    Args:
        setting: how.
        chance: of solving a task.
        studies: how many.
        seed: of everything random.
        near: the odds of a study are those of `chance` times 0.67 to 1.5.
        plain: compute the bootstrap too.
    """
    generator = np.random.default_rng(seed)
    rows = np.full((studies, 4), np.nan)
    for study in rows:
        odds = chance / (1 - chance) * np.exp(generator.uniform(-0.4, 0.4) * near)
        own = float(odds / (1 + odds))
        answered, like, these = setting.study(np.array([own]), np.ones(1), generator)
        [row] = analysed(answered).cells
        study[0], study[1] = row.per_solved_j is None, holds(row, own, float(like[0]))
        if row.these is not None:
            assert row.these.low is not None
            assert row.these.high is not None
            study[2] = row.these.low <= np.exp(these[0]) <= row.these.high
            if plain:
                low, high = bootstrap(answered, generator)
                study[3] = low <= like[0] <= high
    none = rows[:, 0] == 1
    return Coverage(
        none=float(none.mean()),
        these=float(np.nanmean(rows[:, 2])),
        like=float(rows[:, 1].mean()),
        defined=float(rows[~none, 1].mean()),
        plain=float(np.nanmean(rows[:, 3])) if plain else float("nan"),
    )


def print_coverage(studies: int, tasks: tuple[int, ...]) -> None:
    """One line per number of tasks and chance; shares over the settings, lowest to highest."""
    print("tasks  chance  solved none | these           like, near      like, exactly   bootstrap")
    for n, chance in itertools.product(tasks, CHANCES):
        settings = [dataclasses.replace(each, tasks=n) for each in SETTINGS]
        near = [coverage(s, chance, studies, 1 + i, near=True) for i, s in enumerate(settings)]
        exact = [
            coverage(
                s, chance, studies, 11 + i, near=False, plain=s.spread == 0.6 and s.rounds == 5
            )
            for i, s in enumerate(settings)
        ]
        print(
            f"{n:5}  {chance:6} {np.mean([c.none for c in exact]):12.3f} | "
            f"{_span([c.these for c in near + exact])}  {_span([c.like for c in near])}  "
            f"{_span([c.like for c in exact])}  {np.nanmax([c.plain for c in exact]):.3f}"
        )
    print("answers that differ between rounds")
    for n, chance in itertools.product(tasks, CHANCES[1:4]):
        own = coverage(dataclasses.replace(SAMPLED, tasks=n), chance, studies, 21, near=True)
        print(f"{n:5}  {chance:6} {own.none:12.3f} | {own.these:.3f}  {own.like:.3f}")


def _span(shares: list[float]) -> str:
    return f"{min(shares):.3f} to {max(shares):.3f}"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Errors:
    """Shares of studies.

    Attributes:
        saves: any verdict about joules per solved task is false (saves or worse).
        equivalent: any is falsely equivalent.
        ratios: all intervals of ratios hold.
        better: any pass rate is falsely better, or worse by more than the margin.
        not_worse: any is falsely not worse.
        differences: all intervals of differences hold.
    """

    saves: float
    equivalent: float
    ratios: float
    better: float
    not_worse: float
    differences: float


def errors(setting: Setting, chances: Floats, costs: Floats, studies: int, seed: int) -> Errors:
    """Simulate families of cells with these chances and costs."""
    generator = np.random.default_rng(seed)
    seen = np.array(
        [_judged(*setting.study(chances, costs, generator)[:2], chances) for _ in range(studies)]
    )
    names = [field.name for field in dataclasses.fields(Errors)]
    return Errors(**dict(zip(names, seen.mean(axis=0).tolist(), strict=True)))


def _judged(answered: Answered, like: Floats, chances: Floats) -> list[bool]:
    """The fields of `Errors` for one study."""
    index = {cell: place for place, cell in enumerate(answered.block.cells)}
    band, tiny = -np.log1p(-MARGIN), 1e-9
    wrong = [False] * 6
    wrong[2] = wrong[5] = True
    for pair in analysed(answered).families[0].pairs:
        a, b = index[pair.a], index[pair.b]
        truth, apart = float(like[a] - like[b]), float(chances[a] - chances[b])
        wrong[0] |= pair.verdict == "saves" and truth >= -band - tiny
        wrong[0] |= pair.verdict == "worse" and truth <= band + tiny
        wrong[1] |= pair.verdict == "equivalent" and abs(truth) >= band - tiny
        wrong[3] |= pair.quality == "better" and apart <= tiny
        wrong[3] |= pair.quality == "worse" and apart >= -POINTS - tiny
        wrong[4] |= pair.quality in ("not worse", "better") and apart <= -POINTS + tiny
        if pair.ratio_range is not None:
            low, high = pair.ratio_range.low or 0.0, pair.ratio_range.high or np.inf
            wrong[2] &= bool(low * (1 - tiny) <= np.exp(truth) <= high * (1 + tiny))
        low, high = pair.difference_range.low or 0.0, pair.difference_range.high or 0.0
        wrong[5] &= bool(low - tiny <= apart <= high + tiny)
    return wrong


def print_errors(studies: int, tasks: tuple[int, ...]) -> None:
    """One line per number of cells and setting; fewer studies of larger families."""
    print(
        "cells tasks chance alike  half are    | "
        "saves   equivalent  ratios  better  not worse  differences"
    )
    mixes = ((0.1, 0.9), (0.3, 0.5))
    for cells, n, (chance, alike) in itertools.product((2, 4, 12), tasks, mixes):
        if cells == 12 and n != tasks[0]:
            continue
        count = max(20, studies * 2 // cells if cells < 12 else studies // 5)
        half = np.arange(cells) % 2 == 1
        for name, chances, costs in (
            ("alike", np.full(cells, chance), np.ones(cells)),
            ("dearer", np.full(cells, chance), np.where(half, 1 / (1 - MARGIN), 1.0)),
            ("solve less", np.where(half, chance - POINTS, chance), np.ones(cells)),
        ):
            setting = Setting(tasks=n, alike=alike)
            e = errors(setting, chances, costs, count, seed=31)
            print(
                f"{cells:5} {n:5} {chance:6} {alike:5}  {name:11} | {e.saves:.3f}   "
                f"{e.equivalent:.3f}       {e.ratios:.3f}   {e.better:.3f}   "
                f"{e.not_worse:.3f}      {e.differences:.3f}  ({count} studies)",
                flush=True,
            )


def main() -> None:
    """Print the table that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--studies", type=int, default=1000, help="of each line")
    parser.add_argument("--tasks", type=int, nargs="+", default=None, help="sizes of workloads")
    parser.add_argument("--families", action="store_true", help="errors of families of cells")
    given = parser.parse_args()
    if given.families:
        print_errors(given.studies, tuple(given.tasks or (40, 164)))
    else:
        print_coverage(given.studies, tuple(given.tasks or (20, 40, 164)))


if __name__ == "__main__":
    main()
