"""Series of readings made from a known waveform, and windows over them."""

from dataclasses import replace

from slm_energy.derive.energy.accounting import account
from slm_energy.record import Series, Source, Window
from slm_energy.testing.waveform import Waveform, stairs

S = 10**9
MS = 10**6
GAP = 1 * S
MODULUS = 262_143_328_851


COUNTER = Source(
    id="rapl/0",
    kind="counter",
    domain="cpu_package",
    unit="uJ",
    modulus=MODULUS,
    update_period_ns=MS,
    max_power_w=2000.0,
    summed=True,
)
SLOW = replace(COUNTER, unit="mJ", modulus=None, update_period_ns=100 * MS, max_power_w=None)
POWER = Source(id="nvml/0/power", kind="power", domain="gpu", unit="mW", summed=True)
GAUGE = Source(id="cpu_utilization_percentage", kind="gauge", domain="cpu", unit="pct")
WINDOW = Window(name="serve", start_ns=1 * S + 37 * MS, end_ns=6 * S + 51 * MS)
BUSY = Waveform(steps=((S, 20_000), (2 * S, 80_000), (S // 2, 45_000)))


def times(step_ns=100 * MS, until_ns=8 * S):
    return range(0, until_ns, step_ns)


def counted(waveform, at, source=COUNTER, first_uj=0):
    """Readings of a counter that is always up to date."""
    raw = [first_uj + waveform.energy_pj(t) // 10**6 for t in at]
    return series(source, at, [value % (source.modulus or value + 1) for value in raw])


def series(source, at, raw, errors=None):
    return Series(
        source=source,
        before_ns=tuple(at),
        raw=tuple(raw),
        after_ns=tuple(at),
        errors=errors or {},
    )


def powered(waveform, at, source=POWER):
    return series(source, at, [waveform.power_mw(t) for t in at])


def followed(waveform, window, *, source=SLOW, ticks_after=3, first_ns=S // 2):
    """Readings 1 ms apart around every tick, as the sampler takes them, and one in between."""
    period_ns = source.update_period_ns
    ticks = range(first_ns, window.end_ns + ticks_after * period_ns + 1, period_ns)
    at = [tick + shift for tick in ticks for shift in (-MS // 2, MS // 2, period_ns // 2)]
    raw = [
        waveform.energy_pj((t - first_ns) // period_ns * period_ns + first_ns) // 10**9 for t in at
    ]
    return series(source, at, raw)


def idle_load_idle(window, idle_mw=60_000, load_mw=300_000):
    levels = [(0, idle_mw), (window.start_ns, load_mw), (window.end_ns, idle_mw)]
    return stairs(levels)


def change(readings, row, raw, error=None):
    values = list(readings.raw)
    values[row] = raw
    return replace(readings, raw=tuple(values), errors={str(row): error} if error else {})


def serve(readings, window=WINDOW):
    return account(readings, window, max_gap_ns=GAP)


def span(start_ns, end_ns):
    return Window(name="serve", start_ns=start_ns, end_ns=end_ns)


def refused(figure):
    assert (figure.joules, figure.low_j, figure.high_j) == (None, None, None)
    (reason,) = figure.reasons
    return reason
