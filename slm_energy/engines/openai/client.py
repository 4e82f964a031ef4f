"""What is asked of a server that speaks OpenAI's completions protocol, and what is checked.

    Client.choose -> probe -> check each prompt once -> complete

Servers differ in what they take (token ids, or text only) and in what they tell; it is found out by
asking. What was asked for is the same for all: greedy, no penalties, nothing kept from earlier
requests.
"""

from __future__ import annotations

import dataclasses
import uuid
from typing import Any

from slm_energy.engines.base import Batch, Completion
from slm_energy.engines.openai.stream import Address, Refused, StreamedCompletion, Usage, usage_of
from slm_energy.engines.openai.token_times import Texts, answer
from slm_energy.errors import EngineError
from slm_energy.serialization import Json

Prompt = tuple[int, ...]

_PROBE = "def add(a, b):\n    return a +"
_KEEPS_LAST = "llama.cpp Python API"
"""This server keeps the keys and values of its last request, does not compute again what the next
prompt shares with it, and cannot be told not to (llama-cpp-python 0.3.36, `Llama.generate`)."""

_GREEDY: dict[str, Json] = {
    "temperature": 0.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "repetition_penalty": 1.0,  # vLLM, whose default may come with the model
    "repeat_penalty": 1.0,  # llama.cpp, whose Python server has 1.1 otherwise
    "cache_prompt": False,  # llama.cpp's own server: compute the whole prompt
}
"""Servers ignore what they do not know. `min_tokens` is left out: it forbids the end-of-text token
instead of passing it, and so changes the text."""

_STREAM: dict[str, Json] = {
    "stream": True,
    "stream_options": {"include_usage": True},
    "return_token_ids": True,  # vLLM
}


class Client:
    """A client of one server, safe to be used by several threads.

    Args:
        address: where it listens.
        texts: of the model's tokens.
        eos_ids: tokens that end a text.
    """

    def __init__(self, address: Address, texts: Texts, eos_ids: tuple[int, ...]) -> None:
        self._address, self._texts, self._eos_ids = address, texts, eos_ids
        self._takes_ids = True
        self._checked: dict[Prompt, Json] = {}

    def models(self, patience_s: float) -> Any:
        """What the server answers to `/v1/models`; None while it is loading.

        Args:
            patience_s: one that is silent for longer is taken for loading.

        Raises:
            Refused: it does not want to be asked.
        """
        try:
            return dataclasses.replace(self._address, patience_s=patience_s).ask("/v1/models")
        except Refused as refusal:
            if refusal.status == 503:
                return None
            raise
        except EngineError:
            return None  # nobody listens or answers yet

    def choose(self, listed: Any, asked: Json) -> dict[str, Any]:
        """Ask for this model from now on, or for the only one.

        Args:
            listed: what `models` returned.
            asked: a name, or None.

        Returns:
            What the server tells of the model.

        Raises:
            EngineError: there is no such model, or there are several.
        """
        try:
            entries = {str(entry["id"]): entry for entry in listed["data"]}
        except (TypeError, KeyError) as error:
            raise EngineError("the server's answer to /v1/models lists no models") from error
        names = ", ".join(entries) or "none"
        if asked is None and len(entries) != 1:
            raise EngineError(f"the server has these models: {names}: choose engine.options.model")
        self._model = next(iter(entries)) if asked is None else str(asked)
        if self._model not in entries:
            raise EngineError(f"engine.options.model={asked}: the server has: {names}")
        chosen: dict[str, Any] = entries[self._model]
        return chosen

    def software(self, owner: str) -> dict[str, Json]:
        """The server's name and version: vLLM tells the version, FastAPI's description both.

        Args:
            owner: of the model, as the server lists it; a name for want of a better one.
        """
        name, version = owner, None
        for path in ("/version", "/openapi.json"):
            try:
                told = self._address.ask(path)
            except EngineError:  # not every server has both
                continue
            if isinstance(told, dict):
                about = told.get("info", told)
                name, version = about.get("title", owner), about.get("version")
                break
        reuse = "last request" if _KEEPS_LAST in name else "not told"
        return {"server": name, "server_version": version, "prompt_reuse": reuse}

    def probe(self) -> dict[str, Json]:
        """Find out what the server takes and tells.

        Raises:
            EngineError: it does not do what can be checked.
        """
        prompt = self._texts.encode(_PROBE)
        try:
            self.check(prompt)
        except Refused:
            self._takes_ids = False
            self.check(prompt)
        seen = self._stream(prompt, Batch(prompts=(prompt,), new_tokens=4, stop="fixed"))
        told = all(piece.ids is not None for piece in seen.pieces)
        if not told:
            self._texts.learn()
        return {
            "prompt": "token ids" if self._takes_ids else "text",
            "output_ids": "told by the server" if told else "looked up by text",
            "output_count": "told by the server" if seen.usage else "meaning of finish_reason",
        }

    def check(self, prompt: Prompt) -> None:
        """Compare the server's count of a prompt's tokens with ours, once for each.

        Raises:
            EngineError: they differ.
        """
        if prompt in self._checked:
            return
        sent: Json = list(prompt) if self._takes_ids else self._texts.prompt(prompt)
        batch = Batch(prompts=(prompt,), new_tokens=1, stop="fixed")
        told = self._address.ask("/v1/completions", self._body(sent, batch))
        _require_same_prompt(usage_of(told), prompt)
        self._checked[prompt] = sent

    def complete(self, prompt: Prompt, batch: Batch) -> Completion:
        """Have one prompt of a batch completed.

        Raises:
            EngineError: the server refused, broke off, or did not do what was asked.
        """
        self.check(prompt)
        completion = self._stream(prompt, batch)
        if completion.usage is not None:
            _require_same_prompt(completion.usage, prompt)
        return answer(completion, batch, self._eos_ids, self._texts)

    def _stream(self, prompt: Prompt, batch: Batch) -> StreamedCompletion:
        return self._address.stream({**self._body(self._checked[prompt], batch), **_STREAM})

    def _body(self, prompt: Json, batch: Batch) -> dict[str, Json]:
        return {
            "model": self._model,
            "prompt": prompt,
            "max_tokens": batch.new_tokens,
            "ignore_eos": batch.stop == "fixed",
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
