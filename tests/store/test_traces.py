from __future__ import annotations

import dataclasses
import re

from slm_energy.record import Series, Window
from slm_energy.store.traces import power_svg
from tests.captures import WATTS, S, a_capture, a_counter


def heights(svg: str) -> list[float]:
    """Vertical places of the first panel's curve."""
    [line] = re.findall(r'<polyline [^>]*points="([^"]+)"', svg)[:1]
    return [float(point.partition(",")[2]) for point in line.split()]


def test_every_window_and_source_is_in_the_picture_and_in_its_text() -> None:
    svg = power_svg(a_capture())
    for word in ("fake/package", "baseline", "serve", f"up to {WATTS} W", "Windows: load 1.0 s"):
        assert word in svg


def test_a_long_trial_has_a_line_of_bounded_length_that_keeps_its_peak() -> None:
    """Two hours of power, ten times a second, with one reading that is higher."""
    times = range(S, 7200 * S, S // 10)
    raw = [90_000 if time == 4000 * S else 10_000 for time in times]
    source = dataclasses.replace(a_counter().source, kind="power", unit="mW")
    power = Series(source=source, before_ns=times, raw=raw, after_ns=times)
    serve = Window(name="serve", start_ns=S, end_ns=7200 * S)
    svg = power_svg(a_capture(series=(power,), windows=(serve,)))
    assert "up to 90 W" in svg
    assert len(heights(svg)) < 4000
    assert len(set(heights(svg))) == 2


def test_a_counter_read_twice_between_its_ticks_has_the_same_steady_power() -> None:
    """Renewed every 0.1 s, read just before and just after each time."""
    counter = a_counter()
    before = tuple(t - S // 1000 for t in counter.before_ns[1:])
    rows = sorted(
        [*zip(counter.before_ns, counter.raw, strict=True),
         *zip(before, counter.raw[:-1], strict=True)]
    )  # fmt: skip
    times, raw = zip(*rows, strict=True)
    dense = dataclasses.replace(counter, before_ns=times, raw=raw, after_ns=times)
    assert len(set(heights(power_svg(a_capture(series=(dense,)))))) == 1
