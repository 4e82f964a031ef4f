"""Requests to a server while others are in progress: one thread, one connection for each.

A stream is read as it comes and parsed after its end, as in `stream.py`: with the same stamps, and
the same bounds on what a broken server may send.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING

from slm_energy.engines.openai.stream import (
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


class Partial(Exception):
    """The client ended a stream; `completion` has what had come by then."""

    def __init__(self, completion: StreamedCompletion) -> None:
        super().__init__("the client ended the stream")
        self.completion = completion


class Streams:
    """The streams of one server, for one event loop."""

    def __init__(self, address: Address) -> None:
        import aiohttp

        self._address = address
        # A connection per request, as in `stream.py`: none of another's waits in its buffers.
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        self._session = aiohttp.ClientSession(
            connector=connector, timeout=aiohttp.ClientTimeout(total=None), auto_decompress=False
        )
        self._url = f"http://{address.host}:{address.port}{address.path}/v1/completions"

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
                    self._url,
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
