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
from slm_energy.engines.base import LoadRequest, find
from slm_energy.models import source
from slm_energy.models.folder import digest, eos_ids
from slm_energy.models.tokenizer import load_tokenizer
from tests.shipped import MODELS, TWINS, tiny

__all__ = ["MODELS", "TWINS"]  # names that `twin` accepts, for tests of every architecture

MakeRequest = Callable[..., LoadRequest]
Twin = Callable[[str], Path]


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
            versions=find(engine).versions(),
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
        "import os\n",
    )
    return tuple(tuple(tokenizer.encode(text).ids) for text in texts)
