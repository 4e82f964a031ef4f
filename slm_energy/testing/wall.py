"""A wall meter on loopback: a real HTTP server whose answers follow a waveform.

    with FakeWallMeter(constant(60), shape="shelly") as wall:
        ...  # measurement.wall_meter=wall.config("power")

It responds as the devices in `wall_shapes.py` do, in their units and steps.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import ssl
import struct
import threading
import time
from collections.abc import Callable
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

from slm_energy.config.groups import WallMeterConfig
from slm_energy.testing.wall_shapes import SHAPES, Quantity, Shape
from slm_energy.testing.waveform import Waveform
from slm_energy.wall_units import SCALES

Login = Literal["basic", "digest", "query", "bearer"]
BrokenAnswer = Literal[
    "silent", "dripping", "html", "error", "redirect", "endless", "garbage", "missing"
]
BrokenValue = Literal["text", "negative", "nan", "zero", "thousandfold"]

USER, PASSWORD = "meter", "se:cr%et"
TOKEN = "to.ke-n_1"
NETRC = f"machine 127.0.0.1 login {USER} password {PASSWORD}\n"
"""Required content of ~/.netrc, or of the file named by the variable NETRC."""

_QUERY = "user=meter&password=se%3Acr%25et"

_NONCE = "60dc2a67"
_BREAK: dict[str | None, Callable[[float], Any]] = {
    "text": lambda value: "offline",
    "negative": lambda value: -5,
    "nan": lambda value: float("nan"),
    "zero": lambda value: 0,
    "thousandfold": lambda value: value * 1000,
}


class FakeWallMeter:
    """The device; serves while it is entered. `fault` may be set at any time.

    Args:
        waveform: power of the metered machine.
        shape: device whose responses it imitates.
        period_s: update period of its values; power is the mean over this time.
        clock_offset_s: lead of its clock over ours; None: it sends no time.
        login: how it requires `USER` and `PASSWORD`, or `TOKEN`; `query` is Tasmota's way.
        float32: its energy is a float32 that is printed in full.
        certificate: file with the certificate and key in PEM format that it uses for https.
    """

    def __init__(
        self,
        waveform: Waveform,
        *,
        shape: Shape = "shelly",
        period_s: float = 0.1,
        clock_offset_s: float | None = 0.0,
        login: Login | None = None,
        float32: bool = False,
        certificate: Path | None = None,
    ) -> None:
        self.fault: BrokenAnswer | BrokenValue | None = None
        self.login = login
        self.clock_offset_s = clock_offset_s
        self.stopped = threading.Event()
        self._waveform = waveform
        self._shape = SHAPES[shape]
        self._period_ns = round(period_s * 1e9)
        self._shift_pj = 0
        self._float32 = float32
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._scheme = "http"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
            self._scheme = "https"
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> FakeWallMeter:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def config(self, quantity: Quantity, **changes: Any) -> WallMeterConfig:
        """Configuration for reading it."""
        path, unit = self._shape.paths[quantity]
        address = f"127.0.0.1:{self._server.server_port}{self._shape.files[quantity]}"
        url = f"{self._scheme}://{address}"
        if self.login == "query":
            url += f"{'&' if '?' in url else '?'}user=&password="
        values: dict[str, Any] = {
            "url": url,
            "path": path,
            "unit": unit,
            "period_s": self._period_ns / 1e9,
            "lag_s": 0.0,
        }
        return WallMeterConfig(**values | changes)

    def reset(self) -> None:
        """Restart the energy counter at zero, as after a power cut."""
        self._shift_pj = -self._waveform.energy_pj(self._published_ns())

    def body(self, file: str = "") -> bytes:
        """Current response; `file` is the requested one, where power and energy have their own."""
        shape, end_ns = self._shape, self._published_ns()
        counted_pj = self._waveform.energy_pj(end_ns)
        period_pj = counted_pj - self._waveform.energy_pj(end_ns - self._period_ns)
        counted_mj = (counted_pj + self._shift_pj) // 10**9
        power = _shown(period_pj // self._period_ns, shape.power_step_mw, SCALES["W"])
        energy = _shown(counted_mj, shape.energy_step_mj, SCALES[shape.paths["energy"][1]])
        if self._float32:
            (energy,) = struct.unpack("f", struct.pack("f", energy))
        alter = _BREAK.get(self.fault, _intact)
        quantity: Quantity = "energy" if file == shape.files["energy"] else "power"
        return json.dumps(shape.answer(quantity, alter(power), alter(energy))).encode()

    def _published_ns(self) -> int:
        return time.monotonic_ns() // self._period_ns * self._period_ns


def _intact(value: float) -> float:
    return value


def _shown(thousandths: int, step: int, unit: int) -> float:
    """Round down to whole steps; an integer if a step is the unit, as the device prints it."""
    whole = thousandths // step * step
    return whole // unit if step == unit else whole / unit


def _handler(meter: FakeWallMeter) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # header and body are sent separately: it would cost 40 ms

        def do_GET(self) -> None:
            if meter.login == "query" and not self.path.endswith(_QUERY):
                self._say(200, b'{"WARNING": "Need user=<username>&password=<password>"}')
            elif meter.login == "bearer" and not self._has_token():
                self._say(401, b"401: Unauthorized")  # as Home Assistant, without a challenge
            elif meter.login in ("basic", "digest") and not _allowed(
                meter.login, self.headers.get("Authorization", "")
            ):
                self._say(401, b"", {"WWW-Authenticate": _challenge(meter.login)})
            elif meter.fault == "silent":
                meter.stopped.wait()
            elif meter.fault == "dripping":
                self._drip()
            elif meter.fault == "html":
                self._say(200, b"<!DOCTYPE html><title>Log in</title>")
            elif meter.fault == "error":
                self._say(500, b"{}")
            elif meter.fault == "redirect":
                self._say(302, b"", {"Location": "http://192.0.2.1/"})
            elif meter.fault == "endless":
                self._say(200, b" " * 1_000_000)
            elif meter.fault == "garbage":
                self._say(200, b'{"apower": 6')
            elif meter.fault == "missing":
                self._say(200, b'{"id": 0, "temperature": {"tC": 41}}')
            else:
                self._say(200, meter.body(self.path))

        def _has_token(self) -> bool:
            return self.headers.get("Authorization") == f"Bearer {TOKEN}"

        def _say(self, status: int, body: bytes, more: dict[str, str] | None = None) -> None:
            headers = {"Content-Length": str(len(body))} | (more or {})
            if meter.clock_offset_s is not None:
                headers["Date"] = formatdate(time.time() + meter.clock_offset_s, usegmt=True)
            self.send_response_only(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def _drip(self) -> None:
            self._say(200, b"", {"Content-Length": "1000"})
            while not meter.stopped.wait(0.05):
                self.wfile.write(b" ")

        def log_message(self, format: str, *args: Any) -> None:
            """Log nothing."""

        def handle(self) -> None:
            """Ignore clients that disconnect early."""
            with contextlib.suppress(ConnectionError):
                super().handle()

    return Handler


def _challenge(login: Login) -> str:
    if login == "basic":
        return 'Basic realm="meter"'
    return f'Digest realm="meter", qop="auth", algorithm=SHA-256, nonce="{_NONCE}"'


def _allowed(login: Login, authorization: str) -> bool:
    if login == "basic":
        credentials = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        return authorization == f"Basic {credentials}"
    fields = dict(re.findall(r'(\w+)="?([^",]*)"?', authorization))
    if fields.get("username") != USER:
        return False
    secret, request = _hash(f"{USER}:meter:{PASSWORD}"), _hash(f"GET:{fields['uri']}")
    nonces = f"{_NONCE}:{fields['nc']}:{fields['cnonce']}:{fields['qop']}"
    return bool(fields["response"] == _hash(f"{secret}:{nonces}:{request}"))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
