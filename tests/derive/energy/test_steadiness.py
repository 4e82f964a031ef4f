"""A baseline as a sample of the long run."""

import random

import pytest

from slm_energy.derive.energy.steadiness import unsteadiness_j
from slm_energy.testing.waveform import constant, stairs
from tests.derive.energy.conftest import MS, POWER, S, counted, powered, serve, span, times

BASELINE = span(2 * S, 12 * S)
AT = times(until_ns=14 * S)


def bursty(rng, burst_s, rest_s):
    """30 W, and 80 W in bursts; and the mean in the long run."""
    time_ns, levels, burst = -5 * S, [], rng.random() < burst_s / (burst_s + rest_s)
    while time_ns < 15 * S:
        levels.append((time_ns, 80_000 if burst else 30_000))
        time_ns += 1 + round(rng.expovariate(1 / (burst_s if burst else rest_s)) * S)
        burst = not burst
    return stairs(levels), (80 * burst_s + 30 * rest_s) / (burst_s + rest_s)


@pytest.mark.parametrize(("burst_s", "rest_s"), [(0.05, 0.45), (0.1, 1.0), (0.3, 1.5)])
def test_the_long_run_is_inside_for_bursty_idle(burst_s, rest_s):
    inside, inside_without = 0, 0
    for seed in range(40):
        curve, mean_w = bursty(random.Random(seed), burst_s, rest_s)
        readings = counted(curve, AT)
        figure = serve(readings, BASELINE)
        below_j, above_j = unsteadiness_j([readings], BASELINE, max_gap_ns=S)
        truth_j = mean_w * BASELINE.duration_s
        inside += figure.low_j - below_j <= truth_j <= figure.high_j + above_j
        inside_without += figure.low_j <= truth_j <= figure.high_j
    assert inside >= 36  # 96 to 99 %: benchmarks/coverage.py --baseline
    assert inside_without <= 12


def test_steady_idle_is_known_well():
    below_j, above_j = unsteadiness_j([counted(constant(30), AT)], BASELINE, max_gap_ns=S)
    assert below_j == pytest.approx(0, abs=0.3)
    assert above_j == pytest.approx(0, abs=0.5)


def test_sources_are_added_before_their_blocks_are_compared():
    # What one draws more, the other draws less: the sum is steady.
    turns = [(t * S, 20_000 + t % 2 * 40_000) for t in range(15)]
    one, other = (
        counted(stairs(levels), AT) for levels in (turns, [(t, 80_000 - w) for t, w in turns])
    )
    alone_j, _ = unsteadiness_j([one], BASELINE, max_gap_ns=S)
    both_j, _ = unsteadiness_j([one, other], BASELINE, max_gap_ns=S)
    assert both_j < alone_j / 10


def test_power_has_blocks_too():
    curve, _ = bursty(random.Random(1), 0.3, 1.5)
    by_counter, _ = unsteadiness_j([counted(curve, AT)], BASELINE, max_gap_ns=S)
    by_power, _ = unsteadiness_j([powered(curve, AT, POWER)], BASELINE, max_gap_ns=S)
    assert by_power == pytest.approx(by_counter, rel=0.2)


@pytest.mark.parametrize("step_ns", [1300 * MS, 5 * S])
def test_few_readings_cannot_tell(step_ns):
    assert (
        unsteadiness_j([counted(constant(30), times(step_ns, 14 * S))], BASELINE, max_gap_ns=9 * S)
        is None
    )


def test_no_sources_cannot_tell():
    assert unsteadiness_j([], BASELINE, max_gap_ns=S) is None


def test_a_block_that_is_unknown_leaves_it_unknown():
    readings = counted(constant(30), [t for t in AT if not 5 * S < t < 7 * S])
    assert unsteadiness_j([readings], BASELINE, max_gap_ns=S) is None
