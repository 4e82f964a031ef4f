"""The campaign's figures about a GPU's sensors, on traces whose truth is known."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import ModuleType

import pytest

from slm_energy.record import Series, Source, Window
from slm_energy.testing.waveform import Waveform
from tests.benchmark import load

MS = 10**6
IDLE_MW, BUSY_MW = 80_000, 600_000
LENGTH_NS = 2000 * MS
LOAD = Waveform(steps=((LENGTH_NS, IDLE_MW), (LENGTH_NS, BUSY_MW)))
IDLE = Window(name="idle", start_ns=0, end_ns=LENGTH_NS)
BUSY = Window(name="compute", start_ns=LENGTH_NS, end_ns=2 * LENGTH_NS)


@pytest.fixture(scope="module")
def signals() -> ModuleType:
    return load("gpu_signals")


def counter(*, period_ms: int = 20, delay_ms: int = 0, late_every: int | None = None) -> Series:
    """A counter in mJ, read every millisecond; every n-th tick is `period_ms` late."""
    late = {n for n in range(1000) if late_every and n % late_every == 0}
    ticks = [n * period_ms * MS + (period_ms * MS if n in late else 0) for n in range(1000)]

    def shown(time_ns: int) -> int:
        last = max((tick for tick in ticks if tick <= time_ns), default=0)
        return LOAD.energy_pj(last - delay_ms * MS) // 10**9 + 10**6

    return readings("counter", "mJ", [shown(n * MS) for n in range(4000)])


def power(*, delay_ms: int) -> Series:
    """Instantaneous power in mW, shown late."""
    values = [LOAD.power_mw((n - delay_ms) * MS) for n in range(4000)]
    return readings("power", "mW", values)


def readings(kind: str, unit: str, values: list[int]) -> Series:
    source = Source(
        id=f"fake/{kind}",
        kind=kind,  # type: ignore[arg-type]
        domain="gpu",
        unit=unit,  # type: ignore[arg-type]
        update_period_ns=20 * MS,
    )
    times = tuple(n * MS for n in range(len(values)))
    after = tuple(time_ns + 1000 for time_ns in times)
    return Series(source=source, before_ns=times, raw=tuple(values), after_ns=after)


def test_the_update_period_and_the_share_of_late_updates_are_found(signals: ModuleType) -> None:
    # One tick in ten comes together with the next: of nine pauses, one is double.
    seen = signals.ticks(counter(late_every=10), BUSY)
    assert seen.median_ms == pytest.approx(20, abs=1)
    assert seen.longest_ms == pytest.approx(40, abs=1)
    assert seen.late_pct == pytest.approx(100 / 9, abs=2)


def test_a_value_that_stays_has_no_update_period(signals: ModuleType) -> None:
    assert signals.ticks(readings("power", "mW", [IDLE_MW] * 4000), IDLE) is None


@pytest.mark.parametrize("delay_ms", [0, 25, 60, 100])
def test_the_delay_of_a_counter_is_found_within_a_tick(delay_ms: int, signals: ModuleType) -> None:
    found = signals.counter_delay_ms(counter(delay_ms=delay_ms), IDLE, BUSY)
    assert found == pytest.approx(delay_ms, abs=2)


def test_the_delay_of_power_is_found(signals: ModuleType) -> None:
    assert signals.power_delay_ms(power(delay_ms=40), IDLE, BUSY) == pytest.approx(40, abs=1)


def test_a_load_that_does_not_step_has_no_delay(signals: ModuleType) -> None:
    steady = readings("power", "mW", [IDLE_MW] * 4000)
    assert signals.power_delay_ms(steady, IDLE, BUSY) is None


def test_a_counter_that_counts_a_tenth_too_much_shows_in_its_ratio_to_power(
    signals: ModuleType,
) -> None:
    true = counter()
    high = dataclasses.replace(true, raw=tuple(int(1.1 * (raw or 0)) for raw in true.raw))
    window = Window(name="compute", start_ns=2300 * MS, end_ns=3700 * MS)
    assert signals.counter_to_power(true, power(delay_ms=0), window) == pytest.approx(1, abs=0.02)
    assert signals.counter_to_power(high, power(delay_ms=0), window) == pytest.approx(1.1, abs=0.02)


def test_a_rehearsal_measures_the_fake_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Schedule, load, recording and description together, in a few seconds instead of a minute."""
    campaign = load("gpu_campaign")
    monkeypatch.setattr(campaign, "_LEVELS_S", {"idle": 0.5, "compute": 0.5})
    monkeypatch.setattr(campaign, "_STEPS", 2)
    monkeypatch.setattr(campaign, "_STEP_S", 1.0)
    figures = campaign.signals(tmp_path, "cpu", rehearse=True)
    assert figures["ticks"]["counter compute"]["median_ms"] == pytest.approx(20, abs=5)
    assert figures["delay_ms"]["counter rise"]["count"] == 2
    trace = tmp_path / "trace.jsonl.gz"
    assert trace.stat().st_size > 1000
    json.dumps(figures)
