"""Requests to a server while others are in progress: one thread, one connection for each.

A stream is read as it comes and parsed after its end, as in `stream.py`: with the same stamps, and
the same bounds on what a broken server may send.
"""

from __future__ import annotations

import asyncio
import json
import re
import resource
import time
from typing import TYPE_CHECKING

from slm_energy.engines.openai.stream import (
    MOST_LINE_BYTES,
    Address,
    Events,
    Refused,
    StreamedCompletion,
    completion_of,
    message_of,
    so_far,
)
from slm_energy.errors import EngineError, one_line
from slm_energy.serialization import Json

if TYPE_CHECKING:
    import aiohttp


_QUEUE = re.compile(rb"^vllm:request_queue_time_seconds_(sum|count)(?:{.*})? (\S+)", re.MULTILINE)
"""https://docs.vllm.ai/en/stable/design/metrics.html; one line per engine of the server."""
_PATIENCE_S = 5.0


class Partial(Exception):
    """The client ended a stream; `completion` has what had come by then."""

    def __init__(self, completion: StreamedCompletion) -> None:
        super().__init__("the client ended the stream")
        self.completion = completion


class Streams:
    """The streams of one server, for one event loop."""

    def __init__(self, address: Address) -> None:
        import aiohttp

        # Each request in progress has a connection, of which a process may have 1024 by default.
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        # A connection per request, as in `stream.py`: none of another's waits in its buffers.
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        self._session = aiohttp.ClientSession(
            connector=connector, timeout=aiohttp.ClientTimeout(total=None), auto_decompress=False
        )
        self._url = f"http://{address.host}:{address.port}{address.path}"

    async def complete(
        self, body: dict[str, Json], at_most_s: float, abort_after_s: float | None
    ) -> StreamedCompletion:
        """Stream the completion of one prompt.

        Raises:
            Partial: `abort_after_s` have passed; the connection is closed.
            Refused: the answer is an HTTP error.
            EngineError: the stream was cut, has no end, or violates the protocol.
        """
        import aiohttp

        events: list[tuple[int, bytes]] = []
        aborts = abort_after_s is not None and abort_after_s < at_most_s
        try:
            async with asyncio.timeout(abort_after_s if aborts else at_most_s):
                async with self._session.post(
                    f"{self._url}/v1/completions",
                    data=json.dumps(body).encode(),
                    headers={"Content-Type": "application/json"},
                ) as response:
                    if response.status != 200:
                        text = await response.content.read(2**16)
                        raise Refused(response.status, str(response.reason), message_of(text))
                    await _read(response, events)
        except TimeoutError as error:
            if aborts:
                raise Partial(so_far(events)) from error
            raise EngineError(
                f"the stream has no end after {at_most_s:g} s and {len(events)} events"
            ) from error
        except (aiohttp.ClientError, OSError) as error:
            raise EngineError(
                f"the stream was cut after {len(events)} events:"
                f" {type(error).__name__}: {one_line(error)}"
            ) from error
        return completion_of(events)

    async def queued(self) -> tuple[float, int] | None:
        """Seconds in vLLM's queue and number of requests that left it, from `/metrics`; or None."""
        import aiohttp

        try:
            async with (
                asyncio.timeout(_PATIENCE_S),
                self._session.get(f"{self._url}/metrics") as response,
            ):
                text = b""
                async for chunk in response.content.iter_any():
                    text += chunk
                    if response.status != 200 or len(text) > MOST_LINE_BYTES:
                        return None
        except (TimeoutError, aiohttp.ClientError, OSError):
            return None  # not every server has them
        sums = {b"sum": 0.0, b"count": 0.0}
        found = _QUEUE.findall(text)
        for name, number in found:
            sums[name] += float(number)
        return (sums[b"sum"], int(sums[b"count"])) if found else None

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()


async def _read(response: aiohttp.ClientResponse, events: list[tuple[int, bytes]]) -> None:
    """Append each event's arrival and data; lines that came together have one arrival."""
    lines, rest = Events(), b""
    async for chunk in response.content.iter_any():
        arrived_ns = time.monotonic_ns()
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            if (data := lines.data(line + b"\n")) is not None:
                events.append((arrived_ns, data))
        lines.require_bounded(rest)
    if rest and (data := lines.data(rest)) is not None:
        events.append((time.monotonic_ns(), data))
