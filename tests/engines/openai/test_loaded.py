"""Streams beside each other, from servers that keep the protocol and from broken ones."""

import asyncio
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterator

import pytest

from slm_energy.engines.openai import stream
from slm_energy.engines.openai.command import free_port
from slm_energy.engines.openai.loaded import Partial, Streams
from slm_energy.engines.openai.stream import Address, Refused
from slm_energy.errors import EngineError
from tests.loads import MODEL, scripted

ASKED = {"model": "scripted", "prompt": [5, 6, 7], "max_tokens": 8, "stream": True}
LINE = b"line"
MIB = 2**20


def complete(address: Address, at_most_s: float = 10.0, abort_after_s: float | None = None):
    async def run():
        streams = Streams(address)
        try:
            return await streams.complete(ASKED, at_most_s, abort_after_s)
        finally:
            await streams.close()

    return asyncio.run(run())


@pytest.fixture
def broken() -> Iterator:
    """Starts servers with faults, as processes of their own: their memory is not this one's."""
    processes = []

    def start(fault: str) -> Address:
        port = free_port()
        words = ("--port", str(port), "--model", str(MODEL), "--fault", fault)
        command = [sys.executable, "-m", "slm_energy.testing.completions", *words]
        processes.append(subprocess.Popen(command, stderr=subprocess.DEVNULL))
        address = Address(host="127.0.0.1", port=port)
        for _ in range(300):
            try:
                address.request("/v1/models")
                return address
            except EngineError:
                time.sleep(0.05)
        raise AssertionError("the server does not listen")

    yield start
    for process in processes:
        process.kill()
        process.wait()


def at(server) -> Address:
    return Address(host="127.0.0.1", port=server.server_port)


def test_streams_run_beside_each_other_and_are_as_those_of_one_client():
    with scripted(prefill_s=0.2, token_s=0.01) as server:
        alone = at(server).stream(ASKED)

        async def together():
            streams = Streams(at(server))
            try:
                return await asyncio.gather(*(streams.complete(ASKED, 10, None) for _ in "12345"))
            finally:
                await streams.close()

        begun_s = time.monotonic()
        answers = asyncio.run(together())
        assert time.monotonic() - begun_s < 5 * 0.27
    for answer in answers:
        assert [(p.text, p.ids) for p in answer.pieces] == [(p.text, p.ids) for p in alone.pieces]
        assert (answer.finish, answer.usage) == (alone.finish, alone.usage)
        stamps = [piece.arrived_ns for piece in answer.pieces]
        assert stamps == sorted(stamps)
        assert stamps[-1] - stamps[0] >= 0.06e9


def test_what_an_aborted_stream_brought_is_kept():
    with scripted(prefill_s=0.02, token_s=0.05) as server:
        with pytest.raises(Partial) as partial:
            complete(at(server), abort_after_s=0.2)
        got = partial.value.completion
        assert 1 <= len(got.pieces) <= 5
        assert got.finish == ""


@pytest.mark.parametrize(("status", "words"), [(404, "404 Not Found: The model"), (503, "Loading")])
def test_an_http_error_is_a_refusal(status, words):
    with scripted() as server:
        server.fault = "refuse"
        if status == 503:
            server.restart(0, 60)
        with pytest.raises(Refused, match=words) as refused:
            complete(at(server))
        assert refused.value.status == status


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("silent", r"the stream has no end after 0\.4 s and 0 events"),
        ("stall", r"the stream has no end after 0\.4 s and 3 events"),
        ("endless", r"the stream has no end after"),
        ("cut", r"the stream was cut after 3 events"),
        ("malformed", "malformed event: {not JSON"),
        ("error", "out of KV cache"),
        ("unfinished", "without a finish_reason"),
    ],
)
def test_a_broken_stream_ends_with_its_reason(broken, fault, words):
    with pytest.raises(EngineError, match=words):
        complete(broken(fault), at_most_s=0.4)


def peak_bytes(address: Address, words: str, at_most_s: float) -> int:
    """The memory that a failing request takes at most."""
    tracemalloc.start()
    try:
        with pytest.raises(EngineError, match=words):
            complete(address, at_most_s)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_line_without_end_does_not_fill_the_memory(broken):
    """It ends at the bound of a line, long before its time; without a bound 1 GB comes in 2 s."""
    address = broken("long_line")
    assert peak_bytes(address, "a line of more than 1,048,576 bytes", 30.0) < 16 * MIB


def test_a_stream_without_end_does_not_fill_the_memory(broken, monkeypatch):
    monkeypatch.setattr(stream, "MOST_LINES", 5000)
    address = broken("endless")
    assert peak_bytes(address, r"no end after [\d,]+ bytes in 5,001 lines", 30.0) < 8 * MIB
    monkeypatch.undo()
    monkeypatch.setattr(stream, "MOST_BYTES", MIB)
    assert peak_bytes(address, r"no end after 1,\d+,\d+ bytes", 30.0) < 16 * MIB


def test_a_metrics_page_without_queue_or_end_tells_nothing(broken):
    async def queued(address: Address):
        streams = Streams(address)
        try:
            return await streams.queued()
        finally:
            await streams.close()

    with scripted(slots=1) as server:
        assert asyncio.run(queued(at(server))) == (0.0, 0)
        at(server).stream(ASKED)
        seconds, number = asyncio.run(queued(at(server)))
        assert number == 1
        assert seconds < 1
    with scripted(text=True) as server:
        assert asyncio.run(queued(at(server))) is None
    assert asyncio.run(queued(Address(host="127.0.0.1", port=free_port()))) is None
