"""The command that starts a server: its placeholders, the files it needs, the settings it implies.

A placeholder is replaced by a value of this trial's settings, so what the server was given is
known. Doubled braces are literal braces.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import math
import os
import shlex
import shutil
import socket
import string
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slm_energy import cache, extras
from slm_energy.cell import Settings
from slm_energy.engines import precision
from slm_energy.engines.base import LoadRequest, threads
from slm_energy.engines.llama_cpp import engine as llama_cpp
from slm_energy.engines.llama_cpp import gguf_export
from slm_energy.engines.llama_cpp.bindings import GGML_TYPES
from slm_energy.errors import EngineError
from slm_energy.models import gguf_file
from slm_energy.models.architecture import cached_numbers
from slm_energy.models.folder import context_length, read_json
from slm_energy.models.tokenizer import load_tokenizer
from slm_energy.serialization import Json, write_json

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_GGUF_STOPS = {
    "fixed": "tokenizer.ggml.model=str:no_vocab",
    "eos": "tokenizer.ggml.add_bos_token=bool:false",
    "code": "tokenizer.ggml.add_bos_token=bool:false",
}
"""Overrides of the file's metadata for llama.cpp. A model without a vocabulary has no end-of-text
token and is never stopped by one; the other override repeats the file's own value."""

_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_BLOCK = 128
"""Tokens of a block of vLLM's cache on a processor, the largest that it uses; one stays empty."""
_OPEN_SEQUENCES = 32
"""That fill the cache of an open load; as few are that long, several times as many fit in."""

_VALUES: dict[str, Callable[[LoadRequest], object]] = {
    "python": lambda request: sys.executable,
    "model": lambda request: request.model_path,
    "dtype": lambda request: _dtype(request.settings),
    "threads": lambda request: threads(request.settings),
    "processors": lambda request: ",".join(map(str, processors(threads(request.settings)))),
    "cache_bytes": lambda request: cache_bytes(request),
    "context": lambda request: context(request),
    "gguf": lambda request: gguf_export.cache_folder(request) / gguf_export.FILE,
    "gguf_stop": lambda request: _GGUF_STOPS[request.settings.workload.stop],
    "ggml_type": lambda request: GGML_TYPES[llama_cpp.cache_type(request.settings.engine.dtype)],
    "tokenizer": lambda request: tokenizer_folder(request),
}
_PORT = "port"


def arguments(request: LoadRequest, port: int) -> list[str]:
    """Return the command's words with all placeholders filled in; a value is never split."""
    command = _command(request.settings)
    values = {name: _VALUES[name](request) for name in placeholders(command) - {_PORT}}
    return [word.format(**values, port=port) for word in shlex.split(command)]


def placeholders(command: str) -> set[str]:
    """Return the names in single braces.

    Raises:
        ValueError: a brace or a quote is not closed.
    """
    names = {name for _, name, _, _ in string.Formatter().parse(command) if name is not None}
    shlex.split(command)
    return names


def unsupported(settings: Settings) -> str | None:
    """Return why the command cannot run here, or None."""
    key, engine = "engine.options.command", settings.engine
    try:
        named = placeholders(_command(settings))
    except ValueError as error:
        return f"{key} cannot be read: {error}"
    if unknown := sorted(named - {*_VALUES, _PORT}):
        known = ", ".join(sorted({*_VALUES, _PORT}))
        return f"{key} has the unknown placeholder {{{unknown[0]}}}; known: {known}"
    if _PORT not in named:
        return f"{key} has no {{port}}: the server would listen on another port"
    if engine.threads is not None and not _sets_threads(settings):
        where = " for a GPU" if "processors" in named else ""
        return f"engine.threads={engine.threads}, but {key} has no {{threads}}{where}"
    if engine.dtype in precision.BITS and "dtype" in named:
        return (
            f"engine.dtype={engine.dtype}: servers accept only floating-point types for {{dtype}}"
        )
    if "gguf" in named:
        if lacking := extras.missing("llama_cpp", "llama_cpp", "gguf"):
            return f"{key} has {{gguf}}, which needs {lacking}"
        if refused := llama_cpp.cannot_make(settings):
            return refused
    elif gguf_file.is_file(settings.model.source):
        return f"model.source is a GGUF file, but {key} has no {{gguf}}"
    elif (scheme := engine.options.get("scheme", "auto")) != "auto":
        return f"engine.options.scheme={scheme}: {key} has no {{gguf}}"
    return _missing(shlex.split(_command(settings)))


def implied(request: LoadRequest) -> dict[str, Json]:
    """Return settings that the server does not report, and the source they are known from."""
    named = placeholders(_command(request.settings))
    sets_dtype, sets_threads = named & {"dtype", "gguf"}, _sets_threads(request.settings)
    settings: dict[str, Json] = {
        "dtype": request.settings.engine.dtype,
        "dtype_told_by": "the command" if sets_dtype else "nobody: declared by engine.dtype",
        "threads": threads(request.settings) if sets_threads else None,
        "threads_requested": threads(request.settings) if sets_threads else None,
        "context": context(request) if "context" in named else context_length(request.model_path),
    }
    if "gguf" in named:
        facts = _gguf_facts(request)
        kept = ("matrices", "weights", "scheme", "fallback_tensors", "unused_weights")
        settings |= {key: facts[key] for key in kept if key in facts}
        settings["export_deviation"] = facts["deviation"]
    return settings


def needs_preparation(request: LoadRequest) -> bool:
    """Return whether a file that the command uses must be created first."""
    named = placeholders(_command(request.settings))
    return ("gguf" in named and llama_cpp.ENGINE.needs_preparation(request)) or (
        "tokenizer" in named and not cache.intact(tokenizer_folder(request))
    )


def prepare(request: LoadRequest) -> None:
    """Create the files that the command uses.

    Raises:
        EngineError: a model cannot be written as GGUF.
    """
    named = placeholders(_command(request.settings))
    if "gguf" in named:
        llama_cpp.ENGINE.prepare(request)
    if "tokenizer" in named:
        cache.make(
            tokenizer_folder(request),
            _tokenizer_identity(request),
            lambda to: _write_tokenizer(request, to),
            request.settings.model.name,
        )


def context(request: LoadRequest) -> int:
    """Return the value of `{context}`: the model's context, cut to `engine.options.context`.

    llama.cpp's is shorter where it does not slide the window of attention.

    Raises:
        EngineError: neither is known.
    """
    lengths = (
        context_length(request.model_path),
        request.settings.engine.options.get("context"),
        _gguf_facts(request).get("context"),
    )
    known_lengths = [int(length) for length in lengths if length is not None]
    if not known_lengths:
        raise EngineError("the model names no context for {context}: set engine.options.context")
    return min(known_lengths)


def _gguf_facts(request: LoadRequest) -> dict[str, Any]:
    """What is known of the GGUF file in the command; empty without one."""
    if "gguf" not in placeholders(_command(request.settings)):
        return {}
    return cache.facts(gguf_export.cache_folder(request))


def cache_bytes(request: LoadRequest) -> int:
    """Return the value of `{cache_bytes}`: the cache of all sequences that are served at once.

    Each may be as long as `{context}`. There are as many as a batch has, or as there are clients;
    in an open load, 32.

    Raises:
        EngineError: config.json does not tell how much a token takes.
    """
    settings = request.settings
    numbers = cached_numbers(read_json(request.model_path / "config.json"))
    if numbers is None:
        raise EngineError(
            "config.json does not tell the size of the cache: write a number of bytes for"
            " {cache_bytes} in engine.options.command"
        )
    sequences = {"batch": settings.workload.batch_size, "closed": settings.load.clients}
    blocks = math.ceil(context(request) / _BLOCK)
    count = blocks * sequences.get(settings.load.mode, _OPEN_SEQUENCES) + 1
    return numbers * _BYTES.get(settings.engine.dtype, 4) * _BLOCK * count


def processors(count: int) -> list[int]:
    """Return the processors to bind this many threads to: each core's first ones before others.

    More threads than may be used here share processors.
    """
    firsts, others, cores = list[int](), list[int](), set[str]()
    for number in sorted(os.sched_getaffinity(0)):
        core = _siblings(number)
        (others if core in cores else firsts).append(number)
        cores.add(core)
    return list(itertools.islice(itertools.cycle([*firsts, *others]), count))


def _siblings(number: int) -> str:
    """The processors of one core, as the kernel lists them (admin-guide/cputopology.rst)."""
    file = Path(f"/sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list")
    return file.read_text(encoding="ascii").strip() if file.is_file() else str(number)


def programs(settings: Settings) -> dict[str, str]:
    """Identify the program that the command starts by its content, if no package brings it.

    Returns:
        `bin/NAME` and a digest; empty for an interpreter, and for programs beside this one, which
        are scripts of its packages.
    """
    program = _program(settings)
    found = shutil.which(program, path=search_path()) if program else None
    if found is None or Path(found).parent == Path(sys.executable).parent:
        return {}
    return {f"bin/{Path(found).name}": cache.file_digest(Path(found))[:12]}


def _program(settings: Settings) -> str | None:
    """The first word of the command, or the first after `env` and its variables."""
    try:
        words = shlex.split(_command(settings))
    except ValueError:  # `unsupported` tells of it
        return None
    if words[:1] == ["env"]:
        words = list(itertools.dropwhile(lambda word: "=" in word, words[1:]))
    return words[0] if words and words[0] != "{python}" else None


def _dtype(settings: Settings) -> str:
    """What servers call the type: a checkpoint that is served as it is stored names its own."""
    return "auto" if settings.engine.dtype == precision.STORED else settings.engine.dtype


def _sets_threads(settings: Settings) -> bool:
    """Whether the command says how many threads compute; a bound processor is none of a GPU."""
    named = placeholders(_command(settings))
    return "threads" in named or ("processors" in named and settings.provider.name == "cpu")


def free_port() -> int:
    """Return an unused port of the loopback interface."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def search_path() -> str:
    """Return PATH with the programs of this interpreter's packages first."""
    return os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))


def served_tokenizer(request: LoadRequest) -> Tokenizer | None:
    """Return the tokenizer that the server decodes with; None means the model's."""
    if "tokenizer" not in placeholders(_command(request.settings)):
        return None
    return load_tokenizer(tokenizer_folder(request))


def tokenizer_folder(request: LoadRequest) -> Path:
    """Return the folder of the model's tokenizer, changed so that a text shows all its tokens.

    Special tokens are kept, and a token is written as its entry in the vocabulary, which is text
    even where the token is part of a character. The folder holds nothing else: other files of a
    model could make transformers clean up a text, or add tokens that tokenizer.json does not.
    """
    return cache.place(request.cache_path, "tokenizer", _tokenizer_identity(request))


def _tokenizer_identity(request: LoadRequest) -> dict[str, Json]:
    return {"model": request.model_digest, "recipe": 1}


def _write_tokenizer(request: LoadRequest, folder: Path) -> dict[str, Json]:
    tokenizer = json.loads(load_tokenizer(request.model_path).to_str())
    tokenizer["decoder"] = {"type": "Fuse"}
    for token in tokenizer["added_tokens"]:
        token["special"] = False
    write_json(folder / "tokenizer.json", tokenizer)
    plain = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    write_json(folder / "tokenizer_config.json", plain)
    return {}


def _command(settings: Settings) -> str:
    return str(settings.engine.options.get("command") or "")


def _missing(command: list[str]) -> str | None:
    """Return which program or Python module a command needs and this machine lacks, or None."""
    lacks = "engine.options.command: there is no {}: install it, or set engine.python"
    program = command[0]
    if program != "{python}" and shutil.which(program, path=search_path()) is None:
        return lacks.format(f"program {program}")
    for first, second, module in zip(command, command[1:], command[2:], strict=False):
        top = module.partition(".")[0]
        if (first, second) == ("{python}", "-m") and importlib.util.find_spec(top) is None:
            return lacks.format(f"Python module {top}")
    return None
