"""Which rows of a series count, and which windows cannot be accounted with them."""

from dataclasses import replace

import pytest

from slm_energy.derive.energy.usable_readings import (
    Fault,
    UnknownJoules,
    bracket,
    describe,
    failures,
    refuse_clock_step,
    refuse_stall,
    usable,
)
from slm_energy.record import Series, Source, Window

COUNTER = Source(id="c", kind="counter", domain="gpu", unit="mJ", modulus=1000, update_period_ns=10)
POWER = Source(id="p", kind="power", domain="gpu", unit="mW", max_power_w=400.0)
WINDOW = Window(name="serve", start_ns=100, end_ns=200)


def series(rows, source=COUNTER, errors=None):
    """Rows are (before, raw, after)."""
    before, raw, after = zip(*rows, strict=True) if rows else ((), (), ())
    return Series(source=source, before_ns=before, raw=raw, after_ns=after, errors=errors or {})


def kept(rows, source=COUNTER):
    return usable(series(rows, source)).row


# --- usable -----------------------------------------------------------------------------------


def test_rows_become_columns_of_whole_numbers():
    readings = usable(series([(0, 5, 1), (2, None, 3), (4, 7.0, 6)]))
    assert (readings.row, readings.dropped) == ([0, 2], [1])
    assert (readings.before_ns, readings.raw, readings.after_ns) == ([0, 4], [5, 7], [1, 6])
    assert all(type(raw) is int for raw in readings.raw)


@pytest.mark.parametrize(("raw", "good"), [(-1, 0), (0, 1), (999, 1), (1000, 0), (float("nan"), 0)])
def test_a_counter_shows_less_than_its_modulus(raw, good):
    assert len(kept([(0, raw, 1)])) == good


@pytest.mark.parametrize(("raw", "good"), [(1000, 1), (2**70, 1), (float("inf"), 0)])
def test_a_counter_without_modulus_shows_anything_finite(raw, good):
    assert len(kept([(0, raw, 1)], replace(COUNTER, modulus=None))) == good


@pytest.mark.parametrize(
    ("unit", "raw", "good"),
    [("mW", 400_000, 1), ("mW", 400_001, 0), ("W", 400.0, 1), ("W", 400.5, 0), ("W", -0.5, 0)],
)
def test_power_is_within_what_the_device_can_draw(unit, raw, good):
    assert len(kept([(0, raw, 1)], replace(POWER, unit=unit))) == good


def test_no_device_draws_a_megawatt():
    source = replace(POWER, max_power_w=None)
    assert kept([(0, 10**9, 1), (2, 10**9 + 1, 3)], source) == [0]


def test_the_greatest_power_does_not_bound_a_counter():
    source = replace(COUNTER, modulus=None, max_power_w=1.0)
    assert kept([(0, 5000, 1)], source) == [0]


@pytest.mark.parametrize(("unit", "raw"), [("uW", 70_500_000), ("mW", 70_500), ("W", 70.5)])
def test_power_becomes_microwatts(unit, raw):
    assert usable(series([(0, raw, 1)], replace(POWER, unit=unit))).raw == [70_500_000]


@pytest.mark.parametrize(
    ("rows", "good"),
    [
        (
            [(0, 1, 5), (5, 2, 6), (6, 3, 6), (7, 4, 9)],
            [0, 1, 3],
        ),  # the third has no time of its own
        ([(0, 1, 5), (0, 2, 5), (5, 3, 9)], [0, 2]),  # stamped twice
        ([(0, 1, 5), (4, 2, 9), (9, 3, 12)], [0, 2]),  # began before the other was over
        ([(0, 1, 50), (10, 2, 20), (20, 3, 30), (50, 4, 60)], [0, 3]),  # back in time, for two rows
        ([(5, 1, 4), (6, 2, 7)], [1]),  # over before it began
        ([(0, 1, 0), (0, 2, 0), (1, 3, 1)], [0, 2]),
        ([(3, 1, 3), (3, 2, 4)], [0, 1]),
    ],
)
def test_a_reading_comes_later_than_all_before_it(rows, good):
    assert kept(rows) == good


def test_a_row_out_of_order_may_also_have_a_bad_value():
    assert kept([(0, 1, 5), (0, 2, 5), (5, None, 9), (9, 4, 10)]) == [0, 3]


# --- failures ---------------------------------------------------------------------------------


def test_failures_inside_the_window_are_named():
    whole = series(
        [(99, None, 99), (100, None, 101), (150, -5, 151), (151, 7, 152), (200, None, 201),
         (201, None, 202)],
        errors={"0": "A", "1": "EACCES", "4": "EIO", "5": "B"},
    )  # fmt: skip
    assert failures(whole, usable(whole), WINDOW) == [
        "EACCES",
        "impossible value -5, or stamped twice",
        "EIO",
    ]


def test_a_second_stamp_is_a_failure():
    whole = series([(150, 7, 151), (150, 8, 151)])
    assert failures(whole, usable(whole), WINDOW) == ["impossible value 8, or stamped twice"]


# --- clock ------------------------------------------------------------------------------------


def steps(rows):
    try:
        refuse_clock_step(series(rows), WINDOW)
    except UnknownJoules as unknown:
        return str(unknown)
    return None


@pytest.mark.parametrize(
    ("rows", "stepped"),
    [
        ([(90, 1, 91), (150, 2, 151), (250, 3, 251)], False),
        ([(150, 1, 151), (150, 2, 151), (250, 3, 251)], False),  # twice the same is no step
        ([(150, 1, 160), (155, 2, 165)], False),
        ([(90, 1, 91), (150, 2, 151), (140, 3, 141), (250, 4, 251)], True),
        ([(150, 2, 149)], True),  # within one reading
        ([(80, 1, 81), (99, 2, 99), (70, 3, 71), (250, 4, 251)], False),  # before the window
        ([(80, 1, 81), (100, 2, 101), (70, 3, 71), (250, 4, 251)], True),
        ([(300, 1, 301), (200, 2, 201)], True),
        ([(300, 1, 301), (201, 2, 202)], False),  # after the window
        ([(300, 1, 301), (50, 2, 51), (60, 3, 61)], True),
    ],
)
def test_a_clock_that_goes_back_over_a_part_of_the_window_is_refused(rows, stepped):
    assert (steps(rows) is not None) == stepped


def test_a_clock_step_has_a_size():
    rows = [(0, 1, 1), (4 * 10**9, 2, 4 * 10**9), (10**9, 3, 10**9), (2 * 10**9, 4, 2 * 10**9)]
    window = Window(name="serve", start_ns=0, end_ns=10**10)
    with pytest.raises(UnknownJoules, match="clock step: time stamps went back by 3 s"):
        refuse_clock_step(series(rows), window)


# --- bracket ----------------------------------------------------------------------------------


def around(rows, source=COUNTER, window=WINDOW):
    whole = series(rows, source)
    try:
        return bracket(whole, usable(whole), window)
    except UnknownJoules as unknown:
        return str(unknown).split(":")[0]


ROWS = [(80, 1, 81), (95, 2, 100), (150, 3, 151), (199, 4, 200)]


def test_the_last_reading_before_the_window_opens_it():
    assert around([*ROWS, (300, 5, 301)]) == (1, 4)
    assert around([(80, 1, 81), (95, 2, 101), (150, 3, 151), (300, 5, 301)]) == (0, 3)
    assert around([(80, 1, 100), (300, 5, 301)]) == (0, 1)
    assert around([(80, 1, 101), (300, 5, 301)]) == Fault.LATE


@pytest.mark.parametrize(("before", "enough"), [(200, False), (210, False), (211, True)])
def test_a_stale_reading_does_not_close_it(before, enough):
    assert around([*ROWS, (before, 5, before + 1)]) == ((1, 4) if enough else Fault.EARLY)


def test_a_new_value_closes_it_if_the_old_one_was_read_after_the_end():
    assert around([*ROWS, (200, 5, 201), (202, 6, 203), (204, 7, 205)]) == (1, 5)
    assert around([*ROWS[:-1], (199, 5, 201), (202, 6, 203)]) == Fault.EARLY
    assert around([*ROWS, (200, 5, 201), (202, 5, 203)]) == Fault.EARLY


def test_power_and_estimates_are_never_stale():
    assert around([*ROWS, (200, 4, 201)], replace(POWER, update_period_ns=10)) == (1, 4)
    assert around([*ROWS, (199, 4, 201)], POWER) == Fault.EARLY
    estimate = replace(COUNTER, kind="estimate", modulus=None)
    assert around([*ROWS, (200, 4, 201)], estimate) == (1, 4)


@pytest.mark.parametrize("end_ns", [100, 99])
def test_an_empty_window_has_no_bracket(end_ns):
    window = Window(name="serve", start_ns=100, end_ns=end_ns)
    assert around(ROWS, window=window) == Fault.WINDOW


def test_staleness_is_the_update_period_and_a_tenth():
    assert usable(series(ROWS)).stale_ns == 11
    assert usable(series(ROWS, replace(COUNTER, update_period_ns=None))).stale_ns == 0


# --- stall and description --------------------------------------------------------------------


def test_failed_tries_are_tries():
    rows = [(0, 1, 1), (50, None, 60), (110, 3, 111)]
    refuse_stall(series(rows), [0, 2], limit_ns=50)
    with pytest.raises(UnknownJoules, match=r"sampler stalled: nothing was read for 5e-08 s"):
        refuse_stall(series(rows), [0, 2], limit_ns=49)
    refuse_stall(series(rows), [0], limit_ns=1)


def test_a_slow_reading_is_no_pause():
    refuse_stall(series([(0, 1, 1), (5, 2, 1000), (1001, 3, 1002)]), [0, 1, 2], limit_ns=10)


def test_the_description_of_a_bracket():
    rows = [(0, 0, 1), (90, 1, 95), (110, 2, 111), (171, 3, 172), (173, 4, 174), (230, 5, 231),
            (900, 6, 901)]  # fmt: skip
    readings = usable(series(rows))
    assert describe(readings, 1, 5, WINDOW, 30) == {
        "readings": 5,
        "gaps": 2,
        "largest_gap_s": 60e-9,
        "coverage": pytest.approx(1 - 0.60 - 0.26),
    }
    assert describe(readings, 1, 5, WINDOW, 56)["gaps"] == 1
    assert describe(readings, 1, 5, WINDOW, 60)["coverage"] == 1
    assert describe(readings, 0, 5, WINDOW, 70)["coverage"] == 1


# --- words ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([], "unread: no reading succeeded: there was none"),
        (
            [(101, 1, 102), (300, 2, 301)],
            "sampling began too late: no good reading before the window",
        ),
        (
            ROWS,
            "sampling ended too early: no good reading that is sure to know the window's end",
        ),
    ],
)
def test_a_reason_is_a_sentence(rows, reason):
    whole = series(rows)
    with pytest.raises(UnknownJoules) as raised:
        bracket(whole, usable(whole), WINDOW)
    assert str(raised.value) == reason


def test_a_pause_before_the_bracket_does_not_matter():
    rows = [(0, 0, 1), (90, 1, 95), (110, 2, 111)]
    refuse_stall(series(rows), [1, 2], limit_ns=20)
