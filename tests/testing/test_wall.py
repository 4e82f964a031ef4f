"""The shipped wall meter, asked over plain HTTP."""

import dataclasses
import http.client
import json
import time
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import pytest

from slm_energy.testing.wall import FakeWallMeter
from slm_energy.testing.waveform import Waveform, constant


def ask(wall):
    url = urlsplit(wall.config("power").url)
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=5)
    try:
        connection.request("GET", f"{url.path}?{url.query}")
        response = connection.getresponse()
        return response, response.read()
    finally:
        connection.close()


def test_it_answers_json_with_its_time():
    with FakeWallMeter(constant(60), clock_offset_s=120) as wall:
        response, body = ask(wall)
    assert response.status == 200
    assert json.loads(body)["apower"] == 60.0
    told_s = parsedate_to_datetime(response.getheader("Date")).timestamp()
    assert told_s - time.time() == pytest.approx(120, abs=2)


def test_values_change_only_once_per_period():
    fast = Waveform(steps=((1_000_000, 10_000), (1_700_000, 90_000)))
    with FakeWallMeter(fast, period_s=3600) as wall:
        answers = {ask(wall)[1] for _ in range(5)}
    assert len(answers) == 1


def test_power_is_the_mean_over_the_period():
    waveform = Waveform(steps=((250_000_000, 40_000), (250_000_000, 80_000)))
    with FakeWallMeter(waveform, period_s=0.5) as wall:
        assert json.loads(ask(wall)[1])["apower"] == 60.0


@pytest.mark.parametrize(("shape", "digits"), [("netio", 12), ("tasmota", 0.012)])
def test_energy_is_counted_in_whole_watt_hours(shape, digits):
    start_ns = time.monotonic_ns() - int(12.9 * 3600e9 / 60)
    with FakeWallMeter(dataclasses.replace(constant(60), start_ns=start_ns), shape=shape) as wall:
        answer = json.loads(ask(wall)[1])
    place = answer["Outputs"][0] if shape == "netio" else answer["StatusSNS"]["ENERGY"]
    assert digits in place.values()


@pytest.mark.parametrize("login", ["basic", "digest"])
def test_it_lets_nobody_in_without_the_password(login):
    with FakeWallMeter(constant(60), login=login) as wall:
        response, body = ask(wall)
    assert (response.status, body) == (401, b"")
    assert response.getheader("WWW-Authenticate").lower().startswith(login)


def test_it_ends_although_a_client_still_waits_for_an_answer():
    with FakeWallMeter(constant(60)) as wall:
        wall.fault = "silent"
        url = urlsplit(wall.config("power").url)
        connection = http.client.HTTPConnection(url.hostname, url.port, timeout=5)
        connection.request("GET", url.path)
    connection.close()
