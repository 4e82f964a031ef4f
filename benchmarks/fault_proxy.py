"""A proxy before an HTTP server that lets requests fail; shared by `proxy_faults.py` and tests.

with FaultProxy("http://127.0.0.1:5000", lambda path: "503") as proxy:
    ...  # tracking.uri=proxy.uri
"""

from __future__ import annotations

import contextlib
import http.server
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Literal, Self, get_args

Fault = Literal[
    "drop before",
    "drop after",
    "late request",
    "late answer",
    "truncated",
    "401",
    "429",
    "500",
    "503",
    "503 after",
    "HTML",
]
"""What happens to a request. "Before" and "after" it has reached the server: the connection is
closed or an error is answered; "late request": it reaches the server when the client's connection
is closed; "late answer": the answer comes when the client has given up; "truncated": half of it
comes; "HTML": the page of a portal comes instead."""

FAULTS: tuple[Fault, ...] = get_args(Fault)
_PAGE = b"<html><body>Please log in</body></html>"


class FaultProxy(http.server.ThreadingHTTPServer):
    """The proxy; it listens on loopback for as long as its block lasts.

    Args:
        server: URI of the server behind it.
        choose: the fault of the next request to a path, None for none; called by one thread at a
            time.
        late_s: how late "late" is; for answers, the client's time-out must be shorter.

    Attributes:
        done: each fault, and the path of its request.
    """

    def __init__(
        self, server: str, choose: Callable[[str], Fault | None], late_s: float = 1.5
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Exchange)
        self.behind, self.late_s = server, late_s
        self.done: list[tuple[Fault, str]] = []
        self._choose, self._lock = choose, threading.Lock()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,))

    @property
    def uri(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> Self:
        """Listen."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop, when the last request was answered."""
        self.shutdown()
        self._thread.join()
        self.server_close()

    def next(self, path: str) -> Fault | None:
        """The fault of a request, which counts as done."""
        with self._lock:
            fault = self._choose(path)
            if fault is not None:
                self.done.append((fault, path))
            return fault


class _Exchange(http.server.BaseHTTPRequestHandler):
    """One request."""

    server: FaultProxy
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = self.server.next(self.path)
        if fault == "drop before":
            self.close_connection = True
        elif fault in ("401", "429", "500", "503"):
            self._answer(int(fault), "text/html", f"<html>{fault}</html>".encode())
        elif fault == "HTML":
            self._answer(200, "text/html", _PAGE)
        else:
            with contextlib.suppress(ConnectionError):  # the client has left
                self._forward(body, fault)

    do_GET = do_PUT = do_PATCH = do_DELETE = do_POST

    def _forward(self, body: bytes, fault: Fault | None) -> None:
        if fault == "late request":
            self.connection.shutdown(socket.SHUT_RDWR)
            time.sleep(self.server.late_s)
        request = urllib.request.Request(self.server.behind + self.path, body, method=self.command)
        request.add_header("Content-Type", self.headers.get("Content-Type", ""))
        try:
            with urllib.request.urlopen(request) as answer:
                status, kind, content = answer.status, answer.headers["Content-Type"], answer.read()
        except urllib.error.HTTPError as error:
            status, kind, content = error.code, error.headers["Content-Type"], error.read()
        if fault == "late answer":
            time.sleep(self.server.late_s)
        if fault in ("drop after", "late request", "late answer"):
            self.close_connection = True
        elif fault == "503 after":
            self._answer(503, "text/html", b"<html>503</html>")
        else:
            self._answer(status, kind, content, half=fault == "truncated")

    def _answer(self, status: int, kind: str, content: bytes, *, half: bool = False) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind or "application/octet-stream")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if half else content)
        self.close_connection = self.close_connection or half

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""
