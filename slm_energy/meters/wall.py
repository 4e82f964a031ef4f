"""A meter between the wall and the machine that is read over HTTP as JSON.

Power (W) or energy counted so far (Wh), anywhere in the response: a NETIO PowerBOX, a Shelly or
Tasmota plug, or any device with such a response. It is queried directly: no proxy, no redirection,
no response above 64 KiB. User name and password come from ~/.netrc, as with curl; no note, error or
record contains them.
"""

from __future__ import annotations

import json
import math
import re
import time
from datetime import UTC
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote, urlsplit

import requests
from requests.auth import HTTPDigestAuth
from requests.utils import get_netrc_auth
from urllib3.exceptions import HTTPError

from slm_energy.config.groups import MeasurementConfig, WallMeterConfig
from slm_energy.errors import one_line
from slm_energy.meters.accuracy import WALL_LAG_S
from slm_energy.meters.base import Channel, Opened, ReadFailed
from slm_energy.record import Source

MAX_POWER_MW = Decimal(20_000_000)
"""More than any socket supplies."""

MIN_POWER_MW = Decimal(500)
"""Less than any running machine draws."""

_MAX_MJ = Decimal(10**17)
_MAX_BYTES = 65_536
_SCALES = {"W": 10**3, "mW": 1, "Wh": 3_600_000, "kWh": 3_600_000_000, "J": 10**3}
"""Unit of the response to mW, or to mJ."""

_KEY = "measurement.wall_meter"


class WallMeter:
    """One value of one device: power or energy at the wall.

    Attributes:
        slow: True: a reading crosses a network.

    Raises:
        ReadFailed: it gives no plausible value.
    """

    slow = True

    def __init__(self, config: WallMeterConfig) -> None:
        self._config = config
        self._power = config.unit in ("W", "mW")
        self._session = requests.Session()
        self._session.trust_env = False  # neither a proxy nor a password from the environment
        self._session.headers["Accept-Encoding"] = "identity"
        self._url, self.where = self._addresses()
        self._log_in()
        before_ns, before_s = time.monotonic_ns(), time.time()
        value, date = self._ask()
        self.round_trip_ms = (time.monotonic_ns() - before_ns) / 1e6
        self.clock = _clock(date, before_s, self.round_trip_ms / 1e3)
        self._raw(value)
        self.channels = (Channel(source=self._describe(value), read=self.read),)

    def watch(self, pid: int) -> None:
        """Do nothing: the meter covers the whole machine."""

    def read(self) -> int:
        """Query the device; mW or mJ.

        Raises:
            ReadFailed: no response, or an impossible value.
        """
        value, _ = self._ask()
        return self._raw(value)

    def close(self) -> None:
        """Close the connection."""
        self._session.close()

    def _addresses(self) -> tuple[str, str]:
        """The URL to request, and the part of it that may be shown."""
        try:
            url = urlsplit(self._config.url)
            valid = url.scheme in ("http", "https") and bool(url.hostname)
        except ValueError:
            valid = False
        if not valid:
            raise ReadFailed(f"{_KEY}.url is not an address: it begins with http:// or https://")
        return url.geturl(), f"{url.scheme}://{url.netloc}{url.path}"

    def _log_in(self) -> None:
        """Authenticate as the device requires: digest, basic, or in the query string."""
        login = get_netrc_auth(self._url)
        if login is None:
            return
        for key, value in zip(("user", "password"), login, strict=True):
            self._url = re.sub(rf"(?<=[?&]{key}=)(?=&|$)", quote(value, safe=""), self._url)
        with self._get() as response:
            scheme = response.headers.get("WWW-Authenticate", "").lower()
        if scheme:
            self._session.auth = HTTPDigestAuth(*login) if scheme.startswith("digest") else login

    def _describe(self, value: Decimal) -> Source:
        period_ns = round(self._config.period_s * 1e9)
        # The last digit that was printed is one step: 1 Wh where there are no decimals.
        step = Decimal(1).scaleb(max(-9, min(0, int(value.as_tuple().exponent))))
        resolution = step * _SCALES[self._config.unit]
        # A latency that was measured is known as well as the meter updates its value.
        lag_s, lag_error_s = self._config.lag_s, self._config.period_s / 2
        if lag_s is None:
            lag_s = lag_error_s = WALL_LAG_S / 2
        return Source(
            id="wall/power" if self._power else "wall/energy",
            kind="power" if self._power else "counter",
            domain="wall",
            unit="mW" if self._power else "mJ",
            update_period_ns=period_ns,
            resolution=float(resolution),
            quantum=1 if self._power else max(1, math.ceil(resolution)),
            averaging_ns=period_ns if self._power else 0,
            gain_pct=self._config.gain_pct,
            lag_ns=round(lag_s * 1e9),
            lag_error_ns=round(lag_error_s * 1e9),
            max_power_w=float(MAX_POWER_MW / 1000),
            device=urlsplit(self.where).netloc,
            path=f"{self.where} {self._config.path}",
        )

    def _ask(self) -> tuple[Decimal, str | None]:
        """The value as it was printed, and the device's own time if the response has it."""
        with self._get() as response:
            if response.status_code != requests.codes.ok:
                raise ReadFailed(self._refused(response.status_code))
            text = self._body(response)
            date = response.headers.get("Date")
        try:
            answer = json.loads(text, parse_float=Decimal, parse_constant=Decimal)
        except (ValueError, RecursionError) as error:
            what = "HTML" if text.lstrip()[:1] == b"<" else "something"
            raise ReadFailed(
                f"{self.where} returns {what} that is not JSON: check {_KEY}.url"
            ) from error
        return self._find(answer), date

    def _get(self) -> requests.Response:
        timeout_s = self._config.timeout_s
        try:
            return self._session.get(
                self._url, timeout=timeout_s, allow_redirects=False, stream=True
            )
        except requests.Timeout as error:
            raise ReadFailed(self._late()) from error
        except requests.RequestException as error:
            # Its own text contains the whole URL.
            raise ReadFailed(
                f"{self.where} cannot be reached ({_cause(error)}): check {_KEY}.url"
            ) from error

    def _body(self, response: requests.Response) -> bytes:
        until, body = time.monotonic() + self._config.timeout_s, b""
        try:
            while chunk := response.raw.read1(_MAX_BYTES):
                body += chunk
                if len(body) > _MAX_BYTES:
                    raise ReadFailed(
                        f"{self.where} returns more than {_MAX_BYTES} bytes: check {_KEY}.url"
                    )
                if time.monotonic() > until:
                    raise ReadFailed(self._late())
        except (OSError, HTTPError) as error:
            raise ReadFailed(self._late()) from error
        return body

    def _late(self) -> str:
        limit = f"{_KEY}.timeout_s={self._config.timeout_s:g}"
        return f"{self.where} gave no complete response within {limit}"

    def _refused(self, status: int) -> str:
        remedy = f"check {_KEY}.url"
        if status in (401, 403):
            remedy = "write `machine HOST login USER password PASSWORD` into ~/.netrc"
        elif 300 <= status < 400:
            remedy = f"give the final address in {_KEY}.url"
        return f"{self.where} returns HTTP {status}: {remedy}"

    def _find(self, answer: Any) -> Decimal:
        value = answer
        for name in self._config.path.split("."):
            if isinstance(value, list) and name.isdecimal() and int(name) < len(value):
                value = value[int(name)]
            elif isinstance(value, dict) and name in value:
                value = value[name]
            else:
                raise ReadFailed(
                    f"{_KEY}.path={self._config.path}: the response has no {name!r} there, but"
                    f" {_inside(value)}"
                )
        if isinstance(value, bool) or not isinstance(value, int | Decimal):
            raise ReadFailed(f"{_KEY}.path={self._config.path} is not a number: {_inside(value)}")
        return Decimal(value)

    def _raw(self, value: Decimal) -> int:
        """In mW or mJ, if it is plausible."""
        low, high = (MIN_POWER_MW, MAX_POWER_MW) if self._power else (Decimal(0), _MAX_MJ)
        scale = _SCALES[self._config.unit]
        # The product is not compared: the exponent of a misread value may be arbitrarily large.
        if not value.is_finite() or not low / scale <= value <= high / scale:
            raise ReadFailed(
                f"{self.where} reports {value:.6g} {self._config.unit}, which no machine uses:"
                f" check {_KEY}.unit and path"
            )
        return round(value * scale)


def open_wall(measurement: MeasurementConfig) -> Opened:
    """Take a first reading of `measurement.wall_meter`, if there is one."""
    if measurement.wall_meter is None:
        return Opened(meter=None)
    try:
        meter = WallMeter(measurement.wall_meter)
    except ReadFailed as failure:
        return Opened(meter=None, notes=(f"wall: {failure}",))
    note = f"wall: {meter.where} responds in {meter.round_trip_ms:.3g} ms; {meter.clock}"
    return Opened(meter=meter, notes=(note,))


def _clock(date: str | None, before_s: float, round_trip_s: float) -> str:
    """The device's clock relative to ours, from the Date header, which has whole seconds."""
    if date is None:
        return "it reports no time"
    try:
        stated = parsedate_to_datetime(date)
    except ValueError:
        return f"it reports a time that cannot be read: {one_line(date, 40)}"
    stated_s = stated.replace(tzinfo=stated.tzinfo or UTC).timestamp() + 0.5
    offset_s, unsure_s = stated_s - before_s - round_trip_s / 2, 0.5 + round_trip_s / 2
    return f"its clock differs from ours by {offset_s:+.2f} s, give or take {unsure_s:.2f} s"


def _cause(error: BaseException) -> str:
    """The operating system's message."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return type(error).__name__


def _inside(value: Any) -> str:
    """Part of the response, shortened."""
    if isinstance(value, dict):
        return one_line(", ".join(value) or "nothing", 100)
    return f"{len(value)} items" if isinstance(value, list) else one_line(repr(value), 60)
