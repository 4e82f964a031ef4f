"""Planning figures of a family from its observed spread: the chance of a verdict, rounds needed.

A verdict is what the report calls saves (or gains) or worse: the simultaneous interval is beyond
the margin, and stays away from 1 with the instruments' own interval added. So a difference of the
margin itself gets one in at most alpha of studies, and a larger one needs to be larger by what the
rounds can resolve.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy import stats
from scipy.special import stdtrit

from slm_energy.analysis.result.comparison import Power, PowerRow
from slm_energy.analysis.stats.comparison import Comparison, Rule
from slm_energy.analysis.stats.effect_size import GOOD_POWER, MOST_ROUNDS, Floats
from slm_energy.analysis.stats.max_t import fewest_rounds, smallest_rounds
from slm_energy.analysis.stats.simultaneous import halves, largest

DIFFERENCES = (0.01, 0.02, 0.05, 0.1, 0.2)

Rounds = npt.NDArray[np.int64]

_NODES = 7
_DRAWS = 1499
_FEWEST_DRAWS = 499
_MOST_WORK = 2_000_000
_SEED = 0


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Family:
    """Cells that are alike in noise.

    Attributes:
        cells: how many are compared with each other.
        spread: standard deviation of a pair's log ratio over rounds.
        prior_df: see `MaxT`.
        resolution: how far the instruments could be off, on the log scale.
        rule: how the comparison decides.
    """

    cells: int
    spread: float
    prior_df: float
    resolution: float
    rule: Rule

    @property
    def fewest(self) -> int:
        """Rounds without which there is no verdict."""
        return fewest_rounds(self.cells)

    def freedom(self, rounds: Rounds) -> Floats:
        """Degrees of freedom of a pair's standard error.

        Equally noisy cells share one variance in most draws of the reference, not in all: half of
        the family's degrees of freedom are counted.
        """
        own = (rounds - 1).astype(np.float64)
        if self.cells == 2:
            return own
        return np.asarray(np.minimum(own + self.prior_df, own * self.cells / 2))

    def chance(self, rounds: Rounds, effect: float, critical: tuple[Floats, Floats]) -> Floats:
        """Chance of a verdict of the right direction, for numbers of rounds.

        Args:
            rounds: numbers of rounds, each at least `fewest`.
            effect: true log ratio, above 0.
            critical: from `critical`, for these rounds.
        """
        freedom, error = self.freedom(rounds), self.spread / np.sqrt(rounds)
        band = self.rule.band
        chances = [
            # SciPy gives NaN where the chance is 1 to all its digits.
            np.nan_to_num(stats.nct.sf(edge, freedom, (effect - limit) / error), nan=1.0)
            for edge, limit in zip(critical, (band, self.resolution), strict=True)
        ]
        return np.asarray(np.where(rounds >= self.fewest, np.minimum(*chances), 0.0))

    def critical(self, rounds: Rounds) -> tuple[Floats, Floats]:
        """Critical values against the margin and of any difference, for numbers of rounds.

        With more than two cells, they are drawn as `max_t` draws them, at a few numbers of rounds,
        and interpolated.
        """
        rounds = np.maximum(rounds, self.fewest)
        alpha = self.rule.own_alpha
        if self.cells == 2:
            both = np.asarray(stdtrit(self.freedom(rounds), 1 - alpha / 2))
            return both, both
        ends = float(rounds.min()), float(rounds.max())
        nodes = np.unique(np.geomspace(*ends, _NODES).round().astype(np.int64))
        values = np.array([self._drawn(node, alpha) for node in nodes])
        order = np.argsort(1 / nodes)
        margin, difference = (
            np.interp(1 / rounds, (1 / nodes)[order], column[order]) for column in values.T
        )
        return margin, difference

    def _drawn(self, rounds: int, alpha: float) -> tuple[float, float]:
        generator = np.random.default_rng(_SEED)
        draws = max(_FEWEST_DRAWS, min(_DRAWS, _MOST_WORK // self.cells**2))
        [freedom] = self.freedom(np.array([rounds]))
        noise = np.sqrt(generator.chisquare(freedom, draws) / freedom)[:, None, None]
        means = generator.standard_normal((draws, self.cells))
        t = (means[:, :, None] - means[:, None, :]) / (math.sqrt(2) * noise)
        error = np.broadcast_to(noise * self.spread / math.sqrt(rounds), t.shape)
        drawn = largest(t, error, halves(np.ones(self.cells)), self.rule.band)
        difference, margin, _ = np.quantile(drawn, 1 - alpha, axis=0)
        return float(margin), float(difference)

    def detectable_pct(self, rounds: int, critical: tuple[Floats, Floats]) -> float | None:
        """The difference that gets a verdict with good power; None above 1,000 %."""
        here = np.array([rounds])
        return _smallest(lambda log: float(self.chance(here, log, critical)[0]))


def plan(comparison: Comparison, rule: Rule) -> Power | None:
    """Planning figures; None where no pair has a spread."""
    known = [
        (pair.rounds, abs(math.log(pair.ratio) / pair.t) * math.sqrt(pair.rounds))
        for pair in comparison.pairs
        if pair.t is not None and pair.ratio is not None and pair.t != 0
    ]
    if not known:
        return None
    rounds = int(np.median([n for n, _ in known]))
    resolutions = [math.log(pair.instrument) for pair in comparison.pairs if pair.instrument]
    family = _Family(
        cells=len(comparison.ranked),
        spread=float(np.median([sd for _, sd in known])),
        prior_df=comparison.prior_df,
        resolution=float(np.median(resolutions)) if resolutions else 0.0,
        rule=rule,
    )
    ahead = np.unique(np.geomspace(family.fewest, MOST_ROUNDS, 400).astype(np.int64))
    later = family.critical(ahead)
    here = np.array([rounds])
    now = family.critical(here)
    rows = []
    for difference in sorted({*DIFFERENCES, rule.margin} - {0.0}):
        effect = -math.log1p(-difference)
        enough = ahead[family.chance(ahead, effect, later) >= GOOD_POWER]
        rows.append(
            PowerRow(
                difference_pct=100 * difference,
                power=float(family.chance(here, effect, now)[0]),
                rounds=int(enough[0]) if enough.size else None,
            )
        )
    return Power(
        rounds=rounds,
        spread_pct=100 * math.expm1(family.spread),
        pairs=len(comparison.pairs),
        smallest_rounds=smallest_rounds(family.cells, rule.own_alpha),
        detectable_pct=family.detectable_pct(rounds, now),
        rows=tuple(rows),
        margin_pct=100 * rule.margin,
    )


def minimum_detectable(sd: float, rounds: int, cells: int, rule: Rule) -> float | None:
    """The difference of two cells, in per cent, that gets a verdict with power `GOOD_POWER`.

    As in `plan`, for cells that are all as noisy as one that was observed: the log ratio of two of
    them has the standard deviation sqrt(2) sd over rounds, and their variances are pooled. The
    instruments' own intervals are not known before the study.

    Args:
        sd: standard deviation of one trial's log value, rounds taken out.
        rounds: how many.
        cells: that are compared with each other.
        rule: the margin and the family-wise error.

    Returns:
        None where so few rounds can show no difference, or power is lower at 1,000 %.
    """
    family = _Family(
        cells=cells, spread=math.sqrt(2) * sd, prior_df=math.inf, resolution=0.0, rule=rule
    )
    return family.detectable_pct(rounds, family.critical(np.array([rounds])))


def _smallest(chance: Callable[[float], float]) -> float | None:
    """The difference that has good power, by bisection on its log."""
    low, high = 0.0, math.log(11)
    if chance(high) < GOOD_POWER:
        return None
    for _ in range(40):
        middle = (low + high) / 2
        if chance(middle) < GOOD_POWER:
            low = middle
        else:
            high = middle
    return 100 * math.expm1(high)
