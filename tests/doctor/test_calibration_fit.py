"""Simulated calibrations: the intervals contain the true gain, offset and lag."""

import dataclasses

import numpy as np
import pytest

from slm_energy.doctor.calibration_fit import attribute, fit, line
from slm_energy.errors import MeterError
from tests import benchmark

calibration = benchmark.load("calibration")
AT_THE_WALL = "RAPL and DRAM against a wall meter"
ONE_DEVICE = "GPU power against the GPU's counter"


@pytest.fixture(scope="module")
def runs():
    """40 short calibrations of two kinds; `benchmarks/calibration.py` does 200 of four."""
    return {
        name: [
            calibration.simulate(calibration.SCENARIOS[name], seed, rounds=3, phase_s=16)
            for seed in range(40)
        ]
        for name in (AT_THE_WALL, ONE_DEVICE)
    }


@pytest.mark.parametrize(
    ("name", "source", "quantity", "truth"),
    [
        (AT_THE_WALL, "rapl/intel-rapl:0", "gain", 0.8),
        (AT_THE_WALL, "rapl/intel-rapl:0:0", "gain", 0.8),
        (AT_THE_WALL, "rapl/intel-rapl:0", "lag_s", -1.5),
        (ONE_DEVICE, "nvml/GPU-1/power", "gain", 1.05),
        (ONE_DEVICE, "nvml/GPU-1/power", "offset_w", 3.0),
        (ONE_DEVICE, "nvml/GPU-1/power", "lag_s", 0.09),
    ],
)
def test_intervals_contain_the_truth(runs, name, source, quantity, truth):
    fitted = [
        getattr(each, quantity)
        for result, _ in runs[name]
        for each in result.sources
        if each.source == source
    ]
    assert len(fitted) == 40
    # 95 % of 40 are 38; fewer than 35 have a chance of 0.3 %.
    assert sum(each.low <= truth <= each.high for each in fitted) >= 35
    assert np.mean([each.best for each in fitted]) == pytest.approx(truth, abs=0.15)


def test_the_constant_is_what_no_source_sees(runs):
    constants = [result.constant_w for result, _ in runs[AT_THE_WALL]]
    assert sum(each.low <= 35 <= each.high for each in constants) >= 35


def test_gains_are_not_wider_than_useful(runs):
    for result, _ in runs[AT_THE_WALL]:
        gain = result.sources[0].gain
        assert gain.high - gain.low < 0.06


def test_two_loads_tell_two_parts_apart():
    scenario = calibration.SCENARIOS["RAPL and a GPU against a wall meter"]
    result, truths = calibration.simulate(scenario, 1, rounds=4, phase_s=16)
    gains = {each.source: each.gain for each in result.sources}
    assert gains["rapl/intel-rapl:0"].best == pytest.approx(0.8, abs=0.03)
    assert gains["nvml/GPU-1/energy"].best == pytest.approx(0.9, abs=0.03)
    assert set(gains) == set(truths)


def test_a_part_that_is_not_moved_by_a_load_of_its_own_is_not_fitted():
    # Two parts in fixed proportion: their gains cannot be told apart.
    parts = np.column_stack([[10.0, 50, 90, 11, 52, 91], [1.0, 5, 9, 1.1, 5.2, 9.1]])
    with pytest.raises(MeterError, match="move several parts in step"):
        attribute(parts, 30 + parts[:, 0] / 0.8 + np.array([0.3, -0.2, 0.1, -0.3, 0.2, -0.1]))


def test_a_part_that_the_reference_does_not_see_is_not_fitted():
    processors, gpu = np.array([20.0, 60, 100, 21, 59, 99]), np.array([30.0, 31, 29, 150, 290, 30])
    seen = 30 + processors / 0.8 + np.array([0.3, -0.2, 0.1, -0.3, 0.2, -0.1])
    with pytest.raises(MeterError, match="does not rise with every load"):
        attribute(np.column_stack([processors, gpu]), seen)


def test_a_source_of_the_sum_that_no_load_moves_is_left_out_alone():
    scenario = dataclasses.replace(
        calibration.SCENARIOS[AT_THE_WALL],
        sensors={
            "processors": (
                calibration.RAPL,
                dataclasses.replace(calibration.DRAM, offset_w=5.0, noise_w=1.0),
            )
        },
        shares={"processors": (1.0, 0.0)},
    )
    result, _ = calibration.simulate(scenario, 1, rounds=3, phase_s=16)
    assert [each.source for each in result.sources] == ["rapl/intel-rapl:0"]
    assert result.sources[0].gain.best == pytest.approx(0.8, abs=0.03)
    ((name, why),) = result.left_out.items()
    assert why.startswith(f"{name}: phases of equal load differ by")


def test_a_reference_that_the_load_does_not_move_is_refused():
    scenario = dataclasses.replace(
        calibration.SCENARIOS[AT_THE_WALL], efficiency={"processors": 1e6}
    )
    with pytest.raises(MeterError, match="wall/power: phases of equal load differ by"):
        calibration.simulate(scenario, 1, rounds=3, phase_s=16)


def test_a_source_that_does_not_follow_the_reference_is_refused():
    shown = np.array([10.0, 90, 50, 60, 20, 80, 40, 70])
    with pytest.raises(MeterError, match="unexplained: set a longer phase_s"):
        line(shown, shown[::-1])


def changed(name=AT_THE_WALL, **changes):
    scenario = calibration.SCENARIOS[name]
    reference = dataclasses.replace(scenario.reference, **changes)
    return dataclasses.replace(scenario, reference=reference)


def test_a_reference_with_coarse_steps_has_too_few_values():
    source = dataclasses.replace(
        calibration.WALL.source, id="wall/energy", kind="counter", unit="mJ", quantum=3_600_000
    )
    with pytest.raises(MeterError, match=r"wall/energy: a phase has \d values of it, and 5 are"):
        calibration.simulate(changed(source=source), 1, rounds=3, phase_s=16)


def test_a_reference_that_lags_into_the_plateau_is_refused():
    with pytest.raises(MeterError, match="shows a change of the load after"):
        calibration.simulate(changed(lag_s=3.5), 1, rounds=3, phase_s=16)


def test_a_gap_in_the_readings_is_refused():
    scenario = calibration.SCENARIOS[ONE_DEVICE]
    plan = calibration.phases((calibration.GPU,), rounds=3, phase_s=16)
    rng = np.random.default_rng(0)
    span = (plan[0].start_ns - 10**10, plan[-1].end_ns + 10**10)
    times = np.arange(*span, 10**8)
    series = calibration._series(scenario.reference, 100 + 0 * times, times, span, rng)
    kept = [i for i, at in enumerate(series.before_ns) if not 118e9 < at < 130e9]
    columns = {
        key: tuple(getattr(series, key)[i] for i in kept)
        for key in ("before_ns", "raw", "after_ns")
    }
    with pytest.raises(MeterError, match="set a longer phase_s"):
        fit(dataclasses.replace(series, **columns), [], {}, plan, max_gap_ns=3 * 10**9)
