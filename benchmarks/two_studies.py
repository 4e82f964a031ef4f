"""How often `slm-energy compare` calls something a change where nothing has changed.

    python benchmarks/two_studies.py [--studies 400] [--cells 4] [--shifts]

Two studies of the same cells are simulated and judged as `compare` does. A trial's log energy is

    cell      its true level, the same in both studies
    round     a first-order autoregression over the rounds of a study, shared by its cells: a room
              that warms and cools (standard deviation 1 %)
    trial     noise of its own (standard deviation 0.5 %)
    study     what shifts a whole study: another day, another boot

Printed by default, with no margin and no shift: the share of comparisons in which any cell is
called a regression or an improvement (nominal 0.05), by rounds and by the correlation of a round
with the next: with rounds taken as independent, and as `compare` takes them. `width` is how much
wider its intervals are, the median over comparisons.

With `--shifts` it prints that share for a margin of 2 % and independent rounds, by the standard
deviation of what shifts study B against study A, and by the floor that is declared.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from statistics import median

import numpy as np
import numpy.typing as npt

from slm_energy.analysis.result.metric import Metric
from slm_energy.analysis.stats.autocorrelation import neighbour_correlation
from slm_energy.analysis.stats.welch import CellChange, IndependentPair, Sample, judge

Floats = npt.NDArray[np.float64]
METRIC = Metric(name="energy/per_output_token_j")
ALPHA, ROUND_SD, TRIAL_SD = 0.05, 0.01, 0.005


def study(
    cells: int, rounds: int, correlation: float, shift: float, generator: np.random.Generator
) -> Floats:
    """Log energy of one study, rounds x cells, less the cells' levels."""
    level = np.empty(rounds)
    level[0] = generator.normal()
    for number in range(1, rounds):
        step = np.sqrt(1 - correlation**2) * generator.normal()
        level[number] = correlation * level[number - 1] + step
    noise = generator.normal(0, TRIAL_SD, (rounds, cells))
    return np.asarray(shift + ROUND_SD * level[:, None] + noise)


def compared(
    a: Floats, b: Floats, *, margin: float, floor: float, independent: bool
) -> Sequence[CellChange]:
    """What `compare` says of two studies, cell by cell.

    Args:
        a: log energy, rounds x cells.
        b: of the other study.
        margin: as its option.
        floor: as its option.
        independent: take rounds as independent.
    """
    pairs = [
        IndependentPair(metric=METRIC, cell=str(cell), a=_sample(a[:, cell]), b=_sample(b[:, cell]))
        for cell in range(a.shape[1])
    ]
    if not independent:
        sides = [[pair.a.by_round for pair in pairs], [pair.b.by_round for pair in pairs]]
        correlation = neighbour_correlation(sides)
        pairs = [dataclasses.replace(pair, correlation=correlation) for pair in pairs]
    return judge(pairs, margin=margin, alpha=ALPHA, floor=floor)


def _sample(logs: Floats) -> Sample:
    return Sample(logs=logs, rounds=tuple(range(1, len(logs) + 1)))


def alarm(changes: Sequence[CellChange]) -> bool:
    """Whether any cell is called changed."""
    return any(change.verdict in ("regression", "improvement") for change in changes)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Alarms:
    """Shares of comparisons with a false alarm, and how much wider intervals are.

    Attributes:
        independent: with rounds taken as independent.
        ours: as `compare` takes them.
        width: of an interval of ours, over that of the other.
    """

    independent: float
    ours: float
    width: float


def of_correlated_rounds(
    cells: int, rounds: int, correlation: float, studies: int, seed: int
) -> Alarms:
    """Compare pairs of studies that differ in nothing."""
    generator = np.random.default_rng(seed)
    counts, widths = [0, 0], []
    for _ in range(studies):
        a, b = (study(cells, rounds, correlation, 0.0, generator) for _ in range(2))
        plain, ours = (
            compared(a, b, margin=0.0, floor=0.0, independent=independent)
            for independent in (True, False)
        )
        counts[0] += alarm(plain)
        counts[1] += alarm(ours)
        widths.append(_width(ours[0]) / _width(plain[0]))
    return Alarms(independent=counts[0] / studies, ours=counts[1] / studies, width=median(widths))


def _width(change: CellChange) -> float:
    assert change.low is not None
    assert change.high is not None
    return float(np.log(change.high / change.low))


def of_shifted_studies(
    cells: int, rounds: int, shift_sd: float, floor: float, studies: int, seed: int
) -> float:
    """Share of comparisons with a false alarm where B as a whole is shifted against A."""
    generator = np.random.default_rng(seed)
    alarms = 0
    for _ in range(studies):
        a = study(cells, rounds, 0.0, 0.0, generator)
        b = study(cells, rounds, 0.0, generator.normal(0, shift_sd), generator)
        alarms += alarm(compared(a, b, margin=0.02, floor=floor, independent=False))
    return alarms / studies


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=400)
    parser.add_argument("--cells", type=int, default=4)
    parser.add_argument("--shifts", action="store_true", help="studies shifted as a whole")
    asked = parser.parse_args()
    if asked.shifts:
        floors = (0.0, 0.01, 0.02, 0.04)
        print(f"{asked.cells} cells, 10 rounds, margin 2 %: share with a false alarm")
        print("shift, sd " + "".join(f"  floor {floor:g}".rjust(12) for floor in floors))
        for shift in (0.0, 0.005, 0.01, 0.02):
            shares = [
                of_shifted_studies(asked.cells, 10, shift, floor, asked.studies, 1)
                for floor in floors
            ]
            print(f"{shift:>9.3f} " + "".join(f"{share:>12.3f}" for share in shares), flush=True)
        return
    print(f"{asked.cells} cells, no margin: share with a false alarm (nominal {ALPHA})")
    print(f"{'rounds':>6}{'correlation':>13}{'independent':>13}{'ours':>8}{'width':>8}")
    for rounds in (5, 8, 12, 20):
        for correlation in (0.0, 0.3, 0.5, 0.7, 0.9):
            found = of_correlated_rounds(asked.cells, rounds, correlation, asked.studies, 1)
            print(f"{rounds:>6}{correlation:>13.1f}{found.independent:>13.3f}{found.ours:>8.3f}"
                  f"{found.width:>8.2f}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
