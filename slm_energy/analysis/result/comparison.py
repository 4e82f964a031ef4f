"""Part of a result: the comparison of the cells of one family."""

from __future__ import annotations

import dataclasses
from typing import Literal

from slm_energy.analysis.result.verdict import Verdict, mirrored


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """Cell `a` against cell `b`; `a` is the better ranked, unless `b` is the named reference.

    Attributes:
        a: a cell id.
        b: another.
        rounds: rounds in which both are valid; all but p rest on these.
        won: of these, the rounds in which `a` is better.
        tied: the rounds in which both are equal.
        ratio: geometric mean of a / b; None without a common round.
        low: lower end of the ratio's t interval, for this pair alone (marginal); None where it
            cannot be computed.
        high: upper end.
        difference: geometric mean of `a` less that of `b`, in the metric's unit.
        instrument: the factor by which the instruments could have got the ratio wrong, at least 1;
            None where the metric has no intervals or one has no end.
        wide_low: lower end of the marginal interval with the instruments' added.
        wide_high: upper end.
        t: mean log ratio over its standard error, from this pair alone.
        p: of no difference, adjusted for all pairs of the family.
        p_equivalent: of a difference of the margin or more (two one-sided tests), adjusted.
        delta: Cliff's delta, from -1 to 1; negative when `a` is mostly smaller. Ignores rounds.
        delta_low: lower end of its interval.
        delta_high: upper end.
        a12: Vargha-Delaney, how likely a trial of `a` is larger than one of `b`: (delta + 1) / 2.
        a12_low: lower end.
        a12_high: upper end.
        verdict: about `a`, against the margin.
        reason: why there is no other verdict; empty for saves, gains, worse and equivalent.
        more_rounds: further rounds after which there is a verdict with a chance of 0.8, given what
            these rounds show; None if there is one, or more than 1,000 rounds would be needed.
        p_margin: of a difference of at most the margin, adjusted; None where unknown.
        joint_low: lower end of the ratio's simultaneous interval: with confidence 1 - alpha those
            of all pairs hold together. It is beyond the margin where p_margin is at most alpha.
        joint_high: upper end.
        joint_wide_low: lower end of that interval with the instruments' added.
        joint_wide_high: upper end.
        tost_low: lower end of the simultaneous interval of confidence 1 - 2 alpha that two
            one-sided tests decide by: equivalent needs it to be within the margin.
        tost_high: upper end.
    """

    a: str
    b: str
    rounds: int
    won: int
    tied: int
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    difference: float | None = None
    instrument: float | None = None
    wide_low: float | None = None
    wide_high: float | None = None
    t: float | None = None
    p: float | None = None
    p_equivalent: float | None = None
    delta: float | None = None
    delta_low: float | None = None
    delta_high: float | None = None
    a12: float | None = None
    a12_low: float | None = None
    a12_high: float | None = None
    verdict: Verdict = "inconclusive"
    reason: str = ""
    more_rounds: int | None = None
    p_margin: float | None = None
    joint_low: float | None = None
    joint_high: float | None = None
    joint_wide_low: float | None = None
    joint_wide_high: float | None = None
    tost_low: float | None = None
    tost_high: float | None = None

    @property
    def is_tested(self) -> bool:
        """Whether anything was decided: without any spread there is a ratio and a `reason` only."""
        return self.verdict != "inconclusive" or self.low is not None or self.joint_low is not None

    def turned(self, *, higher_is_better: bool = False) -> Pair:
        """The same comparison as seen from the other cell.

        Args:
            higher_is_better: of the metric; decides what the opposite of `worse` is called.
        """

        def inverse(ratio: float | None) -> float | None:
            return 1 / ratio if ratio else None

        def less_from(whole: float, value: float | None) -> float | None:
            return None if value is None else whole - value

        return dataclasses.replace(
            self,
            a=self.b,
            b=self.a,
            won=self.rounds - self.won - self.tied,
            ratio=inverse(self.ratio),
            low=inverse(self.high),
            high=inverse(self.low),
            difference=less_from(0, self.difference),
            wide_low=inverse(self.wide_high),
            wide_high=inverse(self.wide_low),
            t=less_from(0, self.t),
            delta=less_from(0, self.delta),
            delta_low=less_from(0, self.delta_high),
            delta_high=less_from(0, self.delta_low),
            a12=less_from(1, self.a12),
            a12_low=less_from(1, self.a12_high),
            a12_high=less_from(1, self.a12_low),
            verdict=mirrored(self.verdict, higher_is_better),
            joint_low=inverse(self.joint_high),
            joint_high=inverse(self.joint_low),
            joint_wide_low=inverse(self.joint_wide_high),
            joint_wide_high=inverse(self.joint_wide_low),
            tost_low=inverse(self.tost_high),
            tost_high=inverse(self.tost_low),
        )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Savings:
    """Every cell against every other: how much less (or, for throughput, more) the row has.

    Attributes:
        cells: k ids, best first; the order of rows and columns.
        saving_pct: k x k, positive where the row is better; None on the diagonal and where unknown.
        verdicts: k x k, about the row; None on the diagonal.
    """

    cells: tuple[str, ...]
    saving_pct: tuple[tuple[float | None, ...], ...]
    verdicts: tuple[tuple[Verdict | None, ...], ...]

    @classmethod
    def unknown(cls) -> Savings:
        """Of a family whose cells could not be compared."""
        return cls(cells=(), saving_pct=(), verdicts=())


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ConventionalCell:
    """One cell in the conventional tests.

    Attributes:
        cell: its id.
        trials: how many.
        shapiro_w: Shapiro-Wilk W; None where the values do not vary.
        shapiro_p: its p.
        letters: compact letter display of Dunn-Holm at alpha: cells that share a letter do not
            differ. After Z come aa, ab, ...; all letters are then separated by spaces.
    """

    cell: str
    trials: int
    shapiro_w: float | None
    shapiro_p: float | None
    letters: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ConventionalPair:
    """One pair in the conventional tests; the order of a and b is that of the comparison.

    Attributes:
        a: a cell id.
        b: another.
        dunn_p: Dunn after Kruskal-Wallis, adjusted with Holm.
        games_howell_p: Games-Howell (adjusted by the studentised range); None without variation.
        conover_p: Conover after Friedman, adjusted with Holm; None where Friedman has no result.
    """

    a: str
    b: str
    dunn_p: float
    games_howell_p: float | None
    conover_p: float | None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Conventional:
    """The field's usual tests, on untransformed trials (no logs). All but Friedman ignore rounds.

    Attributes:
        cells: with at least three valid trials.
        levene_w: Levene's statistic about the median; None where no cell varies.
        levene_p: its p.
        kruskal_h: Kruskal-Wallis H.
        kruskal_p: its p.
        epsilon_squared: effect size H / (n - 1).
        friedman_chi2: over the rounds complete for these cells; None with fewer than three cells or
            two rounds.
        friedman_p: its p.
        friedman_rounds: the number of these rounds.
        kendall_w: effect size of Friedman, chi2 / (rounds (cells - 1)).
        pairs: every pair of these cells.
    """

    cells: tuple[ConventionalCell, ...]
    levene_w: float | None
    levene_p: float | None
    kruskal_h: float
    kruskal_p: float
    epsilon_squared: float
    friedman_chi2: float | None
    friedman_p: float | None
    friedman_rounds: int
    kendall_w: float | None
    pairs: tuple[ConventionalPair, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Disagreement:
    """A pair that the comparison and Dunn-Holm judge differently.

    Attributes:
        a: a cell id.
        b: another.
        found_by: which one finds a difference.
        p: the comparison's adjusted p; None where it has none.
        dunn_p: Dunn-Holm.
        why: the likely reason, one sentence.
    """

    a: str
    b: str
    found_by: Literal["rounds", "dunn"]
    p: float | None
    dunn_p: float
    why: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PowerRow:
    """The power for one difference.

    Attributes:
        difference_pct: true difference of a pair, in per cent.
        power: chance of a verdict (saves, gains or worse: beyond the margin) in these rounds.
        rounds: fewest rounds with a chance of 0.8; None for more than 1,000.
    """

    difference_pct: float
    power: float
    rounds: int | None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Power:
    """Planning figures of a family, from the observed spread.

    Attributes:
        rounds: rounds the spread was estimated from: the median over pairs.
        spread_pct: standard deviation of a pair's log ratio over rounds, in per cent: the median
            over pairs.
        pairs: comparisons that p is adjusted for.
        smallest_rounds: fewest rounds in which p can be at most alpha at all.
        detectable_pct: difference that gets a verdict with a chance of 0.8 in these rounds; None
            above 1,000 %.
        rows: for a list of differences.
        margin_pct: the margin of the verdict; None in reports of earlier versions, whose chances
            are those of any difference (p at most alpha), without a margin.
    """

    rounds: int
    spread_pct: float
    pairs: int
    smallest_rounds: int
    detectable_pct: float | None
    rows: tuple[PowerRow, ...]
    margin_pct: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RoundLeftOut:
    """A round without which a pair would have another verdict.

    Attributes:
        a: a cell id.
        b: another.
        round: the round.
        verdict: about `a`, from the other rounds.
    """

    a: str
    b: str
    round: int
    verdict: Verdict


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """Cells that are compared with each other on one metric; p is adjusted within.

    Attributes:
        name: levels that its cells share, such as `gpt2`; empty when all cells are one family.
        ranked: cells from best to worst: by geometric mean over the rounds that are complete for
            the family if there are any, else over each cell's own rounds.
        reference: the cell that findings and short tables compare with: the one that was named, or
            the best.
        named: the reference was named in the options.
        complete_rounds: rounds in which all its cells have a value.
        draws: how many p rests on; 0 where there is none.
        exact: these are all permutations there are (two cells).
        reason: why there is no p; empty when there is.
        pairs: every pair, better ranked first; the named reference comes last in its pairs.
        savings: the same as a matrix.
        conventional: None where it cannot be run; `Report.left_out` says why.
        disagreements: between the two.
        power: None without a spread.
        rests_on: rounds without which one of the pairs in `stated` would have another verdict; None
            where that was not examined (`stats.leave_one_out`).
    """

    name: str
    ranked: tuple[str, ...]
    reference: str
    named: bool
    complete_rounds: int
    draws: int
    exact: bool
    reason: str
    pairs: tuple[Pair, ...]
    savings: Savings
    conventional: Conventional | None
    disagreements: tuple[Disagreement, ...]
    power: Power | None
    rests_on: tuple[RoundLeftOut, ...] | None = None

    @classmethod
    def not_compared(cls, name: str, cells: tuple[str, ...], reason: str) -> Family:
        """A family whose comparison failed; its cells are in the order given."""
        return cls(
            name=name,
            ranked=cells,
            reference=cells[0],
            named=False,
            complete_rounds=0,
            draws=0,
            exact=False,
            reason=reason,
            pairs=(),
            savings=Savings.unknown(),
            conventional=None,
            disagreements=(),
            power=None,
        )

    @property
    def stated(self) -> tuple[Pair, ...]:
        """The pairs that findings state: the best cell against the next and against the last.

        With a reference that was named: the best other cell against it.
        """
        pairs = self.headline
        return pairs[:1] if self.named or len(pairs) < 2 else (pairs[0], pairs[-1])

    @property
    def headline(self) -> tuple[Pair, ...]:
        """The pairs with the reference, in the order of `ranked`."""
        return tuple(pair for pair in self.pairs if self.reference in (pair.a, pair.b))
