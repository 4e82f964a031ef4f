"""Clocks, and a meter at the wall, as the outcome of a trial shows them."""

from __future__ import annotations

import dataclasses

import pytest

from slm_energy.config.groups import MeasurementConfig, RunConfig, WallMeterConfig
from slm_energy.record import Capture, CheckResult, ClockAnchor, Record, Series, Source
from slm_energy.running import trial
from tests.captures import WATTS, S, a_capture, a_counter
from tests.conftest import a_cell, a_trial


def derived(config: RunConfig, capture: Capture, unit: str | None = None) -> Record:
    """A trial's record; with a unit, of a trial for which a meter at the wall was requested."""
    meter = None
    if unit is not None:
        meter = WallMeterConfig(url="http://plug/", path="total", unit=unit)  # type: ignore[arg-type]
    cell = a_cell(config, measurement=MeasurementConfig(name="wall", wall_meter=meter))
    return trial.derive(a_trial(config, cell=cell), capture, 0)


def named(record: Record, name: str) -> CheckResult:
    return next(check for check in record.checks if check.name == name)


def a_plug(watts: float, *, step_mj: int = 1, summed: bool = False) -> Series:
    """Readings of a counter at the wall, every 0.1 s over 12 s."""
    times = tuple(range(S // 50, 12 * S, S // 10))
    return Series(
        source=Source(
            id="wall/energy",
            kind="counter",
            domain="wall",
            unit="mJ",
            update_period_ns=S // 10,
            summed=summed,
        ),
        before_ns=times,
        raw=tuple(int(t * watts / 10**6) // step_mj * step_mj + 10**9 for t in times),
        after_ns=times,
    )


def test_a_window_in_which_the_machine_was_suspended_is_named(config: RunConfig) -> None:
    windows = tuple(
        dataclasses.replace(w, suspended_ns=3_000 if w.name == "serve" else 90 * S)
        for w in a_capture().windows
    )
    record = derived(config, a_capture(windows=windows))
    (reason,) = record.outcome.reasons
    assert reason.startswith("not_suspended: the machine was suspended for 90.00 s within window")


def test_old_captures_do_not_know_whether_the_machine_was_suspended(config: RunConfig) -> None:
    record = derived(config, a_capture())
    assert named(record, "not_suspended").passed is None
    assert named(record, "wall_clock_steady").passed is None
    assert record.outcome.name == "valid"


@pytest.mark.parametrize(("step_s", "flagged"), [(0.001, False), (1, True), (-7200, True)])
def test_a_step_of_the_wall_clock_is_a_flag(
    config: RunConfig, step_s: float, flagged: bool
) -> None:
    """Of the 310 s, the machine was suspended for 300, which is no step."""
    first = ClockAnchor(monotonic_ns=0, unix_ns=1000 * S, boot_ns=50 * S)
    last = ClockAnchor(monotonic_ns=10 * S, unix_ns=1310 * S + round(step_s * S), boot_ns=360 * S)
    record = derived(config, a_capture(parent_clocks=(first, last)))
    assert named(record, "wall_clock_steady").flagged is flagged
    assert record.outcome.name == "valid"


@pytest.mark.parametrize(
    ("shown_w", "unit", "likely"),
    [
        (WATTS * 2 * 60, "Wh", "Wmin"),
        (WATTS * 2 / 60, "Wmin", "Wh"),
        (WATTS * 2 * 1000, "kWh", "Wh"),
        (WATTS * 2 / 3600, "J", "Wh"),
    ],
)
def test_a_unit_that_contradicts_the_sensors_inside_makes_a_trial_invalid(
    config: RunConfig, shown_w: float, unit: str, likely: str
) -> None:
    record = derived(config, a_capture(series=(a_counter(), a_plug(shown_w))), unit)
    (reason,) = record.outcome.reasons
    assert reason.startswith("wall_unit: the sensors inside the machine use ")
    assert reason.endswith(
        f"measurement.wall_meter.unit={unit} cannot be right, it is likely to be {likely}"
    )


@pytest.mark.parametrize("times", [1.1, 2, 12, 40])
def test_a_wall_that_shows_more_than_the_sensors_inside_is_plausible(
    config: RunConfig, times: float
) -> None:
    record = derived(config, a_capture(series=(a_counter(), a_plug(WATTS * times))), "Wh")
    assert named(record, "wall_unit").passed
    assert record.outcome.name == "valid"


def test_a_unit_is_not_judged_by_a_sum_without_the_processor(config: RunConfig) -> None:
    gpu = dataclasses.replace(a_counter().source, domain="gpu")
    record = derived(config, a_capture(series=(a_counter(source=gpu), a_plug(WATTS * 100))), "Wh")
    assert named(record, "wall_unit").passed is None


def test_a_total_with_coarse_steps_is_flagged_with_the_window_it_takes(config: RunConfig) -> None:
    plug = a_plug(60, step_mj=60_000, summed=True)
    record = derived(config, a_capture(series=(plug,)), "Wh")
    flag = named(record, "fine_enough")
    assert flag.flagged
    assert flag.detail.startswith("wall/energy counts in steps of 60 J: the window of 4 s is known")
    assert record.outcome.name == "valid", record.outcome


def test_a_total_with_fine_steps_is_not(config: RunConfig) -> None:
    assert not named(derived(config, a_capture()), "fine_enough").flagged
