"""One completion from a server that speaks OpenAI's protocol: request, stream, what it told.

Plain HTTP from the standard library: a worker in another environment has it. A line of the stream
is stamped when it is read and looked into when the stream has ended, so that looking into one does
not delay the stamp of the next.
"""

from __future__ import annotations

import dataclasses
import http.client
import json
import time
import urllib.parse
from collections.abc import Iterator
from typing import Any

from slm_energy.errors import EngineError, one_line
from slm_energy.serialization import Json

_OTHER_FIELDS = (b"event", b"id", b"retry")


class Refused(EngineError):
    """The server answered with an HTTP error, whose code is `status`."""

    def __init__(self, status: int, reason: str, said: str) -> None:
        super().__init__(f"the server answered {status} {reason}: {said}")
        self.status = status


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """What one event of a stream brought.

    Attributes:
        text: a piece of the output; may be empty.
        ids: its token ids; None where the server tells none.
        arrived_ns: monotonic time at which it was read.
    """

    text: str
    ids: tuple[int, ...] | None
    arrived_ns: int


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """Tokens as the server counts them.

    Attributes:
        prompt: of the prompt.
        completion: of the output.
        cached: of the prompt, not computed but kept from an earlier request; None if not told.
    """

    prompt: int
    completion: int
    cached: int | None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class StreamedCompletion:
    """A whole stream.

    Attributes:
        pieces: in order of arrival.
        finish: why it ended, in the server's word (`length`, `stop`).
        ended_ns: monotonic time at which that arrived.
        usage: None where the server tells none.
    """

    pieces: tuple[Piece, ...]
    finish: str
    ended_ns: int
    usage: Usage | None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Address:
    """Where a server listens.

    Attributes:
        host: its name or address.
        port: its number.
        path: before `/v1`; mostly empty.
        patience_s: a server that is silent for longer is taken for hung.
    """

    host: str
    port: int
    path: str = ""
    patience_s: float = 600.0

    @classmethod
    def of(cls, url: str) -> Address:
        """Take a URL apart: `http://127.0.0.1:8000`, with or without `/v1`.

        Raises:
            ValueError: it is none, or not plain HTTP.
        """
        parts = urllib.parse.urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(f"{url!r} is not like http://127.0.0.1:8000")
        path = parts.path.rstrip("/").removesuffix("/v1")
        return cls(host=parts.hostname, port=parts.port or 80, path=path)

    def ask(self, path: str, body: dict[str, Json] | None = None) -> Any:
        """Send one request and wait for its whole answer.

        Args:
            path: below the server's own, for example `/v1/models`.
            body: posted as JSON; None gets the path.

        Returns:
            The answer, taken from JSON.

        Raises:
            Refused: the answer is an HTTP error.
            EngineError: there is no answer, or it is not JSON.
        """
        connection = self._connect()
        try:
            text = _send(connection, self.path + path, body).read()
        except (OSError, http.client.HTTPException) as error:
            raise EngineError(f"no answer from the server to {path}: {self._why(error)}") from error
        finally:
            connection.close()
        try:
            return json.loads(text)
        except ValueError as error:
            raise EngineError(f"the server's answer to {path} is not JSON") from error

    def stream(self, body: dict[str, Json]) -> StreamedCompletion:
        """Have one prompt completed.

        Raises:
            Refused: the answer is an HTTP error.
            EngineError: the stream was cut, stalled, or is not what the protocol says.
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
        return _completion(events)

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
        raise Refused(response.status, response.reason, _message(response.read()))
    return response


def _message(text: bytes) -> str:
    """What a server says of an error, in one of the forms that are about."""
    try:
        answer = json.loads(text)
    except ValueError:
        answer = text.decode("utf-8", errors="replace")
    for key in ("error", "detail", "message"):
        if isinstance(answer, dict):
            answer = answer.get(key, answer)
    return one_line(answer)


def _data(response: http.client.HTTPResponse) -> Iterator[tuple[int, bytes]]:
    """The data of each server-sent event with its arrival, up to the end of the response.

    https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream; events
    of several data lines are not used by this protocol, and refused.
    """
    pending = False
    while line := response.readline():
        arrived_ns = time.monotonic_ns()
        name, _, value = line.rstrip(b"\r\n").partition(b":")
        if name == b"data" and not pending:
            pending = True
            yield arrived_ns, value.removeprefix(b" ")
        elif not line.strip():
            pending = False
        elif name and name not in _OTHER_FIELDS:  # a line without a name is a comment
            raise _malformed(line)


def _completion(events: list[tuple[int, bytes]]) -> StreamedCompletion:
    if not events or events[-1][1] != b"[DONE]":
        raise EngineError(f"the stream was cut after {len(events)} events: it ended without [DONE]")
    pieces = []
    finish, ended_ns, usage = "", 0, None
    for arrived_ns, data in events[:-1]:
        chunk = _chunk(data)
        if chunk.get("usage") is not None:
            usage = usage_of(chunk)
        for choice in chunk["choices"]:
            ids = choice.get("token_ids")
            told = tuple(map(int, ids)) if ids is not None else None
            if told or choice["text"]:
                pieces.append(Piece(text=choice["text"], ids=told, arrived_ns=arrived_ns))
            if choice.get("finish_reason") is not None:
                finish, ended_ns = str(choice["finish_reason"]), arrived_ns
    if not finish:
        raise EngineError("the stream ended without a finish_reason")
    return StreamedCompletion(pieces=tuple(pieces), finish=finish, ended_ns=ended_ns, usage=usage)


def _chunk(data: bytes) -> dict[str, Any]:
    """One event as JSON.

    Raises:
        EngineError: it is not what a completion's event looks like, or tells of an error.
    """
    try:
        chunk: Any = json.loads(data)
    except ValueError as error:
        raise _malformed(data) from error
    if not isinstance(chunk, dict):
        raise _malformed(data)
    if "error" in chunk:
        raise EngineError(f"the server broke the stream off: {_message(data)}")
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
    """What an answer tells of token counts.

    Raises:
        EngineError: nothing.
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
