"""A wall meter, over real HTTP on loopback."""

import dataclasses
import datetime
import ipaddress
import itertools
import re
import socket
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from slm_energy.config.groups import MeasurementConfig, WallMeterConfig
from slm_energy.derive.energy.accounting import account
from slm_energy.errors import ConfigError
from slm_energy.meters.base import ReadFailed
from slm_energy.meters.wall import open_wall
from slm_energy.record import Series, Window
from slm_energy.redaction import WALL_TOKEN
from slm_energy.testing.wall import NETRC, PASSWORD, TOKEN, FakeWallMeter
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
    [
        ("netio", 64_000, 3_600_000),
        ("shelly", 64_400, 3_600),
        ("shelly_gen1", 64_400, 60_000),
        ("tasmota", 64_000, 3_600_000),
        ("home_assistant", 64_400, 36_000),
        ("prometheus", 64_400, 1_000),
        ("redfish", 64_000, 3_600_000),
    ],
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
    assert power.resolution == 100
    assert energy.modulus is None
    assert energy.averaging_ns == 0
    assert not power.summed
    assert not energy.summed


def test_the_step_is_learnt_from_values_and_not_from_digits(opened):
    """Three decimals of a kWh are a float32 that is printed in full; 12 kW make a step in 0.3 s."""
    busy = dataclasses.replace(constant(12_000), start_ns=time.monotonic_ns() - 3600 * 10**9)
    with FakeWallMeter(busy, shape="tasmota", float32=True, period_s=0.3) as wall:
        (energy,) = sources(opened(wall.config("energy")).meter)
    assert 3_600_000 <= energy.quantum <= 3_700_000
    assert energy.resolution == energy.quantum


@pytest.mark.parametrize(
    ("shape", "step_mj", "idle_w"),
    [("netio", 3_600_000, 64.0), ("tasmota", 3_600_000, 64.0), ("shelly_gen1", 60_000, 64.4)],
)
def test_a_counter_that_did_not_move_has_at_least_its_printed_step(opened, shape, step_mj, idle_w):
    """At 123.456 Wh: a number in JSON would drop a zero at the end, and the step look larger."""
    counted_ns = round(123.456 * 3600 / 64.4 * 1e9)
    used = dataclasses.replace(constant(64.4), start_ns=time.monotonic_ns() - counted_ns)
    with FakeWallMeter(used, shape=shape, period_s=0.01) as wall:
        found = opened(wall.config("energy"))
    (energy,) = sources(found.meter)
    assert energy.quantum == step_mj
    assert energy.idle_w == pytest.approx(idle_w)
    assert found.notes[1] == (
        f"wall: it counts in steps of {step_mj // 1000:,} J or more: one takes"
        f" {step_mj / 1e3 / idle_w:.3g} s at {idle_w:.3g} W"
    )


def test_idle_power_is_that_of_the_counter_where_there_is_none_beside_it(opened):
    with FakeWallMeter(constant(3000), shape="prometheus", period_s=0.1) as wall:
        (energy,) = sources(opened(wall.config("energy")).meter)
    assert energy.idle_w == pytest.approx(3000, rel=0.5)


def test_without_any_power_a_note_asks_for_it(opened):
    with FakeWallMeter(constant(64.4), shape="home_assistant", period_s=0.01) as wall:
        found = opened(wall.config("energy"))
    assert sources(found.meter)[0].idle_w is None
    assert found.notes[1].endswith("is unknown, measurement.wall_meter.power_path tells the power")


WRONG_UNITS = [
    ("shelly_gen1", "Wh", "60 times the energy of the power beside it: it is likely to be Wmin"),
    ("shelly", "Wmin", "1/60 of the energy of the power beside it: it is likely to be Wh"),
    ("shelly", "kWh", "1,000 times the energy of the power beside it: it is likely to be Wh"),
    ("shelly", "J", "1/3,600 of the energy of the power beside it: it is likely to be Wh"),
]


@pytest.mark.parametrize(("shape", "unit", "text"), WRONG_UNITS)
def test_a_unit_that_contradicts_the_power_beside_it_is_refused(opened, shape, unit, text):
    with FakeWallMeter(constant(6000), shape=shape, period_s=0.1) as wall:
        found = note(opened(wall.config("energy", unit=unit)))
    ratio, _, rest = text.partition(" the energy")
    assert found.startswith(f"wall: measurement.wall_meter.unit={unit} gives ")
    assert found.endswith(rest)
    seen = re.search(r"gives (1/)?([\d.,e+]+) ", found)
    expected = re.fullmatch(r"(1/)?([\d,]+) .*", ratio)
    assert seen[1] == expected[1]
    number = float(seen[2].replace(",", ""))
    assert number == pytest.approx(float(expected[2].replace(",", "")), rel=0.5)


def test_a_power_that_is_named_is_compared_too(opened):
    with FakeWallMeter(constant(6000), shape="redfish", period_s=0.1, float32=False) as wall:
        right = wall.config("energy", power_path="PowerWatts.Reading")
        assert opened(right).meter is not None
        missing = note(opened(dataclasses.replace(right, power_path="PowerWatts.Watts")))
    assert "measurement.wall_meter.power_path=PowerWatts.Watts: the response has no" in missing


def test_one_bad_response_while_a_counter_is_watched_does_not_lose_the_meter(opened):
    with FakeWallMeter(constant(6000), period_s=0.05) as wall:
        body, number = wall.body, itertools.count(1)
        wall.body = lambda file: b"{" if next(number) == 3 else body(file)
        assert opened(wall.config("energy")).meter is not None
    assert next(number) > 4


def test_a_contradiction_that_shows_only_later_ends_the_readings(opened):
    """While it is opened it does not move."""
    with FakeWallMeter(constant(3), shape="shelly_gen1", period_s=0.02) as wall:
        wall.body = lambda file: b'{"meters": [{"power": 3.0, "total": 7}]}'
        meter = opened(wall.config("energy", unit="Wh")).meter
        assert meter.read() == 7 * 3_600_000
        count = iter(range(8, 20))
        wall.body = lambda file: b'{"meters": [{"power": 3.0, "total": %d}]}' % next(count)
        assert tuple(sampled(meter, 2).raw) == (8 * 3_600_000, 9 * 3_600_000)
        for _ in range(2):
            with pytest.raises(ReadFailed, match="unit=Wh gives"):
                meter.read()


def test_home_assistant_states_its_unit(opened):
    with FakeWallMeter(constant(64.4), shape="home_assistant") as wall:
        text = note(opened(wall.config("energy", unit="Wh")))
    assert text.endswith("states the unit kWh: set measurement.wall_meter.unit=kWh")


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
    ("printed", "power_mw"),
    [("64.4", 64_400), ("64", 64_000), ("6.44e1", 64_400), (".5", 500), ("0.5", 500)],
)
def test_a_number_may_be_quoted(opened, wall, printed, power_mw):
    wall.body = lambda file: b'{"apower": "%s"}' % printed.encode()
    assert opened(wall.config("power")).meter.read() == power_mw


@pytest.mark.parametrize(
    "printed", ["unavailable", "unknown", "", "NaN", "inf", "0x40", "6_4", "64 W", "6,4", "--64"]
)
def test_a_quoted_text_is_no_number(opened, wall, printed):
    wall.body = lambda file: b'{"apower": "%s"}' % printed.encode()
    assert f"path=apower is not a number: {printed!r}" in note(opened(wall.config("power")))


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
    wall.body = lambda file: body
    assert "check measurement.wall_meter" in note(opened(wall.config("power")))


def test_an_energy_of_zero_with_a_strange_exponent_is_zero(opened, wall):
    wall.body = lambda file: b'{"aenergy": {"total": 0e-999999999}}'
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


@pytest.mark.parametrize("place", ["variable", "netrc"])
def test_a_token_stands_in_the_environment_or_in_netrc_and_nowhere_else(
    opened, place, tmp_path, monkeypatch
):
    netrc = tmp_path / "netrc"
    monkeypatch.setenv("NETRC", str(netrc))
    with FakeWallMeter(constant(64.4), shape="home_assistant", login="bearer") as wall:
        refused = note(opened(wall.config("power")))
        if place == "variable":
            monkeypatch.setenv(WALL_TOKEN, f"{TOKEN}\n")
        else:
            netrc.write_text(f"machine 127.0.0.1 login bearer password {TOKEN}\n")
        found = opened(wall.config("power"))
        assert found.meter.read() == 64_400
        monkeypatch.setenv(WALL_TOKEN, "wrong-token")
        failure = note(opened(wall.config("power")))
    assert "returns HTTP 401: write `machine HOST login USER" in refused
    assert f"a token is the variable {WALL_TOKEN}, or the password of the login `bearer`" in refused
    for secret in (TOKEN, "wrong-token"):
        assert secret not in f"{found.notes} {sources(found.meter)} {failure}"


def test_a_token_that_is_no_plain_text_is_refused_without_being_shown(opened, wall, monkeypatch):
    monkeypatch.setenv(WALL_TOKEN, "se\ncret")
    assert note(opened(wall.config("power"))) == (
        f"wall: the token in {WALL_TOKEN} or ~/.netrc is not plain text"
    )


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate that a device made for its own address, with its key."""
    folder = tmp_path_factory.mktemp("certificate")
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a plug")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), False)
        .sign(key, hashes.SHA256())
    )
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    (folder / "public.pem").write_bytes(made.public_bytes(pem))
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
    (folder / "both.pem").write_bytes(made.public_bytes(pem) + private)
    return folder


def test_a_certificate_of_ones_own_is_verified_with_its_file(opened, certificate):
    both, public = certificate / "both.pem", certificate / "public.pem"
    with FakeWallMeter(constant(64.4), shape="redfish", certificate=both) as wall:
        unknown = note(opened(wall.config("power")))
        assert opened(wall.config("power", ca_file=str(public))).meter.read() == 64_000
    assert "its certificate cannot be verified (self" in unknown
    assert unknown.endswith("give it, or that of its authority, in measurement.wall_meter.ca_file")


@pytest.mark.parametrize(
    ("content", "why"), [(None, "No such file or directory"), ("nonsense", "not in PEM format")]
)
def test_a_file_without_a_certificate_is_named(opened, wall, tmp_path, content, why):
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    assert note(opened(wall.config("power", ca_file=str(file)))) == (
        f"wall: measurement.wall_meter.ca_file={file} holds no certificate: {why}"
    )


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
