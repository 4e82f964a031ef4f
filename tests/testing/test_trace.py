"""A recorded trace comes back as it was, and can drive the fakes."""

import gzip
import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slm_energy.derive.energy.accounting import account
from slm_energy.errors import MeterError
from slm_energy.record import Series, Source, Window
from slm_energy.testing.powercap import PowercapTree, Zone
from slm_energy.testing.scenes import SCENES, record
from slm_energy.testing.trace import load, save, waveform_of
from slm_energy.testing.waveform import Waveform

S, MS = 10**9, 10**6
RECORDED = Path(__file__).parent.parent / "data" / "synthetic_rapl.jsonl.gz"
UNTIMED = settings(derandomize=True, deadline=None, database=None)
COUNTER = Source(id="rapl/0", kind="counter", domain="cpu_package", unit="uJ", modulus=10**9)
POWER = Source(id="nvml/power", kind="power", domain="gpu", unit="mW")

finite = st.floats(allow_nan=False, allow_infinity=False)
readings = st.tuples(st.integers(0, 2**63), st.none() | st.integers() | finite, st.integers(0))


@st.composite
def a_series(draw):
    rows = draw(st.lists(readings))
    before, raw, took = zip(*rows, strict=True) if rows else ((), (), ())
    return Series(
        source=draw(st.sampled_from([scene.source for scene in SCENES])),
        before_ns=before,
        raw=raw,
        after_ns=tuple(start + cost for start, cost in zip(before, took, strict=True)),
        errors={str(i): draw(st.text()) for i, value in enumerate(raw) if value is None},
    )


def series(source, times, raw):
    return Series(source=source, before_ns=tuple(times), raw=tuple(raw), after_ns=tuple(times))


# --- the file ---------------------------------------------------------------------------------


@UNTIMED
@given(st.lists(a_series(), max_size=3))
def test_what_is_saved_is_loaded(tmp_path_factory, recorded):
    path = tmp_path_factory.mktemp("trace") / "trace.jsonl.gz"
    save(recorded, path)
    loaded = load(path)
    assert loaded == tuple(recorded)
    kinds = [[type(value) for value in one.raw] for one in loaded]
    assert kinds == [[type(value) for value in one.raw] for one in recorded]


def test_the_file_is_small_and_the_same_each_time(tmp_path):
    recorded = [record(SCENES[0], spare=15).series]
    save(recorded, tmp_path / "one")
    save(recorded, tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert (tmp_path / "one").stat().st_size < 15 * len(recorded[0].raw)


def test_the_first_line_says_where_it_comes_from(tmp_path):
    save([], tmp_path / "trace", note="H100, idle")
    with gzip.open(tmp_path / "trace", "rt") as file:
        assert json.loads(file.readline()) == {"trace": 1, "note": "H100, idle"}


def test_a_value_that_is_no_number_is_refused(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        save([series(POWER, [0], [float("nan")])], tmp_path / "trace")


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"not gzip", id="not gzip"),
        pytest.param(gzip.compress(b""), id="empty"),
        pytest.param(gzip.compress(b"no json"), id="no json"),
        pytest.param(gzip.compress(b'{"other": 1}'), id="no trace"),
        pytest.param(gzip.compress(b'{"trace": 1}\n{"source": {}}'), id="no source"),
        pytest.param(gzip.compress(b'{"trace": 1}' * 50)[:-12], id="cut short"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, content):
    path = tmp_path / "trace"
    path.write_bytes(content)
    with pytest.raises(MeterError, match="trace cannot be read as a trace"):
        load(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(MeterError, match="nowhere cannot be read"):
        load(tmp_path / "nowhere")


def test_another_schema_is_refused(tmp_path):
    path = tmp_path / "trace"
    path.write_bytes(gzip.compress(b'{"trace": 99}'))
    with pytest.raises(MeterError, match="has schema 99 and this version reads 1"):
        load(path)


# --- replay -----------------------------------------------------------------------------------


@UNTIMED
@given(
    st.lists(st.tuples(st.integers(MS, S), st.integers(0, 10**8 - 1)), min_size=1, max_size=30),
    st.integers(0, 10**9 - 1),
)
def test_a_counters_waveform_has_the_counters_energy(steps, first_uj):
    times, counted = [0], [0]
    for length_ns, energy_uj in steps:
        times.append(times[-1] + length_ns)
        counted.append(counted[-1] + energy_uj)
    wrapped = [(first_uj + value) % COUNTER.modulus for value in counted]
    waveform = waveform_of(series(COUNTER, times, wrapped))
    assert sum(length for length, _ in waveform.steps) == times[-1]
    slack_uj = max(length for length, _ in waveform.steps) / 2 / 10**6
    for i in range(1, len(counted) - 1):
        if counted[i] != counted[i - 1]:
            energy_uj = waveform.energy_pj(times[i]) / 10**6
            assert energy_uj == pytest.approx(counted[i], rel=0, abs=slack_uj)


def test_between_ticks_of_a_slow_counter_the_power_is_the_mean():
    recorded = series(COUNTER, [0, S, 2 * S, 4 * S], [0, 0, 10_000_000, 40_000_000])
    assert waveform_of(recorded).steps == ((2 * S, 5_000), (2 * S, 15_000))


def test_failed_readings_are_passed_over():
    recorded = series(COUNTER, [0, S, 2 * S], [0, None, 10_000_000])
    assert waveform_of(recorded).steps == ((2 * S, 5_000),)


@pytest.mark.parametrize(("unit", "raw"), [("mW", [70_000, 30_000, 0]), ("W", [70.0, 30.0, 0.0])])
def test_power_holds_until_the_next_reading(unit, raw):
    recorded = series(replace(POWER, unit=unit), [5, 5 + S, 5 + 3 * S], raw)
    waveform = waveform_of(recorded)
    assert waveform == Waveform(steps=((S, 70_000), (2 * S, 30_000)), start_ns=5)


@pytest.mark.parametrize(
    ("source", "raw", "message"),
    [
        (replace(COUNTER, modulus=None), [5, 3], "goes back at 1 ns: cut the trace"),
        (COUNTER, [5], "fewer than two good readings"),
        (COUNTER, [None, None], "fewer than two good readings"),
        (replace(COUNTER, kind="gauge", unit="pct"), [1, 2], "is in pct: no power"),
    ],
)
def test_what_has_no_power_is_refused(source, raw, message):
    with pytest.raises(MeterError, match=message):
        waveform_of(series(source, range(len(raw)), raw))


def test_a_trace_drives_a_fake(tmp_path):
    (package, _) = load(RECORDED)
    waveform = replace(waveform_of(package), start_ns=time.monotonic_ns())
    zone = Zone(folder="intel-rapl:0", name="package-0", waveform=waveform)
    with PowercapTree(tmp_path, [zone]) as tree:
        began_ns, first = time.monotonic_ns(), int(tree.file(zone.folder).read_text())
        time.sleep(0.2)
        counted = int(tree.file(zone.folder).read_text()) - first
        assert 0 < counted <= waveform.joules(began_ns - S, time.monotonic_ns()) * 10**6


# --- the recorded trace -----------------------------------------------------------------------

# What the tree was driven by when tests/data/synthetic_rapl.jsonl.gz was recorded: the sampler read
# it every 100 ms for 10 s, and the package's counter wraps on the way.
PACKAGE = Waveform(steps=((1300 * MS, 45_000), (2100 * MS, 120_000), (400 * MS, 70_000)))
MEMORY = Waveform(steps=((1300 * MS, 4_000), (2500 * MS, 9_000)))


def test_the_recorded_trace_says_that_it_is_synthetic():
    with gzip.open(RECORDED, "rt") as file:
        assert json.loads(file.readline())["note"].startswith("Synthetic")
    assert RECORDED.stat().st_size < 20_000


@pytest.mark.parametrize(("row", "waveform", "wraps"), [(0, PACKAGE, 1), (1, MEMORY, 0)])
def test_the_recorded_trace_is_accounted_right(row, waveform, wraps):
    recorded = load(RECORDED)[row]
    start_ns = recorded.before_ns[0] + S
    window = Window(name="serve", start_ns=start_ns, end_ns=start_ns + 8 * S)
    figure = account(recorded, window, max_gap_ns=S)
    truth_j = waveform.joules(window.start_ns, window.end_ns)
    assert figure.low_j <= truth_j <= figure.high_j
    assert figure.joules == pytest.approx(truth_j, rel=0.01)
    assert figure.pedigree["wraps"] == wraps
