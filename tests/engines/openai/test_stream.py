"""The client against a real HTTP server that keeps the protocol, or does not."""

import itertools
import socket
import threading
from collections.abc import Iterator

import pytest

from slm_energy.config.groups import ModelConfig
from slm_energy.engines.openai.client import Client
from slm_energy.engines.openai.stream import Address, Refused, usage_of
from slm_energy.engines.openai.token_times import ServedTexts
from slm_energy.errors import EngineError
from slm_energy.models import source
from slm_energy.models.tokenizer import load_tokenizer
from slm_energy.testing.completions import CompletionsServer

ASKED = {"model": "scripted", "prompt": [5, 6, 7], "max_tokens": 8, "stream": True}


@pytest.fixture
def serving(tmp_path) -> Iterator:
    """Starts servers; they end with the test."""
    folder = source.fetch(ModelConfig(name="m", source="bundled"), tmp_path)
    servers = []

    def start(fault: str = "none", **options) -> Address:
        server = CompletionsServer(0, folder, fault, **options)
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        servers.append(server)
        return Address(host="127.0.0.1", port=server.server_port)

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def answering() -> Iterator:
    """Starts listeners that answer one connection with given bytes and close it."""
    listeners = []

    def start(body: bytes, head: bytes = b"HTTP/1.1 200 OK\r\n\r\n") -> Address:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(head + body)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):  # closing with something unread would be a reset
                    pass

        threading.Thread(target=serve).start()
        return Address(host="127.0.0.1", port=listener.getsockname()[1])

    yield start
    for listener in listeners:
        listener.close()


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://127.0.0.1:8000", Address(host="127.0.0.1", port=8000)),
        ("http://localhost:8000/v1/", Address(host="localhost", port=8000)),
        ("http://box/llm/v1", Address(host="box", port=80, path="/llm")),
    ],
)
def test_a_url_is_taken_apart(url, address):
    assert Address.of(url) == address


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "https://box:1", "http://", "http://box:no"])
def test_what_is_no_plain_url_is_refused(url):
    with pytest.raises(ValueError, match=r"\S"):
        Address.of(url)


def test_a_server_that_listens_but_does_not_answer_is_loading(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = Address(host="127.0.0.1", port=silent.getsockname()[1])
        tokenizer = load_tokenizer(source.fetch(ModelConfig(name="m", source="bundled"), tmp_path))
        client = Client(address, ServedTexts(tokenizer, None), ())
        assert client.models(patience_s=0.1) is None


def test_a_stream_brings_pieces_in_order_of_arrival(serving):
    found = serving().stream(ASKED)
    assert [len(piece.ids) for piece in found.pieces] == [1] * 8
    assert "".join(piece.text for piece in found.pieces) != ""
    stamps = [piece.arrived_ns for piece in found.pieces]
    assert all(before < after for before, after in itertools.pairwise(stamps))
    assert (found.finish, found.ended_ns > stamps[-1]) == ("length", True)
    assert (found.usage.prompt, found.usage.completion, found.usage.cached) == (3, 8, 0)


def test_a_server_that_knows_text_only_tells_no_ids_and_no_usage(serving):
    found = serving(text=True).stream({**ASKED, "prompt": "import os"})
    assert {piece.ids for piece in found.pieces} == {None}
    assert found.usage is None


def test_an_http_error_carries_what_the_server_says(serving):
    with pytest.raises(Refused, match=r"404 Not Found: The model `scripted` does not exist\.$"):
        serving("refuse").stream(ASKED)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("cut", r"the stream was cut after 3 events: it ended without \[DONE\]"),
        ("malformed", r"malformed event: \{not JSON"),
        ("error", r"the server broke the stream off: out of KV cache"),
        ("unfinished", r"without a finish_reason"),
    ],
)
def test_a_broken_stream_is_an_error(serving, fault, message):
    with pytest.raises(EngineError, match=message):
        serving(fault).stream(ASKED)


def test_a_server_that_falls_silent_is_left(serving):
    address = serving("stall")
    patient = Address(host=address.host, port=address.port, patience_s=0.3)
    with pytest.raises(EngineError, match=r"cut after 3 events: nothing came for 0\.3 s"):
        patient.stream(ASKED)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"hello\n\n", "malformed event: hello"),
        (b"data: 1\ndata: 2\n\n", "malformed event: data: 2"),
        (b"data: 7\n\ndata: [DONE]\n\n", "malformed event: 7"),
        (b'data: {"choices": [{"text": null}]}\n\ndata: [DONE]\n\n', "malformed event"),
        (b"\xff\n\n", "malformed event"),
        (b"", "cut after 0 events"),
    ],
)
def test_what_is_no_stream_of_completions_is_an_error(answering, body, message):
    with pytest.raises(EngineError, match=message):
        answering(body).stream(ASKED)


def test_comments_other_fields_and_either_line_end_are_taken(answering):
    body = (
        b": ping\r\n\r\nevent: message\r\nid: 1\r\n"
        b'data:{"choices": [{"text": "a", "finish_reason": "stop"}]}\r\n\r\ndata: [DONE]\r\n\r\n'
    )
    found = answering(body).stream(ASKED)
    assert [piece.text for piece in found.pieces] == ["a"]
    assert found.finish == "stop"


def test_a_chunked_stream_that_is_cut_is_an_error(answering):
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    line = b'data: {"choices": [{"text": "a"}]}\n\n'
    chunk = b"%x\r\n%s\r\n" % (len(line), line)
    with pytest.raises(EngineError, match="the stream was cut after 2 events"):
        answering(chunk + chunk + b"40\r\ndata: {", head).stream(ASKED)


def test_an_answer_that_is_no_json_is_an_error(answering):
    with pytest.raises(EngineError, match="answer to /v1/models is not JSON"):
        answering(b"<html>").request("/v1/models")


def test_a_refused_connection_is_an_error():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(EngineError, match="no answer from the server to /v1/models: Connection"):
        Address(host="127.0.0.1", port=port).request("/v1/models")


@pytest.mark.parametrize("answer", [{}, {"usage": None}, {"usage": {"prompt_tokens": 3}}])
def test_missing_usage_is_an_error(answer):
    with pytest.raises(EngineError, match=r"reports no usage\.prompt_tokens"):
        usage_of(answer)
