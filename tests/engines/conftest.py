"""One request per engine on the bundled model, and one cache of exported graphs for all tests."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from slm_energy.cell import Settings
from slm_energy.config.groups import (
    EngineConfig,
    MeasurementConfig,
    ModelConfig,
    ProviderConfig,
    WorkloadConfig,
)
from slm_energy.engines.base import Batch, Engine, LoadRequest, find
from slm_energy.models import source
from slm_energy.models.folder import digest, eos_ids
from slm_energy.models.token_texts import TokenTexts
from slm_energy.models.tokenizer import load_tokenizer
from tests.shipped import MODELS, TWINS, tiny

__all__ = ["MODELS", "TWINS"]  # names that `twin` accepts, for tests of every architecture

MakeRequest = Callable[..., LoadRequest]
Twin = Callable[[str], Path]


def loaded(target: LoadRequest) -> tuple[Engine, dict]:
    """An engine that has loaded its model, exported first if it must be; and what it said."""
    spec = find(target.settings.engine.name)
    spec.prepare(target)
    engine = spec.create()
    return engine, engine.load(target)


@pytest.fixture(scope="session")
def export_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for all tests, also across parallel workers: exports take seconds."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cache"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def twin(export_cache: Path) -> Twin:
    """The folder of a shipped model's tiny random twin; built on first use."""

    def build(name: str) -> Path:
        model = tiny(name)
        source.build(model, export_cache)
        return source.fetch(model, export_cache)

    return build


@pytest.fixture
def make_request(export_cache: Path) -> MakeRequest:
    """A request to load the bundled model or the model in `folder`, with one thread."""

    def make(
        engine: str, folder: Path | None = None, attention: str = "auto", **changes
    ) -> LoadRequest:
        origin = str(folder) if folder else "bundled"
        model = ModelConfig(name="m", source=origin, attention=attention)  # type: ignore[arg-type]
        path = folder or source.fetch(model, export_cache)
        settings = Settings(
            model=model,
            engine=dataclasses.replace(EngineConfig(name=engine, threads=1), **changes),
            provider=ProviderConfig(name="cpu"),
            measurement=MeasurementConfig(name="off", mode="off"),
            workload=WorkloadConfig(name="w", source="bundled"),
        )
        return LoadRequest(
            settings=settings,
            model_path=path,
            model_digest=digest(path),
            cache_path=export_cache,
            versions=find(engine).versions(settings),
            eos_ids=eos_ids(path),
        )

    return make


@pytest.fixture(scope="session")
def prompts() -> tuple[tuple[int, ...], ...]:
    """Three prompts of unequal length, in tokens of the bundled model."""
    folder = source.fetch(ModelConfig(name="m", source="bundled"), Path())
    tokenizer = load_tokenizer(folder)
    texts = (
        "def add(a, b):\n    return",
        "class Stack:\n    def __init__(self, items",
        "async def name(self):\n    return self",  # its answer ends
    )
    return tuple(tuple(tokenizer.encode(text).ids) for text in texts)


@dataclasses.dataclass(frozen=True)
class CodeEnds:
    """A batch with `stop=code`, and the tokens at which its requests end, by torch's tokens."""

    batch: Batch
    expected: list[tuple[int, ...]]


@pytest.fixture
def code_ends(make_request: MakeRequest, prompts: tuple[tuple[int, ...], ...]) -> CodeEnds:
    """Stop texts that cross tokens, that are one token, and that do not occur."""
    target = make_request("torch")
    engine, _ = loaded(target)
    fixed = Batch(prompts=prompts, new_tokens=24, stop="fixed")
    answers = [answer.output_ids for answer in engine.generate(fixed)]
    engine.close()
    texts = TokenTexts(load_tokenizer(target.model_path))
    stops = ((texts.text(answers[0][3:8])[1:-1],), (texts[answers[1][9]], "never"), ("\a",))
    batch = Batch(prompts=prompts, new_tokens=24, stop="code", stop_texts=stops, token_texts=texts)
    expected = []
    for ids, own in zip(answers, stops, strict=True):
        ends = (
            n
            for n in range(1, 25)
            if ids[n - 1] in target.eos_ids or any(s in texts.text(ids[:n]) for s in own)
        )
        expected.append(ids[: next(ends, 24)])
    assert len({len(ids) for ids in expected}) == 3, "no different ends: the tests show too little"
    return CodeEnds(batch=batch, expected=expected)
