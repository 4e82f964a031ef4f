import dataclasses
import os
import re
import sys
from pathlib import Path

import pytest
import transformers

from slm_energy.config.groups import LoadConfig, ProviderConfig
from slm_energy.engines.base import LoadRequest
from slm_energy.engines.openai import command
from slm_energy.engines.openai.engine import ENGINE
from slm_energy.errors import EngineError
from slm_energy.models.tokenizer import load_tokenizer

RUN = "{python} -m slm_energy.testing.completions --port {port}"


@pytest.fixture
def target(make_request):
    """A request whose server has this command."""

    def make(words: str, **changes) -> LoadRequest:
        options = {"command": words, **changes.pop("options", {})}
        return make_request("openai_server", decode="generate", options=options, **changes)

    return make


def test_placeholders_stand_for_what_the_trial_asks(target):
    found = target(
        RUN + " {model} {dtype} {threads} {context} {ggml_type}", threads=2, dtype="float16"
    )
    words = command.arguments(found, 1234)
    assert words[:5] == [sys.executable, "-m", "slm_energy.testing.completions", "--port", "1234"]
    assert words[5:] == [str(found.model_path), "float16", "2", "512", "1"]


def test_a_value_with_a_space_stays_one_word(target, tmp_path):
    found = dataclasses.replace(target("serve --model={model} '{{}}'"), model_path=tmp_path / "a b")
    assert command.arguments(found, 1) == ["serve", f"--model={tmp_path}/a b", "{}"]


@pytest.mark.parametrize(("asked", "given"), [(None, 512), (128, 128), (4096, 512)])
def test_the_context_is_the_models_cut_to_the_option(target, asked, given):
    found = target(RUN + " {context}", options={"context": asked})
    assert command.implied(found)["context"] == given


def test_the_cache_holds_all_sequences_that_are_served_at_once(target):
    """Five layers of 4 key-value heads of 32 numbers, in blocks of 128 tokens, and an empty one."""
    found = target(RUN + " {cache_bytes}", options={"context": 200})
    token = 2 * 5 * 4 * 32 * 4
    assert command.cache_bytes(found) == token * 128 * (2 * 1 + 1)

    def under(**changes) -> int:
        return command.cache_bytes(
            dataclasses.replace(found, settings=dataclasses.replace(found.settings, **changes))
        )

    settings = found.settings
    of_four = dataclasses.replace(settings.workload, batch_size=4)
    assert under(workload=of_four) == token * 128 * (2 * 4 + 1)
    clients = LoadConfig(name="closed", mode="closed", clients=8)
    assert under(load=clients) == token * 128 * (2 * 8 + 1)
    assert under(load=LoadConfig(name="open", mode="open", rate=1.0)) == token * 128 * (2 * 32 + 1)
    half = dataclasses.replace(settings.engine, dtype="bfloat16")
    assert under(engine=half) == token // 2 * 128 * (2 * 1 + 1)


def test_a_cache_of_unknown_size_must_be_written_down(target, tmp_path):
    (tmp_path / "config.json").write_text('{"max_position_embeddings": 512}')
    found = dataclasses.replace(target(RUN + " {cache_bytes}"), model_path=tmp_path)
    with pytest.raises(EngineError, match=r"write a number of bytes for \{cache_bytes\}"):
        command.arguments(found, 1)


def test_threads_are_bound_to_processors_that_may_be_used():
    usable = sorted(os.sched_getaffinity(0))
    assert sorted(command.processors(len(usable))) == usable
    assert set(command.processors(1)) <= set(usable)
    assert len(command.processors(len(usable) + 3)) == len(usable) + 3


def test_bound_processors_are_the_threads_of_a_processor_and_not_of_a_gpu(target):
    found = target("env BIND={processors} " + RUN, threads=2)
    assert command.arguments(found, 1)[1] == f"BIND={','.join(map(str, command.processors(2)))}"
    assert command.unsupported(found.settings) is None
    assert command.implied(found)["threads_requested"] == 2
    gpu = dataclasses.replace(found.settings, provider=ProviderConfig(name="cuda"))
    assert "has no {threads} for a GPU" in str(command.unsupported(gpu))
    assert command.implied(dataclasses.replace(found, settings=gpu))["threads"] is None


def test_a_stored_checkpoint_keeps_its_own_type(target):
    assert command.arguments(target(RUN + " {dtype}", dtype="stored"), 1)[-1] == "auto"


def test_a_program_that_no_package_brings_is_known_by_its_content(target, tmp_path, monkeypatch):
    """So two builds of llama.cpp's own server are two cells, as two versions of a package are."""
    program = tmp_path / "llama-server"
    monkeypatch.setenv("PATH", str(tmp_path))

    def built(text: str, words: str = "env A=1 llama-server --port {port}") -> dict[str, str]:
        program.write_text(text)
        program.chmod(0o755)
        return ENGINE.versions(target(words).settings)

    one, other = built("#!/bin/sh\n"), built("#!/bin/sh\necho 2\n")
    assert one["bin/llama-server"] != other["bin/llama-server"]
    assert one == built("#!/bin/sh\n")
    assert "bin/llama-server" not in built("", RUN)
    assert ENGINE.versions().keys() == one.keys() - {"bin/llama-server"}


def test_an_unknown_context_must_be_set(target, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    found = dataclasses.replace(target(RUN + " {context}"), model_path=tmp_path)
    with pytest.raises(EngineError, match=r"set engine\.options\.context"):
        command.arguments(found, 1)


@pytest.mark.parametrize(
    ("words", "changes", "reason"),
    [
        (
            RUN + " {gguff}",
            {},
            r"unknown placeholder \{gguff\}; known: cache_bytes, context, dtype",
        ),
        (RUN + " {", {}, "cannot be read"),
        (RUN + " '", {}, "cannot be read: No closing quotation"),
        ("{python} -m http.server", {}, r"has no \{port\}"),
        (RUN, {"threads": 2}, r"engine\.threads=2, but .* has no \{threads\}"),
        (RUN + " {dtype}", {"dtype": "int8"}, r"engine\.dtype=int8: servers accept only floating"),
        ("no-such-server {port}", {}, "there is no program no-such-server: install it"),
        ("{python} -m no_such_server.cli {port}", {}, "no Python module no_such_server: install"),
        ("env A=1 {python} -m no_such_server {port}", {}, "no Python module no_such_server"),
    ],
)
def test_a_command_that_cannot_run_has_a_reason(target, words, changes, reason):
    found = command.unsupported(target(words, **{"threads": None, **changes}).settings)
    assert found is not None
    assert re.search(reason, found), found


def test_a_ready_file_needs_its_placeholder(target):
    settings = target(RUN, dtype="stored", threads=None).settings
    settings = dataclasses.replace(
        settings, model=dataclasses.replace(settings.model, source="model.gguf")
    )
    assert "has no {gguf}" in str(command.unsupported(settings))
    engine = dataclasses.replace(settings.engine, options={"command": RUN + " {gguf}"})
    assert command.unsupported(dataclasses.replace(settings, engine=engine)) is None


def test_a_scheme_needs_the_file_that_it_is_of(target):
    settings = target(RUN, dtype="int4", threads=None, options={"scheme": "q4_0"}).settings
    assert "engine.options.scheme=q4_0: " in str(command.unsupported(settings))


def test_a_command_that_can_run_has_none(target):
    assert command.unsupported(target(RUN, threads=None).settings) is None
    shell = "sh -c 'echo {port}'"
    assert command.unsupported(target(shell, threads=None).settings) is None


def test_programs_beside_the_interpreter_are_found_first(monkeypatch):
    monkeypatch.setenv("PATH", "/usr/bin")
    places = command.search_path().split(os.pathsep)
    assert places == [str(Path(sys.executable).parent), "/usr/bin"]


def test_what_the_command_says_of_a_setting_is_known_from_it(target):
    implied = command.implied(target(RUN + " {dtype} {threads}", threads=3))
    assert (implied["dtype"], implied["dtype_told_by"], implied["threads"]) == (
        "float32",
        "the command",
        3,
    )
    silent = command.implied(target(RUN))
    assert silent["dtype_told_by"] == "nobody: declared by engine.dtype"
    assert silent["threads"] is None


def test_the_tokenizer_is_made_once_and_shows_every_token(target, tmp_path):
    """Prompts are the model's; in a text that transformers makes, every token is its entry."""
    found = dataclasses.replace(target(RUN + " {tokenizer}"), cache_path=tmp_path)
    assert command.needs_preparation(found)
    command.prepare(found)
    assert not command.needs_preparation(found)
    folder = command.tokenizer_folder(found)
    written = transformers.AutoTokenizer.from_pretrained(folder)
    own = load_tokenizer(found.model_path)
    ids = own.encode("def f(x) :\n    return x , 1<|endoftext|>é").ids
    assert written.encode("def f(x) :\n    return x , 1<|endoftext|>é") == ids
    shown = written.decode(ids, skip_special_tokens=True)
    assert shown == "".join(own.id_to_token(number) for number in ids)
    assert command.served_tokenizer(found).decode(ids) == shown


def test_without_that_placeholder_texts_are_the_models(target):
    assert command.served_tokenizer(target(RUN)) is None


@pytest.mark.parametrize(
    ("stop", "override"),
    [
        ("fixed", "tokenizer.ggml.model=str:no_vocab"),
        ("eos", "tokenizer.ggml.add_bos_token="),
        ("code", "tokenizer.ggml.add_bos_token="),
    ],
)
def test_llama_cpp_is_kept_from_stopping_only_where_the_length_is_fixed(target, stop, override):
    found = target(RUN + " {gguf_stop}")
    settings = found.settings
    workload = dataclasses.replace(settings.workload, stop=stop)
    found = dataclasses.replace(found, settings=dataclasses.replace(settings, workload=workload))
    assert command.arguments(found, 1)[-1].startswith(override)
