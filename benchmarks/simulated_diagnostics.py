"""How often what a report says beside its verdicts is wrong when the truth is known.

    python benchmarks/simulated_lab.py --diagnostics [--studies 400]

Printed for 4, 12 and 40 cells (models x engines: 2 x 2, 3 x 4, 5 x 8), equally noisy or one of them
ten times noisier; rounds differ as a whole, independently of each other. The functions:

    drift_alarms     share of studies without drift that are said to drift (nominal 0.05)
    outlier_alarms   share of studies without outliers that have a flagged trial (nominal 0.05)
    outlier_found    share in which a trial eight standard deviations off is flagged
    factor_alarms    share in which a factor without effect is said to have one (nominal 0.05)
    verdict_share    share in which a difference that is said to get a verdict with a chance of 0.8
                     gets one
    settled_share    share of inconclusive pairs that have a verdict after as many more rounds as
                     said (said: 0.8), for true differences spread evenly up to 20 %
    delta_coverage   share of intervals of Cliff's delta that hold the truth (nominal 0.95), for
                     cells far enough apart that most studies separate them completely
    model_alarms     share of samples of models in which any pair of engines is said to differ over
                     models, where engines differ by model but not over models (nominal 0.05); and
                     the same for a model with fixed effects
"""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
from scipy import stats

from slm_energy.analysis.result.design import Factor
from slm_energy.analysis.stats.comparison import Block, Rule
from slm_energy.analysis.stats.diagnostics import TrialFacts, trial_points
from slm_energy.analysis.stats.drift import drifts
from slm_energy.analysis.stats.effect_size import cliffs_interval
from slm_energy.analysis.stats.factorial_anova import effects
from slm_energy.analysis.stats.outliers import find
from slm_energy.analysis.stats.paired import compare
from slm_energy.analysis.stats.population import ModelBlock, population
from slm_energy.analysis.stats.power import minimum_detectable

Floats = npt.NDArray[np.float64]

ALPHA = 0.05
SD = 0.01
SHAPES = {4: (2, 2), 12: (3, 4), 40: (5, 8)}
"""Cells to models and engines."""

_MODEL = Factor(key="model.name", name="model", levels=())
_ENGINE = Factor(key="engine.name", name="engine", levels=())


def study(generator: np.random.Generator, cells: int, rounds: int, noisy: float) -> Block:
    """A study of equal cells; the second one is `noisy` times noisier."""
    logs = generator.normal(0, SD, (rounds, cells))
    logs[:, 1] *= noisy
    logs += generator.normal(0, 3 * SD, (rounds, 1))
    return Block(cells=tuple(map(str, range(cells))), values=np.exp(logs))


def drift_alarms(cells: int, rounds: int, noisy: float, studies: int, seed: int = 1) -> float:
    """See the top; the shuffled trials warm up with their rounds, not with what they cost."""
    generator, alarms = np.random.default_rng(seed), 0
    for _ in range(studies):
        block, trials = study(generator, cells, rounds, noisy), []
        for number in range(1, rounds + 1):
            warmth = generator.normal(40, 2)
            for cell in generator.permutation(cells):
                trials.append(
                    TrialFacts(
                        run_id=str(len(trials)),
                        cell=str(cell),
                        round=number,
                        order=len(trials) + 1,
                        temperature_c=warmth + generator.normal(0, 1),
                    )
                )
        seen = drifts(trial_points(block, trials), ALPHA)
        alarms += any(drift.p_adjusted is not None and drift.p_adjusted <= ALPHA for drift in seen)
    return alarms / studies


def outlier_alarms(cells: int, rounds: int, noisy: float, studies: int, seed: int = 1) -> float:
    """See the top."""
    generator = np.random.default_rng(seed)
    blocks = (study(generator, cells, rounds, noisy) for _ in range(studies))
    return sum(bool(find(b.values, ALPHA, rounds=True).flags.any()) for b in blocks) / studies


def outlier_found(cells: int, rounds: int, noisy: float, studies: int, seed: int = 1) -> float:
    """See the top."""
    generator, found = np.random.default_rng(seed), 0
    for _ in range(studies):
        values = study(generator, cells, rounds, noisy).values
        values[2, 0] *= np.exp(8 * SD)
        found += bool(find(values, ALPHA, rounds=True).flags[2, 0])
    return found / studies


def factor_alarms(
    cells: int, rounds: int, noisy: float, studies: int, seed: int = 1
) -> tuple[float, float]:
    """See the top: the worst of the terms by our p, and by that of F."""
    generator = np.random.default_rng(seed)
    levels = [
        {"model.name": str(m), "engine.name": str(e)}
        for m, e in itertools.product(*map(range, SHAPES[cells]))
    ]
    ours, by_f = np.zeros(3), np.zeros(3)
    for _ in range(studies):
        block = study(generator, cells, rounds, noisy)
        found, _ = effects(block, levels, (_MODEL, _ENGINE), Rule(alpha=ALPHA, draws=499))
        terms = found.effects[:3]
        ours += [term.p <= ALPHA for term in terms]
        by_f += [stats.f.sf(term.f, term.df, found.df_residual) <= ALPHA for term in terms]
    return float(ours.max() / studies), float(by_f.max() / studies)


def verdict_share(cells: int, rounds: int, studies: int, seed: int = 1) -> float:
    """See the top."""
    generator, found = np.random.default_rng(seed), 0
    rule = Rule(alpha=ALPHA, draws=999)
    detectable_pct = minimum_detectable(SD, rounds, cells, rule)
    assert detectable_pct is not None
    for _ in range(studies):
        values = study(generator, cells, rounds, 1.0).values
        values[:, -1] *= 1 + detectable_pct / 100
        seen = compare(Block(cells=tuple(map(str, range(cells))), values=values), rule)
        [pair] = [p for p in seen.pairs if {p.a, p.b} == {"0", str(cells - 1)}]
        found += pair.verdict in ("saves", "worse")
    return found / studies


def settled_share(cells: int, rounds: int, studies: int, seed: int = 1) -> float:
    """See the top; one open pair of each study."""
    generator, rule = np.random.default_rng(seed), Rule(alpha=ALPHA, draws=499)
    names, settled, tried = tuple(map(str, range(cells))), 0, 0
    for _ in range(studies):
        truth = generator.uniform(-0.1, 0.1, cells)
        values = np.exp(generator.normal(0, 3 * SD, (1000, cells)) + truth)
        seen = compare(Block(cells=names, values=values[:rounds]), rule)
        more = {(p.a, p.b): p.more_rounds for p in seen.pairs if p.more_rounds is not None}
        if not more:
            continue
        chosen = list(more)[generator.integers(len(more))]
        later = compare(Block(cells=names, values=values[: rounds + more[chosen]]), rule)
        [pair] = [p for p in later.pairs if {p.a, p.b} == set(chosen)]
        tried += 1
        settled += pair.verdict in ("saves", "worse", "equivalent")
    return settled / tried


def delta_coverage(trials: int, apart: float, studies: int, seed: int = 1) -> float:
    """See the top; normal values `apart` standard deviations from each other."""
    generator, held = np.random.default_rng(seed), 0
    truth = 2 * stats.norm.cdf(apart / np.sqrt(2)) - 1
    for _ in range(studies):
        x, y = generator.normal(apart, 1, trials), generator.normal(0, 1, trials)
        ends = cliffs_interval(x, y, ALPHA)
        assert ends is not None
        held += ends[0] <= truth <= ends[1]
    return held / studies


def model_alarms(
    models: int, engines: int, studies: int, seed: int = 1, interaction: float = 0.1
) -> tuple[float, float]:
    """See the top: ours, and the engine's F of fixed effects.

    Args:
        models: a new sample of them in each study.
        engines: that are compared over them.
        studies: how many, each of 8 rounds.
        seed: of everything random.
        interaction: standard deviation of a model's own difference in an engine, on logs.
    """
    generator, rule = np.random.default_rng(seed), Rule(alpha=ALPHA, draws=1999)
    names, rounds, ours, fixed = tuple(map(str, range(engines))), 8, 0, 0
    for _ in range(studies):
        logs = generator.normal(0, interaction, (models, 1, engines))
        logs = logs + generator.normal(0, 1, (models, 1, 1))
        logs = logs + generator.normal(0, SD, (models, rounds, engines))
        blocks = [
            ModelBlock(model=str(m), block=Block(cells=names, values=np.exp(own)))
            for m, own in enumerate(logs)
        ]
        ours += any(p.p is not None and p.p <= ALPHA for p in population(blocks, rule).pairs)
        rest = logs - logs.mean(axis=1, keepdims=True)
        freedom = (rounds - 1) * models * engines
        means = logs.mean(axis=(0, 1))
        between = models * rounds * np.var(means, ddof=1)
        fixed += bool(
            stats.f.sf(between / ((rest**2).sum() / freedom), engines - 1, freedom) < 0.05
        )
    return ours / studies, fixed / studies


def print_all(studies: int) -> None:
    """Print a row per number of cells, rounds and noise, then what has no such rows."""
    print("nominal 0.05; found: as large as possible; the worst term of our test, and of F\n"
          f"{'cells':>5}{'rounds':>8}{'noise':>10}{'drift':>8}{'outliers':>10}{'found':>7}"
          f"{'factors':>9}{'by F':>7}")  # fmt: skip
    for cells, rounds, noisy in itertools.product(SHAPES, (5, 10), (1.0, 10.0)):
        of = studies if cells < 40 else max(1, studies // 4)
        ours, by_f = factor_alarms(cells, rounds, noisy, of)
        print(f"{cells:>5}{rounds:>8}{'equal' if noisy == 1 else 'one 10 x':>10}"
              f"{drift_alarms(cells, rounds, noisy, of):>8.3f}"
              f"{outlier_alarms(cells, rounds, noisy, of):>10.3f}"
              f"{outlier_found(cells, rounds, noisy, of):>7.2f}{ours:>9.3f}{by_f:>7.3f}",
              flush=True)  # fmt: skip
    print(f"\nsaid: 0.8\n{'cells':>5}{'rounds':>8}{'verdict':>9}{'settled':>9}")
    for cells, rounds in itertools.product((2, *SHAPES), (5, 10)):
        of = studies if cells < 40 else max(1, studies // 8)
        print(f"{cells:>5}{rounds:>8}{verdict_share(cells, rounds, of):>9.2f}"
              f"{settled_share(cells, rounds, of):>9.2f}", flush=True)  # fmt: skip
    print(f"\nnominal 0.95\n{'trials':>6}{'apart':>7}{'delta holds':>13}")
    for trials, apart in itertools.product((5, 10), (1.0, 2.0, 3.0)):
        held = delta_coverage(trials, apart, 10 * studies)
        print(f"{trials:>6}{apart:>7g}{held:>13.3f}", flush=True)
    print(f"\nnominal 0.05\n{'models':>6}{'engines':>9}{'ours':>7}{'fixed effects':>15}")
    for models, engines in itertools.product((3, 5, 8), (2, 4, 8)):
        ours, fixed = model_alarms(models, engines, studies)
        print(f"{models:>6}{engines:>9}{ours:>7.3f}{fixed:>15.2f}", flush=True)
