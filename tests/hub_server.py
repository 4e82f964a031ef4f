"""A stand-in for the hub on a loopback port: its API for models, and their files, whole or in part.

It speaks what huggingface_hub 0.36 asks for. Nothing is authenticated but a repository that is
gated says so.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class _Hub(ThreadingHTTPServer):
    def __init__(self, models: dict[str, Path], gated: tuple[str, ...]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.models = models
        self.gated = gated
        self.ranges: list[str] = []
        """The ranges of bytes that were asked for."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: _Hub

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        path = self.path.partition("?")[0].strip("/").removeprefix("api/models/")
        owner, name, *rest = path.split("/")
        folder = self.server.models.get(f"{owner}/{name}")
        if folder is None:
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"}, body=body)
        elif rest[:1] == ["resolve"]:
            self._file(folder / "/".join(rest[2:]), body=body)
        else:
            files = [path for path in sorted(folder.iterdir()) if path.is_file()]
            siblings = [{"rfilename": f.name, "size": f.stat().st_size} for f in files]
            gated = "manual" if f"{owner}/{name}" in self.server.gated else False
            said = {"id": f"{owner}/{name}", "sha": COMMIT, "siblings": siblings, "gated": gated}
            self._send(200, json.dumps(said).encode(), {}, body=body)

    def _file(self, file: Path, *, body: bool) -> None:
        content = file.read_bytes()
        etag = hashlib.sha256(content).hexdigest()
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        asked = self.headers.get("Range")
        if asked is None:
            self._send(200, content, headers, body=body)
            return
        self.server.ranges.append(asked)
        begin = int(asked.removeprefix("bytes=").partition("-")[0])
        headers["Content-Range"] = f"bytes {begin}-{len(content) - 1}/{len(content)}"
        self._send(206, content[begin:], headers, body=body)

    def _send(self, status: int, content: bytes, headers: dict[str, str], *, body: bool) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Requests are not printed."""


@contextlib.contextmanager
def hub(models: dict[str, Path], gated: tuple[str, ...] = ()) -> Iterator[_Hub]:
    """Serve folders as repositories of these names, all at COMMIT."""
    with _Hub(models, gated) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
