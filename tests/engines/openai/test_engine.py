"""Against llama-cpp-python's real server, and against a scripted one that breaks the protocol."""

import dataclasses
import itertools
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import yaml

from slm_energy.cell import cell_labels, flat
from slm_energy.config.groups import MeasurementConfig, ProviderConfig
from slm_energy.engines.base import Batch, Engine, LoadRequest, find
from slm_energy.engines.openai.command import free_port
from slm_energy.engines.openai.engine import ENGINE, OpenAiServer, unsupported
from slm_energy.errors import EngineError
from slm_energy.meters.process_tree import ProcessTree
from slm_energy.models.token_texts import TokenTexts
from slm_energy.testing.completions import CompletionsServer

CONF = Path(__file__).parents[3] / "conf" / "engine"
SCRIPTED = "{python} -m slm_energy.testing.completions --port {port} --model {model}"


SILENT = """{python} -c "import socket, time
server = socket.create_server(('127.0.0.1', {port}))
print('listening', flush=True)
time.sleep(3600)" """


@pytest.fixture
def load(make_request) -> Iterator[Callable]:
    """Prepares and loads an engine with these options; closes it with the test."""
    engines = []

    def loaded(
        stop: str = "fixed", *, metered: bool = False, provider: str = "cpu", **options
    ) -> tuple[OpenAiServer, dict]:
        target = make_request("openai_server", decode="generate", options=options)
        settings = dataclasses.replace(
            target.settings,
            workload=dataclasses.replace(target.settings.workload, stop=stop),
            provider=ProviderConfig(name=provider),
            measurement=MeasurementConfig(name="m", mode="auto" if metered else "off"),
        )
        target = dataclasses.replace(target, settings=settings)
        ENGINE.prepare(target)
        engine = OpenAiServer()
        engines.append(engine)
        return engine, engine.load(target)

    yield loaded
    for engine in engines:
        engine.close()


@pytest.fixture
def serving(make_request) -> Iterator[Callable]:
    """Starts scripted servers in this process; they end with the test."""
    servers = []

    def start(fault: str = "none", text: bool = False) -> CompletionsServer:
        server = CompletionsServer(0, make_request("torch").model_path, fault, text)
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def running(make_request) -> Iterator[Callable]:
    """Starts scripted servers as processes of their own; they end with the test."""
    processes = []

    def start(fault: str = "none") -> tuple[psutil.Popen, str]:
        port, model = free_port(), str(make_request("torch").model_path)
        words = ("--port", str(port), "--model", model, "--fault", fault)
        process = psutil.Popen([sys.executable, "-m", "slm_energy.testing.completions", *words])
        processes.append(process)
        while not any(each.laddr.port == port for each in process.net_connections()):
            time.sleep(0.02)
        return process, f"http://localhost:{port}"

    yield start
    for process in processes:
        process.kill()
        process.wait()


def url(server: CompletionsServer) -> str:
    return f"http://127.0.0.1:{server.server_port}"


def llama_cpp_server() -> dict:
    return yaml.safe_load((CONF / "llama_cpp_server.yaml").read_text())["options"]


def alone(engine: Engine, batch: Batch) -> list:
    return [
        engine.generate(dataclasses.replace(batch, prompts=(prompt,)))[0]
        for prompt in batch.prompts
    ]


def torchs(target: LoadRequest, batch: Batch) -> list[tuple[int, ...]]:
    engine = find("torch").create()
    engine.load(target)
    return [answer.output_ids for answer in engine.generate(batch)]


def test_llama_cpps_server_gives_torchs_tokens(make_request, load, prompts):
    """Through end-of-text tokens, alone and together; and it is seen when it is killed."""
    batch = Batch(prompts=prompts, new_tokens=24, stop="fixed")
    expected = torchs(make_request("torch"), batch)
    assert any(0 in ids for ids in expected), "no end-of-text token: the test shows too little"
    engine, effective = load(**llama_cpp_server())
    effective |= engine.compile([batch])
    one_by_one = alone(engine, batch)
    together = engine.generate(batch)
    assert [answer.output_ids for answer in one_by_one] == expected
    assert [answer.output_ids for answer in together] == expected
    for answer in (*one_by_one, *together):
        pairs = itertools.pairwise(answer.token_ns)
        assert all(before < after for before, after in pairs)

    assert effective["dtype_told_by"] == "the command"
    assert effective["threads"] == 1
    assert effective["context"] == 512
    assert effective["server"].endswith("llama.cpp Python API")
    assert effective["server_version"] == find("llama_cpp").versions()["llama-cpp-python"]
    assert effective["prompt"] == "text"
    assert effective["output_ids"] == "looked up by text"
    assert effective["tokens_per_event"] == 1
    assert effective["prompt_reuse_pct"] == 0.0
    with pytest.raises(EngineError, match=r"set workload\.limit to at least 2"):
        engine.compile([dataclasses.replace(batch, prompts=prompts[:1])])

    server = next(iter(psutil.Process(effective["pid"]).children()))
    assert server.cpu_times().user > 0.1
    apart_s = sum(psutil.Process().cpu_times()[:4]) + sum(server.cpu_times()[:2])
    assert ProcessTree(os.getpid()).cpu_s() >= apart_s

    long = dataclasses.replace(batch, prompts=prompts[:1], new_tokens=400)
    threading.Timer(0.05, server.kill).start()
    with pytest.raises(EngineError, match=r"cut after \d+ events.*server was killed by SIGKILL"):
        engine.generate(long)


def test_llama_cpps_server_stops_at_the_end_of_a_text_if_it_may(make_request, load, prompts):
    batch = Batch(prompts=prompts, new_tokens=24, stop="eos")
    expected = torchs(make_request("torch"), batch)
    assert min(map(len, expected)) < 24, "no text ends: the test shows too little"
    engine, _ = load(stop="eos", **llama_cpp_server())
    assert [answer.output_ids for answer in engine.generate(batch)] == expected


def test_llama_cpps_server_ends_code_where_our_loops_do(load, code_ends):
    """It withholds the stop text, counts nothing in its streams, and all tokens are known."""
    batch = code_ends.batch
    engine, _ = load(stop="code", **llama_cpp_server())
    engine.compile([batch])
    together = engine.generate(batch)
    assert [answer.output_ids for answer in together] == code_ends.expected
    assert [
        engine.generate(batch.request(row))[0].output_ids for row in range(len(batch.prompts))
    ] == code_ends.expected
    for answer in together:
        assert len(answer.token_ns) == len(answer.output_ids)
        assert list(answer.token_ns) == sorted(answer.token_ns)


def test_a_server_is_started_queried_and_ended(load, prompts):
    engine, effective = load(command=SCRIPTED)
    batch = Batch(prompts=prompts, new_tokens=8, stop="fixed")
    engine.compile([batch])
    answers = engine.generate(batch)
    assert [answer.output_ids for answer in answers] == [
        answer.output_ids for answer in alone(engine, batch)
    ]
    assert len({answer.output_ids for answer in answers}) > 1, "answers in any order look alike"
    assert effective["started"] is True
    assert (effective["provider"], effective["decode"]) == ("cpu", "generate")
    assert effective["dtype_told_by"] == "nobody: declared by engine.dtype"
    assert (effective["prompt"], effective["output_ids"]) == ("token ids", "told by the server")
    assert effective["server_version"] == "1.2.3"
    engine.close()
    assert not psutil.pid_exists(effective["pid"])


def test_a_server_that_runs_is_used_and_left_running(load, serving, prompts):
    server = serving()
    engine, effective = load(url=url(server))
    engine.generate(Batch(prompts=prompts, new_tokens=4, stop="fixed"))
    assert (effective["started"], effective["pid"]) == (False, None)
    assert effective["provider_told_by"] == "nobody: declared by provider.name"
    engine.close()
    load(url=url(server))


def test_the_processes_of_a_metered_server_are_adopted(load, running, prompts):
    server, address = running()
    engine, effective = load(metered=True, url=address)
    assert (effective["started"], effective["adopted"]) == (False, [server.pid])
    assert effective["provider_told_by"] == "the server's open device files"
    assert effective["busy_pct"] >= 10
    engine.generate(Batch(prompts=prompts, new_tokens=4, stop="fixed"))
    engine.close()
    assert server.is_running()


def test_a_listener_that_leaves_the_work_to_others_is_refused(load, running):
    """Whatever its name: it waits for each token, as a forwarder does."""
    server, address = running("idle")
    refusal = rf"listens \({server.pid}\) used \d+ % of one processor while it answered"
    with pytest.raises(EngineError, match=refusal):
        load(metered=True, url=address)


def test_a_metered_server_on_a_gpu_must_have_opened_one(load, running):
    _, address = running()
    with pytest.raises(EngineError, match=r"provider\.name=cuda, but the server has opened no GPU"):
        load(metered=True, provider="cuda", url=address)


def test_requests_are_greedy_and_of_the_requested_length(load, serving, prompts):
    server = serving()
    engine, _ = load(url=url(server))
    engine.generate(Batch(prompts=prompts[:1], new_tokens=4, stop="eos"))
    asked = server.requests_seen[-1]
    assert asked["prompt"] == list(prompts[0])
    assert (asked["max_tokens"], asked["temperature"], asked["ignore_eos"]) == (4, 0.0, False)
    assert asked["repetition_penalty"] == asked["repeat_penalty"] == 1.0
    salts = [request["cache_salt"] for request in server.requests_seen]
    assert len(set(salts)) == len(salts)


def test_requests_of_a_batch_are_sent_together(load, serving, prompts):
    """Each handler waits for the others: one after the other would never end."""
    server = serving()
    engine, _ = load(url=url(server))
    batch = Batch(prompts=prompts, new_tokens=4, stop="fixed")
    engine.compile([batch])
    server.gate = threading.Barrier(len(prompts))
    assert len(engine.generate(batch)) == len(prompts)


def test_a_server_that_knows_text_only_gets_text(load, serving, prompts):
    reporting, _ = load(url=url(serving()))
    looked_up, effective = load(url=url(serving(text=True)))
    batch = Batch(prompts=prompts, new_tokens=8, stop="fixed")
    assert [answer.output_ids for answer in looked_up.generate(batch)] == [
        answer.output_ids for answer in reporting.generate(batch)
    ]
    assert effective["output_count"] == "meaning of finish_reason"


def code_batch(server: CompletionsServer, prompts: tuple) -> Batch:
    """Prompts whose answers reach the next function after different numbers of tokens."""
    texts = TokenTexts(server.tokenizer)
    stops = (("\ndef ", "\nclass "),) * len(prompts)
    return Batch(prompts=prompts, new_tokens=60, stop="code", stop_texts=stops, token_texts=texts)


def test_servers_end_code_alike_whether_they_send_ids_or_withhold_the_stop_text(
    load, serving, prompts
):
    sending, withholding = serving(), serving(text=True)
    batch = code_batch(sending, prompts)
    answers = []
    for server in (sending, withholding):
        engine, _ = load(url=url(server))
        engine.compile([batch])
        server.requests_seen.clear()
        answers.append([answer.output_ids for answer in engine.generate(batch)])
        assert len(server.requests_seen) == len(prompts), "nothing more is sent within a window"
        asked = server.requests_seen[0]
        assert (asked["stop"], asked["ignore_eos"]) == (["\ndef ", "\nclass "], False)
    assert answers[0] == answers[1]
    for ids in answers[0]:
        text = batch.token_texts.text(ids)
        assert text.endswith("\ndef total")
        assert "\ndef " not in batch.token_texts.text(ids[:-1])
    assert len(set(map(len, answers[0]))) > 1, "all end alike: the test shows too little"


def test_a_withheld_token_is_stamped_with_the_end_of_the_stream(load, serving, prompts):
    server = serving(text=True)
    engine, _ = load(url=url(server))
    (answer,) = engine.generate(code_batch(server, prompts[:1]))
    assert len(answer.token_ns) == len(answer.output_ids)
    assert list(answer.token_ns) == sorted(answer.token_ns)
    assert answer.token_ns[0] < answer.token_ns[-1]


@pytest.mark.parametrize("text", [False, True])
def test_a_server_that_ignores_stop_texts_is_an_error(load, serving, prompts, text):
    server = serving("no_stop", text=text)
    engine, _ = load(url=url(server))
    with pytest.raises(EngineError, match=r"does not stop at the stop texts of"):
        engine.generate(code_batch(server, prompts[:1]))


def test_a_server_that_accepts_few_stop_texts_is_an_error(load, serving, prompts):
    server = serving("few_stops")
    engine, _ = load(url=url(server))
    batch = dataclasses.replace(
        code_batch(server, prompts[:1]), stop_texts=(("\na", "\nb", "\nc", "\nd", "\ne"),)
    )
    with pytest.raises(EngineError, match=r"more than 4 entries.*sends 5 stop texts.*stop=eos"):
        engine.generate(batch)


def test_events_with_several_tokens_are_reported(load, serving, prompts):
    engine, effective = load(url=url(serving("burst")))
    (answer,) = engine.generate(Batch(prompts=prompts[:1], new_tokens=7, stop="fixed"))
    assert len(set(answer.token_ns)) == 3
    assert effective["tokens_per_event"] == 3


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("unlisted", r"these models: scripted, other: choose engine\.options\.model"),
        ("refuse", r"404 Not Found: The model `scripted` does not exist"),
        ("extra_token", r"counts \d+ tokens in a prompt of \d+"),
        ("cached", r"kept 16 tokens of a prompt.*--no-enable-prefix-caching"),
        ("no_usage", r"reports no usage\.prompt_tokens"),
    ],
)
def test_an_unusable_server_is_an_error_when_loading(load, serving, fault, message):
    with pytest.raises(EngineError, match=message):
        load(url=url(serving(fault)))


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("eos", r"after 4 of 8 tokens, and does not support ignore_eos"),
        ("short", r"returned 7 tokens instead of 8"),
        ("miscount", r"sent 8 token ids but counted 9"),
    ],
)
def test_other_work_than_requested_is_an_error(load, serving, prompts, fault, message):
    server = serving()
    engine, _ = load(url=url(server))
    server.fault = fault
    with pytest.raises(EngineError, match=message):
        engine.generate(Batch(prompts=prompts, new_tokens=8, stop="fixed"))


def test_a_model_is_chosen_by_name(load, serving):
    _, effective = load(url=url(serving("unlisted")), model="other")
    assert effective["server_model"] == "other"
    with pytest.raises(EngineError, match=r"engine\.options\.model=third: the server has: scr"):
        load(url=url(serving()), model="third")


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("exit", r"ended with exit code 3; it last wrote: there is no such device"),
        ("never_ready", r"not ready after engine\.options\.ready_s=3; it last wrote: loading"),
    ],
)
def test_a_server_that_does_not_come_up_is_an_error(load, fault, message):
    with pytest.raises(EngineError, match=message):
        load(command=f"{SCRIPTED} --fault {fault}", ready_s=3)


def test_a_server_that_listens_and_never_answers_is_an_error(load):
    with pytest.raises(
        EngineError, match=r"not ready after .*ready_s=2; it last wrote: listening$"
    ):
        load(command=SILENT, ready_s=2)


def test_a_server_that_fails_a_load_is_not_left_behind(load):
    before = psutil.Process().children()
    with pytest.raises(EngineError, match="kept 16 tokens"):
        load(command=f"{SCRIPTED} --fault cached")
    assert set(psutil.Process().children()) <= set(before)


def test_a_server_that_dies_in_a_stream_is_reported(load):
    with pytest.raises(EngineError, match=r"cut after 3 events.*was killed by SIGKILL"):
        load(command=f"{SCRIPTED} --fault kill")


@pytest.mark.parametrize(
    ("options", "changes", "reason"),
    [
        ({}, {}, "engine.options.command or engine.options.url"),
        ({"command": SCRIPTED, "url": "http://localhost:1"}, {}, "set either"),
        ({"command": SCRIPTED}, {"decode": "session"}, "set engine.decode=generate"),
        ({"command": SCRIPTED, "ready_s": "soon"}, {}, "engine.options.ready_s=soon is not"),
        ({"command": SCRIPTED, "context": 0}, {}, "engine.options.context=0 is not"),
        ({"command": "no-such-server {port}"}, {}, "no program no-such-server"),
        ({"url": "localhost:8000"}, {}, "engine.options.url: 'localhost:8000' is not like"),
        ({"url": "http://localhost:1"}, {"threads": 2}, "engine.threads cannot be set"),
    ],
)
def test_unsupported_settings_are_reported_beforehand(make_request, options, changes, reason):
    asked = {"decode": "generate", "threads": None, **changes}
    found = unsupported(make_request("openai_server", options=options, **asked).settings)
    assert found is not None
    assert reason in found


def test_the_joules_of_another_machine_are_not_metered_here(make_request):
    options = {"url": "http://192.0.2.1:8000"}  # of a network that is nobody's (RFC 5737)
    target = make_request("openai_server", decode="generate", threads=None, options=options)
    metered = dataclasses.replace(target.settings, measurement=MeasurementConfig(name="auto"))
    assert "192.0.2.1 is another machine" in str(unsupported(metered))
    assert unsupported(target.settings) is None
    here = make_request(
        "openai_server", decode="generate", threads=None, options={"url": "http://127.0.0.1:1"}
    )
    metered = dataclasses.replace(here.settings, measurement=MeasurementConfig(name="auto"))
    assert unsupported(metered) is None
    options = {"url": "http://[::1]:1"}
    here = make_request("openai_server", decode="generate", threads=None, options=options)
    metered = dataclasses.replace(here.settings, measurement=MeasurementConfig(name="auto"))
    assert unsupported(metered) is None


def test_other_providers_are_unsupported(make_request):
    target = make_request(
        "openai_server", decode="generate", threads=None, options={"command": SCRIPTED}
    )
    tensorrt = dataclasses.replace(target.settings, provider=ProviderConfig(name="tensorrt"))
    assert "no provider tensorrt" in str(unsupported(tensorrt))


def test_threads_are_those_that_the_servers_log_tells(load):
    """vLLM on a processor tells to which processors it has bound its threads."""
    told = "echo 'local_rank=0, core ids=[0, 1, 2]'"
    words = f'sh -c "{told}; exec {SCRIPTED} --token-s 0.001" {{processors}}'
    _, effective = load(command=words)
    assert (effective["threads"], effective["threads_requested"]) == (3, 1)
    assert effective["threads_told_by"] == "the server's log"


def test_a_failed_start_says_the_servers_own_cause(load):
    error = "ValueError: Available memory on node 0 is less than desired"
    after = "RuntimeError: Engine core initialization failed. See root cause above."
    words = f"sh -c \"echo '{error}'; echo '{after}'; echo; exit 1\" {{port}}"
    with pytest.raises(EngineError, match=r"exit code 1; its error: ValueError: Available memory"):
        load(command=words)


def test_a_server_tells_its_own_time_from_the_first_token_to_the_last(load, prompts):
    engine, _ = load(command=SCRIPTED + " --token-s 0.005")
    [answer] = engine.generate(Batch(prompts=prompts[:1], new_tokens=8, stop="fixed"))
    assert answer.decode_ns == pytest.approx(answer.token_ns[-1] - answer.token_ns[0], rel=0.5)


def test_tables_name_servers_and_not_their_commands(make_request):
    def levels(server: str, command: str) -> dict:
        options = {"server": server, "command": command}
        return flat(make_request("openai_server", decode="generate", options=options).settings)

    labels = cell_labels([("1", levels("one", "serve {port}")), ("2", levels("two", "run {port}"))])
    assert labels == {
        "1": "m / one / cpu",
        "2": "m / two / cpu",
    }


@pytest.mark.parametrize("name", ["openai_server", "vllm", "sglang", "llama_cpp_server"])
def test_the_shipped_configurations_name_only_options_that_there_are(name):
    found = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    assert found["name"] == "openai_server"
    assert set(found["options"]) <= set(ENGINE.options)
