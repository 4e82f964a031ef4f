"""Any server that speaks OpenAI's completions protocol: started here by a command, or running.

The worker is the client: it streams, and stamps a token when it has read the event that brought it.
A batch is as many requests at the same time, because that is how servers are given one. What is
metered is the machine, so the server must run on it.

What the protocol does not tell cannot be read back: `effective` says of such settings where they
are known from. What it does tell is checked: tokens of each prompt, tokens of each answer.
"""

from __future__ import annotations

import contextlib
import itertools
import queue
import re
import socket
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from slm_energy.cell import Settings
from slm_energy.devices import nvidia
from slm_energy.engines.base import Batch, Completion, EngineSpec, LoadRequest
from slm_energy.engines.openai import command
from slm_energy.engines.openai.client import Client
from slm_energy.engines.openai.process import ServerProcess
from slm_energy.engines.openai.stream import Address
from slm_energy.engines.openai.token_times import Texts
from slm_energy.errors import EngineError
from slm_energy.models.tokenizer import load_tokenizer
from slm_energy.serialization import Json

_READY_S = 600.0
_POLL_S = 5.0
"""A server that loads may listen before it answers; then it is asked again."""
_GPU_FILE = re.compile(r"/dev/(nvidia\d+|dxg)")
"""Held open by every process that computes on an NVIDIA GPU; the second is WSL's."""


class OpenAiServer:
    """A server and its client. What `load` returned is kept up to date with what streams show."""

    def load(self, request: LoadRequest) -> dict[str, Json]:
        """Start the server or find it, and see what it can do.

        Raises:
            EngineError: it never becomes ready, refuses, or does not do what can be checked.
        """
        self._process: ServerProcess | None = None
        try:
            listed = self._open(request)
            with self._told_by_its_end():
                self._effective = self._settings(request, listed)
        except BaseException:
            self.close()
            raise
        return self._effective

    def compile(self, batches: Sequence[Batch]) -> dict[str, Json]:
        """Let the server count the tokens of every prompt, before any window that counts.

        Returns:
            `prompt_reuse_pct`, where the server keeps its last prompt.

        Raises:
            EngineError: it counts otherwise than the model's tokenizer, or would not compute a
                prompt again.
        """
        prompts = [prompt for batch in batches for prompt in batch.prompts]
        with self._told_by_its_end():
            for prompt in prompts:
                self._client.check(prompt)
        if self._effective["prompt_reuse"] != "last request":
            return {}
        return {"prompt_reuse_pct": _shared_pct(prompts)}

    def generate(self, batch: Batch) -> list[Completion]:
        """Send the batch's prompts together, and wait for the last answer.

        Raises:
            EngineError: the server refused, broke off, or did not do what was asked.
        """
        with self._told_by_its_end():
            if len(batch.prompts) == 1:
                answers = [self._client.complete(batch.prompts[0], batch)]
            else:
                answers = self._at_once(batch)
        stamps = (Counter(found.token_ns).values() for found in answers)
        together = max(self._effective["tokens_per_event"], *itertools.chain(*stamps))
        self._effective["tokens_per_event"] = together
        return answers

    def close(self) -> None:
        """End the server if it was started here."""
        if self._process is not None:
            self._process.stop()

    def _open(self, request: LoadRequest) -> Any:
        """Reach the server; return what it answers to `/v1/models`."""
        options, provider = request.settings.engine.options, request.settings.provider
        own = load_tokenizer(request.model_path)
        texts = Texts(own, command.served_tokenizer(request))
        if options.get("url"):
            address = Address.of(str(options["url"]))
            self._client = Client(address, texts, request.eos_ids)
            return address.ask("/v1/models")
        port = command.free_port()
        self._client = Client(Address(host="127.0.0.1", port=port), texts, request.eos_ids)
        self._process = ServerProcess(
            command.words(request, port), provider.device if provider.name == "cuda" else None
        )
        limit_s = float(options.get("ready_s") or _READY_S)

        def ask(left_s: float) -> Any:
            return self._client.models(min(_POLL_S, left_s))

        return self._process.wait_until_ready(ask, limit_s)

    def _settings(self, request: LoadRequest, listed: Any) -> dict[str, Any]:
        """What is in force, as far as the server tells it or it is known from elsewhere."""
        about = self._client.choose(listed, request.settings.engine.options.get("model"))
        found = {
            **command.known(request),
            **self._provider(request.settings),
            "kv_cache": True,  # these servers have no other way to decode
            "attention": "the server's own",
            "decode": "generate",
            "server_model": about["id"],
            "started": self._process is not None,
            "pid": self._process.pid if self._process else None,
            **self._client.software(str(about.get("owned_by"))),
            **self._client.probe(),
            "tokens_per_event": 1,
        }
        if isinstance(about.get("max_model_len"), int):
            found["context"] = about["max_model_len"]
        return found

    def _provider(self, settings: Settings) -> dict[str, Json]:
        """Where a started server computes, seen from the device files that it holds open."""
        asked = settings.provider.name
        if self._process is None:
            return {"provider": asked, "provider_told_by": "nobody: declared by provider.name"}
        files = sorted(filter(_GPU_FILE.fullmatch, self._process.open_files()))
        if (asked == "cuda") != bool(files):
            held = ", ".join(files) or "no GPU"
            raise EngineError(f"provider.name={asked}, but the server has opened {held}")
        return {"provider": asked, "provider_told_by": "the server's open device files"}

    def _at_once(self, batch: Batch) -> list[Completion]:
        """One thread per request; the first error ends the waiting."""
        results: queue.SimpleQueue[tuple[int, Completion | Exception]] = queue.SimpleQueue()

        def complete(number: int) -> None:
            try:
                results.put((number, self._client.complete(batch.prompts[number], batch)))
            except Exception as error:  # raised again by who waits
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
    def _told_by_its_end(self) -> Iterator[None]:
        """Add to an error how the server ended, if it did."""
        try:
            yield
        except EngineError as error:
            end = self._process.end(wait_s=1.0) if self._process else None
            if end is None:
                raise
            raise EngineError(f"{error}; {end}") from error


def _shared_pct(prompts: Sequence[tuple[int, ...]]) -> float:
    """Tokens that prompts have in common with the start of the one before, in percent of all.

    Raises:
        EngineError: a prompt is the one before, so nothing of it would be computed.
    """
    shared = 0
    for before, prompt in zip((prompts[-1], *prompts), prompts, strict=False):
        equal = itertools.takewhile(
            lambda pair: pair[0] == pair[1], zip(before, prompt, strict=False)
        )
        same = sum(1 for _ in equal)
        if same == len(prompt):
            raise EngineError(
                "this server does not compute a prompt again that it has just had:"
                " set workload.limit to at least 2, with prompts that differ"
            )
        shared += same
    return 100.0 * shared / sum(map(len, prompts))


def unsupported(settings: Settings) -> str | None:
    """Why these settings cannot run here, or None."""
    engine, provider = settings.engine, settings.provider
    start, url = engine.options.get("command"), engine.options.get("url")
    if bool(start) == bool(url):
        return "engine openai_server: set engine.options.command or engine.options.url, one of both"
    if engine.decode != "generate":
        return "engine openai_server: the server has its own loop; set engine.decode=generate"
    if settings.model.attention != "auto":
        return f"model.attention={settings.model.attention}: the server has its own; use auto"
    for key in ("ready_s", "context"):
        value = engine.options.get(key)
        if value is not None and not (isinstance(value, int | float) and value > 0):
            return f"engine.options.{key}={value} is not a number above 0"
    if provider.name not in ("cpu", "cuda"):
        return f"engine openai_server has no provider {provider.name}: use cpu or cuda"
    reason = command.impossible(settings) if start else _unreachable(settings, str(url))
    if reason is not None or provider.name == "cpu":
        return reason
    return nvidia.missing(provider.device)


def _unreachable(settings: Settings, url: str) -> str | None:
    """Why a running server cannot be used, or None; whether it runs is seen later."""
    try:
        host = Address.of(url).host
    except ValueError as error:
        return f"engine.options.url: {error}"
    if settings.engine.threads is not None:
        return "engine.threads cannot be set on a server that runs already: use null"
    if settings.measurement.mode != "off" and not _is_here(host):
        return (
            f"engine.options.url: {host} is another machine, and this one is metered: run the sweep"
            " there, or set measurement=off"
        )
    return None


def _is_here(host: str) -> bool:
    """Tell whether an address belongs to this machine: only then a socket can be bound to it."""
    try:
        address = socket.gethostbyname(host)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True


ENGINE = EngineSpec(
    name="openai_server",
    packages=("vllm", "llama-cpp-python", "gguf"),
    create=OpenAiServer,
    unsupported=unsupported,
    needs_preparation=command.needs_preparation,
    prepare=command.prepare,
    options={name: () for name in ("server", "command", "url", "model", "context", "ready_s")},
)
