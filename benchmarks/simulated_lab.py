"""How often an analysis errs when the truth is known: simulated studies of a noisy laboratory.

    python benchmarks/simulated_lab.py [--studies 400] [--cells 8]
                                       [--tests | --simultaneous | --stopping | --diagnostics]

A trial's log energy is the sum of

    cell          its true level
    drift         the room warms over the study, and wanders from round to round
    carry-over    what the trial before left behind: some cells leave the machine warmer
    launch        noise of one process start, of the cell's own size
    sensor        a gain that all trials share, and the edges of a counter that ticks
    prompt        each prompt has its own cost; a trial serves all of them

Common practice runs each cell's repetitions in a row, takes every prompt of every repetition as a
value, and tests with Kruskal-Wallis and Dunn-Holm. Ours shuffles the cells within rounds and
compares trials. Printed per practice: the share of studies of equal cells in which any pair is
found to differ (nominal 0.05), the share in which one cell that is dearer is found to be dearer
than another, and how often a 95 % interval of that pair's ratio holds the truth.

With `--tests` it prints instead what our test of all pairs costs and gains over two others with the
same family-wise level, for cells of equal and of unequal noise: labels permuted within rounds with
one pooled error, and each pair's own t. Power is for a difference of two of the quiet cells.

With `--simultaneous` it prints, for families of 4, 12 and 40 cells, how often a verdict against the
margin is false and how often all intervals of a family hold, within rounds and for repetitions that
are not rounds. Beside them is what each pair's own t interval does: verdicts by it, with p of no
difference adjusted, and the interval of the best cell against the worst where all are equal.

With `--stopping` it prints what `study.precision_pct` does to the intervals: rounds that it takes,
and how often the 95 % interval of a pair holds the truth where the rounds end as soon as all
intervals are narrow enough.

With `--diagnostics` it prints how often what a report says beside its verdicts is wrong: see
`simulated_diagnostics.py`.

`two_studies.py` prints how often `slm-energy compare` errs.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import warnings
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pandas as pd
import scikit_posthocs
import simulated_diagnostics
from scipy import stats

from slm_energy.analysis.stats.comparison import Block, Rule
from slm_energy.analysis.stats.effect_size import half_width
from slm_energy.analysis.stats.independent_max_t import independent_max_t
from slm_energy.analysis.stats.max_t import FEWEST, max_t, smallest_rounds
from slm_energy.analysis.stats.paired import compare

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
ALPHA = 0.05


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Lab:
    """Sizes are standard deviations or ranges of log energy.

    Attributes:
        launch: per cell, noise of a trial.
        warming: how much the room's warming adds from the first trial to the last.
        wander: of a round.
        carry: how much dearer the trial after the warmest cell is than the one after the coolest.
        gain: of the sensor, shared by all trials.
        edge: largest error of a window's two edges.
        prompts: how many a trial serves.
        prompt: spread of their costs.
        within: noise of one prompt in one trial.
    """

    launch: tuple[float, ...]
    warming: float = 0.03
    wander: float = 0.01
    carry: float = 0.01
    gain: float = 0.02
    edge: float = 0.003
    prompts: int = 20
    prompt: float = 0.6
    within: float = 0.05

    def study(
        self, truth: Floats, order: npt.NDArray[np.int64], generator: np.random.Generator
    ) -> Floats:
        """Run a study.

        Args:
            truth: per cell, its true log energy.
            order: the cells of all trials in order of time.
            generator: of everything random.

        Returns:
            Log energy, trials x prompts.
        """
        trials, cells = len(order), len(truth)
        heat = generator.permutation(np.linspace(-0.5, 0.5, cells))
        rounds = np.arange(trials) // cells
        level = truth[order] + self.warming * np.arange(trials) / trials
        level = level + generator.normal(0, self.wander, rounds.max() + 1)[rounds]
        level[1:] += self.carry * heat[order[:-1]]
        level += generator.normal(0, 1, trials) * np.array(self.launch)[order]
        level += generator.normal(0, self.gain) + generator.uniform(-self.edge, self.edge, trials)
        prompts = generator.normal(0, self.prompt, self.prompts)
        noise = generator.normal(0, self.within, (trials, self.prompts))
        return np.asarray(level[:, None] + prompts + noise)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Completion:
    """What a practice says of one study: which pairs differ, and the interval of cells 0 and last.

    Attributes:
        differ: cells x cells.
        low: lower end of the log ratio's interval.
        high: upper end.
    """

    differ: npt.NDArray[np.bool_]
    low: float
    high: float


def common(
    lab: Lab, truth: Floats, repetitions: int, pooled: bool, generator: np.random.Generator
) -> Completion:
    """Repetitions in a row, Kruskal-Wallis, then Dunn-Holm; Welch's interval on logs."""
    cells = len(truth)
    order = np.repeat(generator.permutation(cells), repetitions)
    logs = lab.study(truth, order, generator)
    values = logs if pooled else np.log(np.exp(logs).mean(axis=1, keepdims=True))
    groups = [values[order == cell].ravel() for cell in range(cells)]
    differ = np.zeros((cells, cells), dtype=bool)
    if stats.kruskal(*groups).pvalue <= ALPHA:
        tall = pd.DataFrame(
            {"value": np.concatenate(groups), "cell": np.repeat(range(cells), len(groups[0]))}
        )
        p = scikit_posthocs.posthoc_dunn(tall, "value", "cell", p_adjust="holm")
        differ = p.to_numpy() <= ALPHA
    welch = stats.ttest_ind(groups[0], groups[-1], equal_var=False).confidence_interval(1 - ALPHA)
    return Completion(differ=differ, low=float(welch.low), high=float(welch.high))


def ours(
    lab: Lab, truth: Floats, rounds: int, draws: int, generator: np.random.Generator
) -> Completion:
    """Shuffled rounds and `analysis.compare`, with a margin of nothing."""
    cells = len(truth)
    order = np.concatenate([generator.permutation(cells) for _ in range(rounds)])
    joules = np.exp(lab.study(truth, order, generator)).mean(axis=1)
    values = np.empty((rounds, cells))
    values[np.arange(len(order)) // cells, order] = joules
    rule = Rule(alpha=ALPHA, margin=0.0, draws=draws, seed=int(generator.integers(2**32)))
    found = compare(Block(cells=tuple(map(str, range(cells))), values=values), rule)
    differ = np.zeros((cells, cells), dtype=bool)
    low = high = np.nan
    for pair in found.pairs:
        a, b = int(pair.a), int(pair.b)
        differ[a, b] = differ[b, a] = pair.p is not None and pair.p <= ALPHA
        if {a, b} == {0, cells - 1} and pair.low is not None and pair.high is not None:
            ends = np.log([pair.low, pair.high])
            low, high = ends if a == 0 else -ends[::-1]
    return Completion(differ=differ, low=float(low), high=float(high))


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """How a practice did over many studies; each is a share of them."""

    false_findings: float
    power: float
    coverage: float


def score(practice: str, lab: Lab, studies: int, effect: float, draws: int, seed: int) -> Score:
    """Let a practice judge studies of equal cells, then studies with one dearer cell.

    Args:
        practice: a key of `PRACTICES`.
        lab: where it works; as many cells as it has launch noises.
        studies: of each kind.
        effect: how much dearer the last cell is, on logs.
        draws: of ours, per comparison.
        seed: of the laboratory.
    """
    generator = np.random.default_rng(seed)
    kind, times = PRACTICES[practice]
    cells = len(lab.launch)
    equal, dearer = np.zeros(cells), np.zeros(cells)
    dearer[-1] = effect
    hits = {"false": 0, "found": 0, "covered": 0}
    for _ in range(studies):
        for truth in (equal, dearer):
            if kind == "ours":
                answer = ours(lab, truth, times, draws, generator)
            else:
                answer = common(lab, truth, times, kind == "pooled", generator)
            if truth is equal:
                hits["false"] += bool(answer.differ.any())
                continue
            hits["found"] += bool(answer.differ[0, -1]) and answer.low + answer.high < 0
            hits["covered"] += answer.low <= -effect <= answer.high
    return Score(
        false_findings=hits["false"] / studies,
        power=hits["found"] / studies,
        coverage=hits["covered"] / studies,
    )


PRACTICES = {
    "in a row, prompts pooled, 3 repetitions": ("pooled", 3),
    "in a row, prompts pooled, 10 repetitions": ("pooled", 10),
    "in a row, trials, 10 repetitions": ("trials", 10),
    "ours, 5 rounds": ("ours", 5),
    "ours, 8 rounds": ("ours", 8),
    "ours, 12 rounds": ("ours", 12),
}


def ours_of_all_pairs(logs: Floats, draws: int, generator: np.random.Generator) -> Floats:
    """Adjusted p of all pairs, cells x cells; so are the next two."""
    found = max_t(logs, draws, int(generator.integers(2**32))).p
    assert found is not None
    return found


def labels_permuted(logs: Floats, draws: int, generator: np.random.Generator) -> Floats:
    """Max-T over labels permuted within rounds, the error pooled over all cells."""
    centred = logs - logs.mean(axis=1, keepdims=True)
    shuffled = generator.permuted(np.repeat(centred[None], draws, axis=0), axis=2)

    def t(values: Floats) -> Floats:
        mean = values.mean(axis=1)
        rest = values - mean[:, None, :]
        error = np.sqrt((rest**2).sum(axis=(1, 2)) * 2 / (logs.shape[0] * (logs.shape[0] - 1)))
        error *= np.sqrt(1 / (logs.shape[1] - 1))
        return np.asarray(np.abs(mean[:, :, None] - mean[:, None, :]) / error[:, None, None])

    return _adjusted(t(centred[None])[0], t(shuffled))


def paired_t(logs: Floats, draws: int, generator: np.random.Generator) -> Floats:
    """Max-T of each pair's own t, its reference drawn from noise of each cell's own size."""
    rest = logs - logs.mean(axis=1, keepdims=True)
    drawn = generator.standard_normal((draws, *logs.shape)) * (rest - rest.mean(axis=0)).std(axis=0)

    def t(values: Floats) -> Floats:
        apart = values[:, :, :, None] - values[:, :, None, :]
        error = apart.std(axis=1, ddof=1) / np.sqrt(len(logs))
        return np.asarray(np.abs(apart.mean(axis=1)) / np.where(error > 0, error, np.inf))

    return _adjusted(t(logs[None])[0], t(drawn))


def _adjusted(seen: Floats, drawn: Floats) -> Floats:
    largest = drawn.max(axis=(1, 2))
    p = (1 + (largest[:, None, None] >= seen).sum(axis=0)) / (1 + len(largest))
    np.fill_diagonal(p, 1.0)
    return np.asarray(p)


TESTS: dict[str, Callable[[Floats, int, np.random.Generator], Floats]] = {
    "ours": ours_of_all_pairs,
    "pair's own t": paired_t,
    "permuted labels": labels_permuted,
}
EFFECTS = (1.5, 2.5, 5.0)
NOISES = {
    "equal": (1.0, None), "two 3 x": (3.0, None), "two 10 x": (10.0, None), "t, 3 df": (1.0, 3),
}  # fmt: skip


def rejections(test: str, noise: str, cells: int, rounds: int, studies: int) -> list[float]:
    """Share of studies with a false finding, then with a difference of each of `EFFECTS` found."""
    generator = np.random.default_rng(1)
    size, freedom = NOISES[noise]
    shares = []
    for effect in (0.0, *EFFECTS):
        hits = 0
        for _ in range(studies):
            logs = generator.normal(0, 1, (rounds, cells)) if freedom is None else (
                generator.standard_t(freedom, (rounds, cells)) / np.sqrt(freedom / (freedom - 2))
            )  # fmt: skip
            logs[:, 1:3] *= size
            logs[:, -1] += effect
            p = TESTS[test](logs + generator.normal(0, 5, (rounds, 1)), 199, generator)
            hits += bool((p[0, -1] if effect else p.min()) <= ALPHA)
        shares.append(hits / studies)
    return shares


def compare_tests(cells: int, studies: int) -> None:
    """Print a row per noise, number of rounds and test."""
    effects = "".join(f"{f'{effect:g} sd':>8}" for effect in EFFECTS)
    print(f"{cells} cells\n{'noise':<10}{'rounds':>6}  {'test':<17}{'false findings':>14}{effects}")
    for noise in NOISES:
        for rounds in (3, 5, 8, 12):
            for test in TESTS:
                false, *power = rejections(test, noise, cells, rounds, studies)
                print(f"{noise:<10}{rounds:>6}  {test:<17}{false:>14.3f}"
                      + "".join(f"{share:>8.2f}" for share in power), flush=True)  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Together:
    """What holds for all pairs of a family at once; each is a share of studies.

    Attributes:
        false: half of the cells cost the margin more than the others, and a verdict says that it is
            more than the margin: the family-wise error against it.
        equivalent: in such a study a pair at the margin is called equivalent.
        own: in such a study a pair would have been called different by its own t interval and an
            adjusted p of no difference.
        held: all simultaneous intervals hold the truth where all cells are equal.
        held_inside: likewise where half of the cells cost 0.97 of the margin more.
        extreme: of equal cells, the own t interval of the best against the worst holds the truth.
    """

    false: float
    equivalent: float
    own: float
    held: float
    held_inside: float
    extreme: float


BAND = Rule(margin=0.02).band


def together(
    cells: int, rounds: int, noise: str, studies: int, seed: int, blocked: bool = True
) -> Together:
    """Judge studies of cells at the margin, just inside it, and of equal cells.

    Args:
        cells: of the family, at least 3.
        rounds: or repetitions.
        noise: `equal` is 1 % for every cell; `two 10 x` has two noisier ones.
        studies: of each kind.
        seed: of the noise.
        blocked: whether values belong to rounds, which drift; else they are repetitions.
    """
    generator = np.random.default_rng(seed)
    size = np.full(cells, 0.01)
    size[: {"equal": 0, "two 10 x": 2}[noise]] *= 10
    halves = generator.permutation(np.arange(cells) % 2)
    i, j = np.triu_indices(cells, 1)
    edge = stats.t.ppf(1 - ALPHA / 2, rounds - 1)
    hits = dict.fromkeys((field.name for field in dataclasses.fields(Together)), 0)
    for _ in range(studies):
        for share in (1.0, 0.97, 0.0):
            truth = share * BAND * halves
            logs = truth + generator.normal(0, 1, (rounds, cells)) * size
            logs += generator.normal(0, 0.05, (rounds, 1)) * blocked
            draws, rule = int(generator.integers(2**32)), {"band": BAND, "alpha": ALPHA}
            found = (
                max_t(logs, 199, draws, **rule).pairs
                if blocked
                else independent_max_t(list(logs.T), 199, draws, **rule)
            )
            assert found is not None
            ratios = logs[:, i] - logs[:, j]
            apart, real = ratios.mean(axis=0), truth[i] - truth[j]
            half = edge * ratios.std(axis=0, ddof=1) / np.sqrt(rounds)
            reach, beyond = found.difference * found.error[i, j], found.p_margin[i, j] <= ALPHA
            held = bool((_nearest_to(real, apart, reach, beyond) == real).all())
            if share == 1:
                hits["false"] += bool(beyond.any())
                hits["equivalent"] += bool((found.p_equivalent[i, j] <= ALPHA)[real != 0].any())
                own = (np.abs(apart) - half > BAND) & (found.p[i, j] <= ALPHA)
                hits["own"] += bool(own.any())
            elif share:
                hits["held_inside"] += held
            else:
                widest = np.abs(apart).argmax()
                hits["held"] += held
                hits["extreme"] += bool(np.abs(apart[widest]) <= half[widest])
    return Together(**{name: count / studies for name, count in hits.items()})


def _nearest_to(real: Floats, apart: Floats, reach: Floats, beyond: Flags) -> Floats:
    """The point of each pair's interval that is nearest to the truth; see `stats.simultaneous`."""
    low = np.where(beyond & (apart > 0), np.maximum(apart - reach, BAND), apart - reach)
    high = np.where(beyond & (apart < 0), np.minimum(apart + reach, -BAND), apart + reach)
    return real.clip(low, high)


def check_intervals(studies: int) -> None:
    """Print a row per number of cells, noise and rounds; of 40 cells a quarter of the studies."""
    print(f"{'':<26}{'at the margin':>24}  {'all intervals hold':>22}  best against worst,")
    print(f"{'cells':>5} {'noise':<10}{'n':>3}{'':<8}{'false':>7}{'equal':>7}{'own':>8}"
          f"{'equal':>14}{'inside':>8}    own interval")  # fmt: skip
    for cells, part in ((4, 1), (12, 1), (40, 4)):
        for blocked in (True, False):
            for noise in ("equal", "two 10 x"):
                for n in (5, 8, 10):
                    found = together(cells, n, noise, studies // part, 1, blocked)
                    print(f"{cells:>5} {noise:<10}{n:>3}{' rounds' if blocked else ' values':<8}"
                          f"{found.false:>7.3f}{found.equivalent:>7.3f}{found.own:>8.3f}"
                          f"{found.held:>14.3f}{found.held_inside:>8.3f}"
                          f"{found.extreme:>12.3f}", flush=True)  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Stopped:
    """What a stopping rule did over many studies.

    Attributes:
        rounds: mean number.
        coverage: share of all pairs' intervals that hold the truth.
        capped: share of studies that ran all rounds.
    """

    rounds: float
    coverage: float
    capped: float


def stopped(cells: int, precision: float, cap: int, studies: int, seed: int) -> Stopped:
    """Run studies of equal cells until `study.precision_pct` ends them.

    Args:
        cells: of one family.
        precision: half the width that is asked for, over the standard deviation of one trial.
        cap: most rounds.
        studies: how many.
        seed: of the noise.
    """
    generator = np.random.default_rng(seed)
    pairs = list(itertools.combinations(range(cells), 2))
    fewest = max(FEWEST, smallest_rounds(cells, ALPHA))
    rounds, covered, capped = 0, 0, 0
    for _ in range(studies):
        logs = generator.normal(0, 1, (cap, cells))
        ratios = np.array([logs[:, a] - logs[:, b] for a, b in pairs])
        for n in range(fewest, cap + 1):
            halves = [half_width(each[:n], ALPHA) or 0.0 for each in ratios]
            if max(halves) <= precision:
                break
        rounds += n
        capped += max(halves) > precision
        covered += int((np.abs(ratios[:, :n].mean(axis=1)) <= halves).sum())
    return Stopped(
        rounds=rounds / studies,
        coverage=covered / (studies * len(pairs)),
        capped=capped / studies,
    )


PRECISIONS = (4.0, 3.0, 2.0, 1.5, 1.0, 0.7, 0.5)


def compare_stops(studies: int) -> None:
    """Print a row per number of cells and precision."""
    print("half width asked for, over the standard deviation of a trial; 95 % intervals")
    print(f"{'cells':>5}{'precision':>11}{'rounds':>9}{'coverage':>10}{'all rounds':>12}")
    for cells in (2, 3, 4, 8):
        for precision in PRECISIONS:
            found = stopped(cells, precision, 60, studies, 1)
            print(f"{cells:>5}{precision:>11.1f}{found.rounds:>9.1f}{found.coverage:>10.3f}"
                  f"{found.capped:>12.2f}", flush=True)  # fmt: skip


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=400)
    parser.add_argument("--cells", type=int, default=8)
    parser.add_argument("--effect", type=float, default=0.05)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--tests", action="store_true", help="compare tests of all pairs")
    what.add_argument("--simultaneous", action="store_true", help="errors over all pairs together")
    what.add_argument("--stopping", action="store_true", help="what study.precision_pct does")
    what.add_argument("--diagnostics", action="store_true", help="what stands beside verdicts")
    asked = parser.parse_args()
    warnings.simplefilter("error")
    if asked.tests:
        compare_tests(asked.cells, asked.studies)
        return
    if asked.simultaneous:
        check_intervals(asked.studies)
        return
    if asked.stopping:
        compare_stops(asked.studies)
        return
    if asked.diagnostics:
        simulated_diagnostics.print_all(asked.studies)
        return
    equal = (0.01,) * asked.cells
    noisy = (0.01, 0.1, 0.1, *equal[3:])
    for title, launch in (("launch noise 1 %", equal), ("two cells ten times noisier", noisy)):
        lab = Lab(launch=launch)
        print(f"\n{asked.cells} cells, {title}, {asked.studies} studies, "
              f"one cell {100 * asked.effect:g} % dearer")  # fmt: skip
        print(f"{'':<42}{'false findings':>16}{'power':>8}{'coverage':>10}")
        for practice in PRACTICES:
            found = score(practice, lab, asked.studies, asked.effect, 999, 1)
            print(f"{practice:<42}{found.false_findings:>16.3f}{found.power:>8.2f}"
                  f"{found.coverage:>10.3f}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
