"""The step of a counter from its values: exact grids, float32 errors, never too small."""

import random
import struct

import pytest

from slm_energy.counter_step import step_of

WH = 3_600_000


def counted(step, rises, first=987_654):
    """Values of a counter on a grid, that rises by so many steps between readings."""
    values = [first * step]
    for rise in rises:
        values.append(values[-1] + rise * step)
    return values


def as_float32(values_mj, unit_mj):
    """Values that a device holds as float32 in its own unit and prints in full."""
    units = (struct.unpack("f", struct.pack("f", value / unit_mj))[0] for value in values_mj)
    return [round(value * unit_mj) for value in units]


@pytest.mark.parametrize("step", [3600, 60_000, WH, 1000])
def test_it_is_the_common_divisor_of_all_rises(step):
    assert step_of(counted(step, [16, 0, 17, 16, 15, 17, 18])) == step


def test_readings_that_see_every_step_tell_it():
    assert step_of(counted(WH, [0, 0, 1, 0, 1, 0, 0, 1, 1])) == WH


def test_it_is_learnt_through_the_errors_of_a_float32():
    """12.345 kWh as a float32 is 12.345000267...: the errors have a common divisor of 1 mJ."""
    values = as_float32(counted(WH, [1, 0, 2, 1, 0, 1, 3, 1, 2], first=12_345), 1000 * WH)
    assert values[0] % WH != 0
    assert step_of(values) == pytest.approx(WH, rel=0.02)
    assert step_of(values) >= WH


def test_two_and_three_steps_tell_one():
    values = as_float32(counted(WH, [2, 3, 2, 3, 3, 2], first=1234), 1000 * WH)
    assert WH <= step_of(values) < 1.02 * WH


@pytest.mark.parametrize("values", [[], [5], [7, 7, 7], [9, 4]])
def test_a_counter_that_did_not_rise_tells_none(values):
    assert step_of(values) is None


def test_one_rise_is_the_least_that_is_known():
    assert step_of([0, 0, 5 * WH, 5 * WH]) >= 5 * WH


@pytest.mark.parametrize("single", [False, True], ids=["exact", "float32"])
def test_it_is_never_less_than_the_step(single):
    chance = random.Random(3)
    for _ in range(300):
        step = chance.choice((3600, 36_000, 60_000, WH))
        rises = [chance.choice((0, 1, 1, 2, 5, 17)) for _ in range(chance.randrange(2, 40))]
        values = counted(step, rises, first=chance.randrange(1, 20_000))
        learnt = step_of(as_float32(values, 1000 * WH) if single else values)
        assert learnt is None or learnt >= step
