"""One streamed completion from a server that speaks OpenAI's protocol.

HTTP comes from the standard library, which workers in other environments have too. A line of the
stream is stamped when it is read and parsed after the stream has ended, so that parsing does not
delay the next stamp.
"""

from __future__ import annotations

import dataclasses
import http.client
import json
import socket
import time
import urllib.parse
from collections.abc import Iterator, Sequence
from typing import Any

from slm_energy.engines.base import Refused as RequestRefused
from slm_energy.errors import EngineError, one_line
from slm_energy.serialization import Json

_OTHER_FIELDS = (b"event", b"id", b"retry")
MOST_BYTES, MOST_LINE_BYTES, MOST_LINES = 64 * 2**20, 2**20, 2**19
"""Of one answer, and of one line of it: a completion has far less, and a broken server no end."""


class Refused(RequestRefused):
    """The server answered with an HTTP error, whose code is `status`."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"the server answered {status} {reason}: {message}")
        self.status = status


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """Content of one event of a stream.

    Attributes:
        text: a piece of the output; may be empty.
        ids: its token ids; None if the server sends none.
        arrived_ns: monotonic time at which it was read.
    """

    text: str
    ids: tuple[int, ...] | None
    arrived_ns: int


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """Tokens as the server counts them.

    Attributes:
        prompt: tokens of the prompt.
        completion: tokens of the output.
        cached: tokens of the prompt reused from an earlier request; None if not reported.
    """

    prompt: int
    completion: int
    cached: int | None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class StreamedCompletion:
    """A complete stream.

    Attributes:
        pieces: in order of arrival.
        finish: the server's finish_reason (`length`, `stop`).
        ended_ns: monotonic time at which that arrived.
        usage: None if the server reports none.
        decode_ns: from the first to the last token as the server timed it; None if it reports none.
    """

    pieces: tuple[Piece, ...]
    finish: str
    ended_ns: int
    usage: Usage | None
    decode_ns: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Address:
    """Where a server listens.

    Attributes:
        host: its name or address.
        port: its number.
        path: prefix of `/v1`; usually empty.
        patience_s: timeout after which a silent server counts as hung.
    """

    host: str
    port: int
    path: str = ""
    patience_s: float = 600.0

    @classmethod
    def of(cls, url: str) -> Address:
        """Parse a URL: `http://127.0.0.1:8000`, with or without `/v1`.

        Raises:
            ValueError: it is not a URL, or not plain HTTP.
        """
        parts = urllib.parse.urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(f"{url!r} is not like http://127.0.0.1:8000")
        path = parts.path.rstrip("/").removesuffix("/v1")
        return cls(host=parts.hostname, port=parts.port or 80, path=path)

    def resolved(self) -> str:
        """The numerical address that connections are made to.

        Raises:
            EngineError: nothing accepts a connection.
        """
        try:
            with socket.create_connection((self.host, self.port), self.patience_s) as connection:
                return str(connection.getpeername()[0]).partition("%")[0]
        except OSError as error:
            raise EngineError(f"no connection to the server: {self._why(error)}") from error

    def request(self, path: str, body: dict[str, Json] | None = None) -> Any:
        """Send one request and wait for the complete answer.

        Args:
            path: relative to the server's own, for example `/v1/models`.
            body: sent as JSON in a POST request; None sends a GET request.

        Returns:
            The parsed JSON of the answer.

        Raises:
            Refused: the answer is an HTTP error.
            EngineError: there is no answer, or it is not JSON.
        """
        connection = self._connect()
        try:
            text = _send(connection, self.path + path, body).read(MOST_BYTES + 1)
        except (OSError, http.client.HTTPException) as error:
            raise EngineError(f"no answer from the server to {path}: {self._why(error)}") from error
        finally:
            connection.close()
        if len(text) > MOST_BYTES:
            raise EngineError(f"the server's answer to {path} is larger than {MOST_BYTES:,} bytes")
        try:
            return json.loads(text)
        except ValueError as error:
            raise EngineError(f"the server's answer to {path} is not JSON") from error

    def stream(self, body: dict[str, Json]) -> StreamedCompletion:
        """Stream the completion of one prompt.

        Raises:
            Refused: the answer is an HTTP error.
            EngineError: the stream was cut, stalled, or violates the protocol.
        """
        events: list[tuple[int, bytes]] = []
        connection = self._connect()
        try:
            response = _send(connection, self.path + "/v1/completions", body)
            events.extend(_data(response))
        except (OSError, http.client.HTTPException) as error:
            raise EngineError(
                f"the stream was cut after {len(events)} events: {self._why(error)}"
            ) from error
        finally:
            connection.close()
        return completion_of(events)

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.host, self.port, timeout=self.patience_s)

    def _why(self, error: Exception) -> str:
        if isinstance(error, TimeoutError):
            return f"nothing came for {self.patience_s:g} s"
        return f"{type(error).__name__}: {one_line(error)}"


def _send(
    connection: http.client.HTTPConnection, path: str, body: dict[str, Json] | None
) -> http.client.HTTPResponse:
    headers = {"Content-Type": "application/json", "Connection": "close"}
    if body is None:
        connection.request("GET", path, headers=headers)
    else:
        connection.request("POST", path, json.dumps(body).encode(), headers)
    response = connection.getresponse()
    if response.status != http.HTTPStatus.OK:
        raise Refused(response.status, response.reason, message_of(response.read(MOST_LINE_BYTES)))
    return response


def message_of(text: bytes) -> str:
    """A server's error message, from one of the common response formats."""
    try:
        answer = json.loads(text)
    except ValueError:
        answer = text.decode("utf-8", errors="replace")
    for key in ("error", "detail", "message"):
        if isinstance(answer, dict):
            answer = answer.get(key, answer)
    return one_line(answer)


def _data(response: http.client.HTTPResponse) -> Iterator[tuple[int, bytes]]:
    """Yield the data of each server-sent event with its arrival time."""
    events = Events()
    while line := response.readline(MOST_LINE_BYTES + 1):
        arrived_ns = time.monotonic_ns()
        if (data := events.data(line)) is not None:
            yield arrived_ns, data


class Events:
    """The events of one stream, line by line.

    https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream; events
    of several data lines are not used by this protocol and are refused.
    """

    def __init__(self) -> None:
        self._pending, self._bytes, self._lines = False, 0, 0

    def data(self, line: bytes) -> bytes | None:
        """The data of a line; None where it has none.

        Raises:
            EngineError: it is malformed, or too much has come.
        """
        self._bytes += len(line)
        self._lines += 1
        self.require_bounded(line)
        name, _, value = line.rstrip(b"\r\n").partition(b":")
        if name == b"data" and not self._pending:
            self._pending = True
            return value.removeprefix(b" ")
        if not line.strip():
            self._pending = False
        elif name and name not in _OTHER_FIELDS:  # a line without a name is a comment
            raise _malformed(line)
        return None

    def require_bounded(self, line: bytes) -> None:
        """Refuse a line, or the beginning of one, that is longer than an answer can be.

        Raises:
            EngineError: it is, or all lines together are.
        """
        if len(line) > MOST_LINE_BYTES:
            raise EngineError(f"the stream has a line of more than {MOST_LINE_BYTES:,} bytes")
        if self._bytes > MOST_BYTES or self._lines > MOST_LINES:
            raise EngineError(
                f"the stream has no end after {self._bytes:,} bytes in {self._lines:,} lines"
            )


def completion_of(events: list[tuple[int, bytes]]) -> StreamedCompletion:
    """What a whole stream says.

    Raises:
        EngineError: it was cut, or violates the protocol.
    """
    if not events or events[-1][1] != b"[DONE]":
        raise EngineError(f"the stream was cut after {len(events)} events: it ended without [DONE]")
    completion = so_far(events[:-1])
    if not completion.finish:
        raise EngineError("the stream ended without a finish_reason")
    return completion


def so_far(events: Sequence[tuple[int, bytes]]) -> StreamedCompletion:
    """What the beginning of a stream says; `finish` is empty before its end.

    Raises:
        EngineError: it violates the protocol, or reports an error.
    """
    pieces = []
    finish, ended_ns, usage, decode_ns = "", 0, None, None
    for arrived_ns, data in events:
        chunk = _chunk(data)
        if isinstance(timed := chunk.get("metrics"), dict):
            decode_ns = _nanoseconds(timed.get("generation_time_ms"))
        if chunk.get("usage") is not None:
            usage = usage_of(chunk)
        for choice in chunk["choices"]:
            ids = choice.get("token_ids")
            token_ids = tuple(map(int, ids)) if ids is not None else None
            if token_ids or choice["text"]:
                pieces.append(Piece(text=choice["text"], ids=token_ids, arrived_ns=arrived_ns))
            if choice.get("finish_reason") is not None:
                finish, ended_ns = str(choice["finish_reason"]), arrived_ns
    return StreamedCompletion(
        pieces=tuple(pieces), finish=finish, ended_ns=ended_ns, usage=usage, decode_ns=decode_ns
    )


def _nanoseconds(milliseconds: object) -> int | None:
    """VLLM's time from the first to the last token (`--enable-per-request-metrics`)."""
    return round(milliseconds * 1e6) if isinstance(milliseconds, int | float) else None


def _chunk(data: bytes) -> dict[str, Any]:
    """Parse one event.

    Raises:
        EngineError: it is not an event of a completion, or it reports an error.
    """
    try:
        chunk: Any = json.loads(data)
    except ValueError as error:
        raise _malformed(data) from error
    if not isinstance(chunk, dict):
        raise _malformed(data)
    if "error" in chunk:
        raise EngineError(f"the server broke the stream off: {message_of(data)}")
    choices = chunk.get("choices")
    if not isinstance(choices, list) or not all(
        isinstance(choice, dict) and isinstance(choice.get("text"), str) for choice in choices
    ):
        raise _malformed(data)
    return chunk


def _malformed(data: bytes) -> EngineError:
    text = one_line(data.decode("utf-8", errors="replace"))
    return EngineError(f"the stream has a malformed event: {text}")


def usage_of(answer: dict[str, Any]) -> Usage:
    """Return the token counts of an answer.

    Raises:
        EngineError: there are none.
    """
    usage: Any = answer.get("usage")
    try:
        return Usage(
            prompt=int(usage["prompt_tokens"]),
            completion=int(usage["completion_tokens"]),
            cached=(usage.get("prompt_tokens_details") or {}).get("cached_tokens"),
        )
    except (TypeError, KeyError) as error:
        raise EngineError(
            "the server reports no usage.prompt_tokens: the prompt cannot be verified"
        ) from error
