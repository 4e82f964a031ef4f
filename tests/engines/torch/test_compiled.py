import dataclasses
import shutil

import pytest
import torch

from slm_energy import cache
from slm_energy.config.groups import ProviderConfig, WorkloadConfig
from slm_energy.engines.base import Batch, Compiles, Engine, LoadRequest, find
from slm_energy.engines.torch import compiled
from slm_energy.engines.torch.compiled import ENGINE, shapes_of, unsupported
from slm_energy.engines.torch.explicit_forward import ExplicitForward
from slm_energy.errors import EngineError

# Inductor uses functions that torch deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated")

LONG, SHORT = tuple(range(40, 24, -1)), (100, 7, 300, 12)


def loaded(target: LoadRequest) -> Engine:
    engine = find(target.settings.engine.name).create()
    engine.load(target)
    return engine


def compile_for(target: LoadRequest, *batches: Batch) -> tuple[Engine, dict]:
    engine = loaded(target)
    assert isinstance(engine, Compiles)
    return engine, engine.compile(batches) or {}


def served(engine: Engine, *prompts: tuple[int, ...], new_tokens: int = 24) -> list[tuple]:
    batch = Batch(prompts=prompts, new_tokens=new_tokens, stop="fixed")
    return [answer.output_ids for answer in engine.generate(batch)]


def test_a_trial_compiles_from_the_prepared_cache_and_generates_torchs_tokens_alone_and_padded(
    make_request, twin, tmp_path, monkeypatch
):
    # Inductor believes the processor instead of compiling a program for each vector extension.
    monkeypatch.setattr("torch._inductor.config.cpp.vec_isa_ok", True)
    folder = twin("starcoder2-3b")  # its attention has a window
    base = make_request("torch_compile", folder=folder)
    work = WorkloadConfig(name="w", source="bundled", limit=3, batch_size=2, new_tokens=24)
    settings = dataclasses.replace(base.settings, workload=work)
    target = dataclasses.replace(base, settings=settings, cache_path=tmp_path)
    assert ENGINE.needs_preparation(target)
    ENGINE.prepare(target)
    assert not ENGINE.needs_preparation(target)
    (entry,) = cache.entries(tmp_path)
    prepared = cache.facts(entry.path)
    assert prepared.pop("compile_deviation") < 1e-4
    shapes = compiled._expected(target)
    assert prepared == {
        "compiled_sizes": [1, 2],
        "cache_places": shapes.capacity,
        "compile_cache": "miss",
        "recompilation": "refused",
    }

    eager = loaded(make_request("torch", folder=folder))
    engine, added = compile_for(target, *batches_of(shapes, new_tokens=24))
    assert added.pop("compile_deviation") < 1e-4
    assert added == {**prepared, "compile_cache": "hit"}
    alone = [*served(eager, LONG), *served(eager, SHORT)]
    assert [*served(engine, LONG), *served(engine, SHORT)] == alone
    assert served(engine, LONG, SHORT) == alone
    assert served(engine, SHORT, new_tokens=1) == [alone[1][:1]]
    assert answers_to_code(engine, alone) == answers_to_code(eager, alone)
    engine.close()

    for file in entry.path.rglob("*"):
        if file.is_file() and file.name != cache.MANIFEST:
            file.unlink()  # this process has the libraries mapped
            file.write_bytes(b"damaged")
    assert ENGINE.needs_preparation(target)


def batches_of(shapes: compiled.Shapes, new_tokens: int) -> list[Batch]:
    """Batches that need these shapes."""
    longest = (5,) * (shapes.capacity - new_tokens)
    return [
        Batch(prompts=(longest,) * size, new_tokens=new_tokens, stop="fixed")
        for size in shapes.sizes
    ]


def answers_to_code(engine: Engine, expected: list[tuple]) -> list[tuple]:
    """What two requests get if the sixth token of the first one ends it."""
    written = {token: f"<{token}>" for ids in expected for token in ids}
    stops = ((written[expected[0][5]],), ("never",))
    batch = Batch(
        prompts=(LONG, SHORT), new_tokens=24, stop="code", stop_texts=stops, token_texts=written
    )
    answers = [answer.output_ids for answer in engine.generate(batch)]
    assert len(answers[0]) <= 6
    assert len(answers[1]) == 24
    return answers


def see_padding(explicit, keys, positions, unpadded):
    """A mask that ignores where each request's tokens begin."""
    return torch.zeros(len(unpadded), 1, len(positions), len(keys)).masked_fill(
        keys > positions[:, None], torch.finfo(torch.float32).min
    )


def test_a_compiled_step_that_computes_something_else_is_refused(make_request, twin, monkeypatch):
    target = make_request("torch_compile", folder=twin("tinyllama-1.1b"))
    monkeypatch.setattr(ExplicitForward, "_masks", see_padding)
    monkeypatch.setattr(torch, "compile", lambda step, **_: step)  # just as wrong, and quicker
    with pytest.raises(EngineError, match="the graph compiled from llama differs from torch by"):
        compile_for(target, Batch(prompts=(LONG, SHORT), new_tokens=24, stop="fixed"))


def test_a_graph_compiled_on_another_processor_is_not_used(make_request, monkeypatch):
    target, shapes = make_request("torch_compile"), shapes_of({1}, 16)
    original = compiled.identity(target, shapes)
    monkeypatch.setattr(compiled, "processor", lambda: "another processor")
    assert compiled.identity(target, shapes) != original


def test_a_shape_that_was_not_compiled_is_refused_while_serving(make_request):
    engine = loaded(make_request("torch_compile"))
    engine._caches = {}  # as if nothing had been compiled
    with pytest.raises(EngineError, match="not compiled for 2 prompts and 40 tokens"):
        served(engine, LONG, SHORT)


def test_the_fixed_cache_has_room_for_the_longest_request():
    assert shapes_of({3, 1}, 65) == compiled.Shapes(sizes=(1, 3), capacity=80)
    assert shapes_of({1}, 64).capacity == 64


def test_a_machine_without_a_compiler_is_unsupported(make_request, monkeypatch):
    settings = make_request("torch_compile").settings
    assert unsupported(settings) is None
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert "install g++ or clang++" in (unsupported(settings) or "")


def test_an_unknown_provider_is_unsupported(make_request):
    settings = make_request("torch_compile").settings
    other = dataclasses.replace(settings, provider=ProviderConfig(name="tensorrt"))
    assert unsupported(other) == "engine torch_compile has no provider tensorrt: use cpu or cuda"
