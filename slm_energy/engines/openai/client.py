"""Requests to a server that speaks OpenAI's completions protocol, and checks of its answers.

    Client.choose_model -> probe -> check each prompt once -> complete

Servers differ in what they accept (token ids, or text only) and in what they report; a probe finds
out. The request is the same for all: greedy, no penalties, nothing reused from earlier requests.
"""

from __future__ import annotations

import dataclasses
import time
import uuid
from typing import Any

from slm_energy.engines.base import Aborted, Batch, Completion
from slm_energy.engines.openai import withheld
from slm_energy.engines.openai.loaded import Partial, Streams
from slm_energy.engines.openai.stream import Address, Refused, StreamedCompletion, Usage, usage_of
from slm_energy.engines.openai.token_times import ServedTexts, partial_completion, to_completion
from slm_energy.errors import EngineError
from slm_energy.serialization import Json

Prompt = tuple[int, ...]

_PROBE = "def add(a, b):\n    return a +"
_BUSY_TOKENS = 32
_KEEPS_LAST = "llama.cpp Python API"
"""This server keeps the KV cache of its last request, does not recompute the prefix that the next
prompt shares with it, and has no option against it (llama-cpp-python 0.3.36, `Llama.generate`)."""

_GREEDY: dict[str, Json] = {
    "temperature": 0.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "repetition_penalty": 1.0,  # vLLM, whose default may come with the model
    "repeat_penalty": 1.0,  # llama.cpp, whose Python server defaults to 1.1
    "cache_prompt": False,  # llama.cpp's own server: compute the whole prompt
}
"""Servers ignore unknown fields. `min_tokens` is left out: it forbids the end-of-text token instead
of passing it, and so changes the text."""

_STREAM: dict[str, Json] = {
    "stream": True,
    "stream_options": {"include_usage": True},
    "return_token_ids": True,  # vLLM
}


class Client:
    """A thread-safe client of one server.

    Args:
        address: where the server listens.
        texts: the texts of the model's tokens.
        eos_ids: tokens that end a text.

    Attributes:
        address: where the server listens.
    """

    def __init__(self, address: Address, texts: ServedTexts, eos_ids: tuple[int, ...]) -> None:
        self.address, self._texts, self._eos_ids = address, texts, eos_ids
        self._takes_ids = self._sends_ids = True
        self._checked: dict[Prompt, Json] = {}
        self._whole: dict[Prompt, withheld.Whole] = {}

    def models(self, patience_s: float) -> Any:
        """Return the server's answer to `/v1/models`, or None while it is loading.

        Args:
            patience_s: a server that is silent for longer counts as loading.

        Raises:
            Refused: the answer is an HTTP error other than 503.
        """
        try:
            return dataclasses.replace(self.address, patience_s=patience_s).request("/v1/models")
        except Refused as refusal:
            if refusal.status == 503:
                return None
            raise
        except EngineError:
            return None  # no connection or no response yet

    def choose_model(self, listed: Any, name: Json) -> dict[str, Any]:
        """Select the model of all further requests.

        Args:
            listed: the result of `models`.
            name: the model's name; None selects the only model.

        Returns:
            The server's entry for the model.

        Raises:
            EngineError: there is no such model, or there are several and no name is given.
        """
        try:
            entries = {str(entry["id"]): entry for entry in listed["data"]}
        except (TypeError, KeyError) as error:
            raise EngineError("the server's answer to /v1/models lists no models") from error
        names = ", ".join(entries) or "none"
        if name is None and len(entries) != 1:
            raise EngineError(f"the server has these models: {names}: choose engine.options.model")
        self._model = next(iter(entries)) if name is None else str(name)
        if self._model not in entries:
            raise EngineError(f"engine.options.model={name}: the server has: {names}")
        chosen: dict[str, Any] = entries[self._model]
        return chosen

    def software(self, owner: str) -> dict[str, Json]:
        """Return the server's name and version: vLLM reports the version, FastAPI's schema both.

        Args:
            owner: the model's owner in the server's list, used when no name is reported.
        """
        name, version = owner, None
        for path in ("/version", "/openapi.json"):
            try:
                reply = self.address.request(path)
            except EngineError:  # not every server has both
                continue
            if isinstance(reply, dict):
                info = reply.get("info", reply)
                name, version = info.get("title", owner), info.get("version")
                break
        reuse = "last request" if _KEEPS_LAST in name else "not told"
        return {"server": name, "server_version": version, "prompt_reuse": reuse}

    def probe(self) -> dict[str, Json]:
        """Find out what the server accepts and reports.

        Raises:
            EngineError: an answer fails a check.
        """
        prompt = self._texts.encode(_PROBE)
        try:
            self.check(prompt)
        except Refused:
            self._takes_ids = False
            self.check(prompt)
        completion = self._stream(prompt, Batch(prompts=(prompt,), new_tokens=4, stop="fixed"))
        self._sends_ids = all(piece.ids is not None for piece in completion.pieces)
        if not self._sends_ids:
            self._texts.build_index()
        return {
            "prompt": "token ids" if self._takes_ids else "text",
            "output_ids": "told by the server" if self._sends_ids else "looked up by text",
            "output_count": "told by the server"
            if completion.usage
            else "meaning of finish_reason",
        }

    def keep_busy(self, at_least_s: float) -> None:
        """Request completions, one after another, until this time has passed.

        Raises:
            EngineError: an answer fails a check.
        """
        prompt = self._texts.encode(_PROBE)
        batch = Batch(prompts=(prompt,), new_tokens=_BUSY_TOKENS, stop="fixed")
        until_s = time.monotonic() + at_least_s
        while time.monotonic() < until_s:
            self._stream(prompt, batch)

    def check(self, prompt: Prompt) -> None:
        """Compare the server's count of a prompt's tokens with ours, once per prompt.

        Raises:
            EngineError: the counts differ.
        """
        if prompt in self._checked:
            return
        sent: Json = list(prompt) if self._takes_ids else self._texts.prompt(prompt)
        batch = Batch(prompts=(prompt,), new_tokens=1, stop="fixed")
        reply = self.address.request("/v1/completions", self._body(sent, batch))
        _require_same_prompt(usage_of(reply), prompt)
        self._checked[prompt] = sent

    def prepare(self, request: Batch) -> None:
        """Check a prompt and learn what the server will withhold of its answer, if anything.

        Raises:
            EngineError: as for `check` and `complete`.
        """
        self.check(request.prompts[0])
        if request.stop == "code" and not self._sends_ids:
            self.complete(request)

    def complete(self, request: Batch) -> Completion:
        """Complete one prompt.

        Args:
            request: a batch of one.

        Raises:
            EngineError: the server returned an error, cut the stream, or ignored a parameter.
        """
        (prompt,) = request.prompts
        self.check(prompt)
        return self._answer(request, self._stream(prompt, request))

    async def answer(
        self, request: Batch, at_most_s: float, abort_after_s: float | None, streams: Streams
    ) -> Completion:
        """Complete one prompt that was prepared, while others are in progress.

        Raises:
            Aborted, Refused, EngineError: see `engines.base.Concurrent`.
        """
        (prompt,) = request.prompts
        body = {**self._body(self._checked[prompt], request), **_STREAM}
        try:
            return self._answer(request, await streams.complete(body, at_most_s, abort_after_s))
        except Partial as partial:
            raise Aborted(partial_completion(partial.completion, self._texts)) from partial

    def _answer(self, request: Batch, completion: StreamedCompletion) -> Completion:
        (prompt,) = request.prompts
        if completion.usage is not None:
            _require_same_prompt(completion.usage, prompt)
        made = self._tokens(request, completion)
        return dataclasses.replace(made, decode_ns=completion.decode_ns)

    def _tokens(self, request: Batch, completion: StreamedCompletion) -> Completion:
        (prompt,) = request.prompts
        if request.stop != "code" or self._sends_ids or completion.finish != "stop":
            return to_completion(completion, request, self._eos_ids, self._texts)
        if prompt not in self._whole:
            longer = withheld.longer(request, completion)
            shown = self._stream(prompt, longer)
            ids = to_completion(shown, longer, self._eos_ids, self._texts).output_ids
            self._whole[prompt] = withheld.whole(ids, request, self._eos_ids, self._texts)
        return withheld.stamped(self._whole[prompt], completion)

    def _stream(self, prompt: Prompt, batch: Batch) -> StreamedCompletion:
        body = self._body(self._checked[prompt], batch)
        try:
            return self.address.stream({**body, **_STREAM})
        except Refused as refusal:
            if "stop" not in body:
                raise
            raise EngineError(
                f"{refusal}; workload.stop=code sends {len(batch.stop_texts[0])} stop texts:"
                " set workload.stop=eos if the server accepts fewer"
            ) from refusal

    def _body(self, prompt: Json, batch: Batch) -> dict[str, Json]:
        stop: dict[str, Json] = {}
        if batch.stop == "code" and batch.stop_texts[0]:
            stop["stop"] = list(self._texts.stop_texts(batch.stop_texts[0]))
            stop["include_stop_str_in_output"] = True  # vLLM: withhold nothing meanwhile
        return {
            **stop,
            "model": self._model,
            "prompt": prompt,
            "max_tokens": batch.new_tokens,
            "ignore_eos": batch.stop == "fixed",
            # vLLM: a middle ends with other tokens than a text.
            "stop_token_ids": [] if batch.stop == "fixed" else list(self._eos_ids),
            "cache_salt": uuid.uuid4().hex,  # vLLM: share nothing with earlier requests
            **_GREEDY,
        }


def _require_same_prompt(usage: Usage, prompt: tuple[int, ...]) -> None:
    if usage.prompt != len(prompt):
        raise EngineError(
            f"the server counts {usage.prompt} tokens in a prompt of {len(prompt)}: its"
            " tokenizer differs, or it adds a token at the start"
        )
    if usage.cached:
        raise EngineError(
            f"the server kept {usage.cached} tokens of a prompt from an earlier request: switch"
            " off its prefix cache (vLLM: --no-enable-prefix-caching)"
        )
