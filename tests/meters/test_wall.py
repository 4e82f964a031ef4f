"""A wall meter, over real HTTP on loopback."""

import dataclasses
import re
import socket
import time

import pytest

from slm_energy.config.groups import MeasurementConfig, WallMeterConfig
from slm_energy.derive.energy.accounting import account
from slm_energy.errors import ConfigError
from slm_energy.meters.base import ReadFailed
from slm_energy.meters.wall import open_wall
from slm_energy.record import Series, Window
from slm_energy.testing.wall import NETRC, PASSWORD, FakeWallMeter
from slm_energy.testing.waveform import Waveform, constant
from tests.metering import sources

SHORT_S = 0.3


@pytest.fixture
def wall():
    with FakeWallMeter(constant(64.4)) as wall:
        yield wall


@pytest.fixture
def opened():
    meters = []

    def on(config):
        result = open_wall(MeasurementConfig(name="test", wall_meter=config))
        meters.append(result.meter)
        return result

    yield on
    for meter in meters:
        if meter:
            meter.close()


def note(opened):
    assert opened.meter is None
    (text,) = opened.notes
    assert "\n" not in text
    return text


def test_without_a_wall_meter_there_is_nothing_to_say(opened):
    assert opened(None).notes == ()


@pytest.mark.parametrize(
    ("shape", "power_mw", "step_mj"),
    [("netio", 64_000, 3_600_000), ("shelly", 64_400, 3_600), ("tasmota", 64_000, 3_600_000)],
)
def test_each_shape_tells_power_and_energy(opened, shape, power_mw, step_mj):
    day_ago = dataclasses.replace(constant(64.4), start_ns=time.monotonic_ns() - 86_400 * 10**9)
    with FakeWallMeter(day_ago, shape=shape) as wall:
        power, energy = opened(wall.config("power")).meter, opened(wall.config("energy")).meter
        assert power.read() == power_mw
        counted_mj, truth_mj = energy.read(), day_ago.energy_pj(time.monotonic_ns()) // 10**9
    assert counted_mj % step_mj == 0
    assert 0 <= truth_mj - counted_mj <= step_mj + 64.4 * 1000


def test_the_source_says_what_is_known_of_the_meter(opened, wall):
    (power,) = sources(opened(wall.config("power", gain_pct=0.5, period_s=2.0)).meter)
    (energy,) = sources(opened(wall.config("energy")).meter)
    assert (power.id, power.kind, power.domain, power.unit) == ("wall/power", "power", "wall", "mW")
    assert (power.update_period_ns, power.averaging_ns, power.gain_pct) == (
        2 * 10**9,
        2 * 10**9,
        0.5,
    )
    assert (energy.id, energy.kind, energy.domain, energy.unit) == (
        *("wall/energy", "counter", "wall", "mJ"),
    )
    assert energy.modulus is None
    assert energy.averaging_ns == 0
    assert not power.summed
    assert not energy.summed


@pytest.mark.parametrize(("shape", "resolution_mj"), [("netio", 3.6e6), ("shelly", 3.6e3)])
def test_the_resolution_is_the_last_digit_that_is_printed(opened, shape, resolution_mj):
    waveform = Waveform(steps=((10**9, 60_123_457),), start_ns=time.monotonic_ns() - 7 * 10**9)
    with FakeWallMeter(waveform, shape=shape) as wall:
        (energy,) = sources(opened(wall.config("energy")).meter)
    assert energy.resolution >= resolution_mj
    assert energy.resolution in {resolution_mj, resolution_mj * 10, resolution_mj * 100}


@pytest.mark.parametrize("shape", ["netio", "tasmota", "shelly"])
def test_energy_is_rounded_down_to_the_steps_of_the_meter(opened, shape):
    with FakeWallMeter(constant(60), shape=shape) as wall:
        (energy,) = sources(opened(wall.config("energy")).meter)
        (power,) = sources(opened(wall.config("power")).meter)
    assert energy.quantum == energy.resolution > 1
    assert power.quantum == 1


@pytest.mark.parametrize(
    ("lag_s", "expected_s"), [(None, (1.5, 1.5)), (0.0, (0.0, 0.5)), (2.0, (2.0, 0.5))]
)
def test_a_meter_may_be_late(opened, lag_s, expected_s):
    with FakeWallMeter(constant(60)) as wall:
        (power,) = sources(opened(wall.config("power", lag_s=lag_s, period_s=1.0)).meter)
    assert (power.lag_ns / 1e9, power.lag_error_ns / 1e9) == expected_s


def sampled(meter, readings, between=lambda count: None):
    """Readings every 20 ms."""
    rows = []
    for count in range(readings):
        before = time.monotonic_ns()
        rows.append((before, meter.read(), time.monotonic_ns()))
        time.sleep(0.02)
        between(count)
    before, raw, after = zip(*rows, strict=True)
    return Series(source=meter.channels[0].source, before_ns=before, raw=raw, after_ns=after)


@pytest.mark.parametrize("quantity", ["power", "energy"])
def test_its_joules_are_those_of_the_waveform(opened, quantity):
    waveform = Waveform(steps=((200_000_000, 40_000), (100_000_000, 100_000)))
    with FakeWallMeter(waveform, period_s=0.05) as wall:
        series = sampled(opened(wall.config(quantity)).meter, 70)
    window = Window(name="serve", start_ns=series.after_ns[10], end_ns=series.before_ns[60])
    figure = account(series, window, max_gap_ns=10**9)
    truth = waveform.joules(window.start_ns, window.end_ns)
    assert figure.low_j <= truth <= figure.high_j
    assert figure.joules == pytest.approx(truth, rel=0.12)


def test_a_counter_that_was_reset_gives_no_joules(opened):
    waveform = dataclasses.replace(constant(3600), start_ns=time.monotonic_ns() - 10**11)
    with FakeWallMeter(waveform, period_s=0.05) as wall:
        meter = opened(wall.config("energy")).meter
        series = sampled(meter, 40, lambda count: wall.reset() if count == 20 else None)
    window = Window(name="serve", start_ns=series.after_ns[10], end_ns=series.before_ns[30])
    figure = account(series, window, max_gap_ns=10**9)
    assert figure.joules is None
    assert "the counter went from" in figure.reasons[0]


BROKEN = {
    "silent": f"gave no complete response within measurement.wall_meter.timeout_s={SHORT_S}",
    "dripping": f"gave no complete response within measurement.wall_meter.timeout_s={SHORT_S}",
    "html": "returns HTML that is not JSON: check measurement.wall_meter.url",
    "garbage": "returns something that is not JSON: check measurement.wall_meter.url",
    "error": "returns HTTP 500: check measurement.wall_meter.url",
    "redirect": "returns HTTP 302: give the final address in measurement.wall_meter.url",
    "endless": "returns more than 65536 bytes: check measurement.wall_meter.url",
    "missing": "measurement.wall_meter.path=apower: the response has no 'apower' there, but id",
    "text": "measurement.wall_meter.path=apower is not a number: 'offline'",
    "negative": "reports -5 W, which no machine uses: check measurement.wall_meter.unit and path",
    "nan": "reports NaN W, which no machine uses: check measurement.wall_meter.unit and path",
    "zero": "reports 0 W, which no machine uses: check measurement.wall_meter.unit and path",
    "thousandfold": "reports 64400.0 W, which no machine uses: check measurement.wall_meter.unit",
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_answer_is_one_clear_line_at_opening_and_a_gap_later(opened, wall, fault):
    config = wall.config("power", timeout_s=SHORT_S)
    meter = opened(config).meter
    wall.fault = fault
    assert BROKEN[fault] in note(opened(config))
    with pytest.raises(ReadFailed, match=re.escape(BROKEN[fault])):
        meter.read()
    wall.fault = None
    assert meter.read() == 64_400


@pytest.mark.parametrize(
    ("fault", "text"), [("text", "not a number"), ("negative", "no machine"), ("nan", "no machine")]
)
def test_a_broken_counter_is_not_read_either(opened, wall, fault, text):
    wall.fault = fault
    assert text in note(opened(wall.config("energy")))


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("aenergy", "is not a number: total, minute_ts"),
        ("output", "is not a number: True"),
        ("aenergy.0", "has no '0' there, but total, minute_ts"),
        ("apower.W", "has no 'W' there, but Decimal('64.4')"),
        ("", "has no '' there, but id, output, apower, aenergy"),
    ],
)
def test_a_path_that_leads_nowhere_says_what_is_there(opened, wall, path, text):
    assert text in note(opened(wall.config("power", path=path)))


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 60_000,
        b"\xff\xfe",
        b'{"apower": 1e999999999}',
        b'{"apower": 0e-999999999}',
        b'{"apower": ' + b"9" * 9000 + b"}",
    ],
)
def test_a_hostile_answer_is_refused(opened, wall, body):
    wall.body = lambda: body
    assert "check measurement.wall_meter" in note(opened(wall.config("power")))


def test_an_energy_of_zero_with_a_strange_exponent_is_zero(opened, wall):
    wall.body = lambda: b'{"aenergy": {"total": 0e-999999999}}'
    assert opened(wall.config("energy")).meter.read() == 0


def test_nobody_there(opened):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/?key=secret"
        text = note(opened(WallMeterConfig(url=url, path="a", unit="W")))
    assert "cannot be reached (Connection refused): check measurement.wall_meter.url" in text
    assert "secret" not in text


@pytest.mark.parametrize("url", ["192.168.0.7/json", "file:///etc/passwd", "http://", "http://[1"])
def test_what_is_no_address(opened, url):
    text = note(opened(WallMeterConfig(url=url, path="a", unit="W")))
    assert text == (
        "wall: measurement.wall_meter.url is not an address: it begins with http:// or https://"
    )


@pytest.mark.parametrize(
    ("login", "refused"),
    [
        ("basic", "returns HTTP 401: write `machine HOST login USER password PASSWORD` into"),
        ("digest", "returns HTTP 401: write `machine HOST login USER password PASSWORD` into"),
        ("query", "the response has no 'apower' there, but WARNING"),
    ],
)
def test_user_name_and_password_stand_in_netrc_and_nowhere_else(
    opened, login, refused, tmp_path, monkeypatch
):
    netrc = tmp_path / "netrc"
    monkeypatch.setenv("NETRC", str(netrc))
    with FakeWallMeter(constant(64.4), login=login) as wall:
        assert refused in note(opened(wall.config("power")))
        netrc.write_text(NETRC)
        found = opened(wall.config("power"))
        assert found.meter.read() == 64_400
        shown = f"{found.notes} {sources(found.meter)}"
        netrc.write_text(NETRC.replace(PASSWORD, "wrong"))
        failure = note(opened(wall.config("power")))
    for secret in (PASSWORD, "se%3Acr%25et", "id=0", "wrong"):
        assert secret not in shown + failure
    assert refused in failure


@pytest.mark.parametrize("url", ["http://meter:secret@127.0.0.1/", "http://h/?password=secret"])
def test_a_configuration_with_a_password_is_refused(url):
    with pytest.raises(ConfigError, match=r"into ~/\.netrc$") as raised:
        WallMeterConfig(url=url, path="a", unit="W")
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("offset_s", [0.0, 3600.0, -42.0])
def test_the_clocks_are_compared_at_opening(opened, wall, offset_s):
    wall.clock_offset_s = offset_s
    (text,) = opened(wall.config("power")).notes
    told = re.search(
        r"responds in ([\d.]+) ms; its clock differs from ours by ([+-][\d.]+) s,"
        r" give or take ([\d.]+) s",
        text,
    )
    round_trip_ms, offset, unsure = map(float, told.groups())
    assert abs(offset - offset_s) <= unsure + 0.01
    assert unsure == pytest.approx(0.5 + round_trip_ms / 2000, abs=0.01)


def test_a_device_without_a_clock_says_so(opened, wall):
    wall.clock_offset_s = None
    assert opened(wall.config("power")).notes[0].endswith("it reports no time")


def test_the_meter_is_slow_so_that_it_delays_no_other(opened, wall):
    assert opened(wall.config("power")).meter.slow
