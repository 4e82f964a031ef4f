import dataclasses
import shutil
from pathlib import Path

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
BATCHES = tuple(
    Batch(prompts=prompts, new_tokens=24, stop="fixed") for prompts in ((LONG,), (LONG, SHORT))
)


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


def test_the_compiled_step_generates_torchs_tokens_alone_and_padded(make_request, twin):
    folder = twin("starcoder2-3b")  # its attention has a window
    eager = loaded(make_request("torch", folder=folder))
    engine, added = compile_for(make_request("torch_compile", folder=folder), *BATCHES)
    alone = [*served(eager, LONG), *served(eager, SHORT)]
    assert [*served(engine, LONG), *served(engine, SHORT)] == alone
    assert served(engine, LONG, SHORT) == alone
    assert served(engine, SHORT, new_tokens=1) == [alone[1][:1]]
    assert answers_to_code(engine, alone) == answers_to_code(eager, alone)
    assert added.pop("compile_deviation") < 1e-4
    assert added == {
        "compiled_sizes": [1, 2],
        "cache_places": 48,
        "compile_cache": "miss",
        "recompilation": "refused",
    }
    engine.close()


def answers_to_code(engine: Engine, expected: list[tuple]) -> list[tuple]:
    """What two requests get if the sixth token of the first one ends it."""
    written = {token: f"<{token}>" for ids in expected for token in ids}
    stops = ((written[expected[0][5]],), ("never",))
    batch = dataclasses.replace(BATCHES[1], stop="code", stop_texts=stops, token_texts=written)
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
    with pytest.raises(EngineError, match="the graph compiled from llama differs from torch by"):
        compile_for(target, BATCHES[1])


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


def test_every_trial_compiles_from_the_prepared_cache(make_request, tmp_path):
    base = make_request("torch_compile")
    work = WorkloadConfig(name="w", source="bundled", limit=1, new_tokens=4)
    settings = dataclasses.replace(base.settings, workload=work)
    target = dataclasses.replace(base, settings=settings, cache_path=tmp_path)
    assert ENGINE.needs_preparation(target)
    ENGINE.prepare(target)
    assert not ENGINE.needs_preparation(target)

    (batch,) = the_batches(target)
    assert compile_for(target, batch)[1]["compile_cache"] == "hit"

    for file in entry_of(tmp_path).rglob("*"):
        if file.is_file() and file.name != cache.MANIFEST:
            file.unlink()  # this process has the libraries mapped
            file.write_bytes(b"damaged")
    assert ENGINE.needs_preparation(target)
    engine, added = compile_for(target, batch)
    assert added["compile_cache"] == "miss"
    assert served(engine, *batch.prompts, new_tokens=4) == served(
        loaded(make_request("torch")), *batch.prompts, new_tokens=4
    )


def the_batches(target: LoadRequest) -> list[Batch]:
    shapes = compiled._expected(target)
    return [
        Batch(prompts=((5,) * (shapes.capacity - 4),) * size, new_tokens=4, stop="fixed")
        for size in shapes.sizes
    ]


def entry_of(folder: Path) -> Path:
    (entry,) = cache.entries(folder)
    return entry.path


def test_the_fixed_cache_has_room_for_the_longest_request():
    assert shapes_of({3, 1}, 65) == compiled.Shapes(sizes=(1, 3), capacity=80)
    assert shapes_of({1}, 64).capacity == 64


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"decode": "generate"}, "use engine.decode=session"),
        ({"dtype": "int8"}, "use engine=torch"),
    ],
)
def test_unsupported_settings_name_the_remedy(make_request, changes, reason):
    assert reason in (unsupported(make_request("torch_compile", **changes).settings) or "")


def test_a_machine_without_a_compiler_is_unsupported(make_request, monkeypatch):
    settings = make_request("torch_compile").settings
    assert unsupported(settings) is None
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert "install g++ or clang++" in (unsupported(settings) or "")


def test_an_unknown_provider_is_unsupported(make_request):
    settings = make_request("torch_compile").settings
    other = dataclasses.replace(settings, provider=ProviderConfig(name="tensorrt"))
    assert unsupported(other) == "engine torch_compile has no provider tensorrt: use cpu or cuda"
