import dataclasses
import json
import subprocess
import sys

import pytest

from slm_energy.config.groups import ProviderConfig
from slm_energy.engines.base import Batch, Engine
from slm_energy.engines.torch import trace
from slm_energy.engines.torch.torchscript import ENGINE, unsupported
from slm_energy.errors import EngineError
from slm_energy.serialization import to_plain
from tests.engines.conftest import loaded
from tests.shipped import KINDS

LONG, SHORT = tuple(range(40, 24, -1)), (100, 7, 300, 12)


def served(engine: Engine, *prompts: tuple[int, ...], new_tokens: int = 24) -> list[tuple]:
    batch = Batch(prompts=prompts, new_tokens=new_tokens, stop="fixed")
    return [answer.output_ids for answer in engine.generate(batch)]


@pytest.mark.parametrize("name", KINDS)
def test_a_trace_generates_torchs_tokens_alone_and_padded(make_request, twin, name):
    eager, _ = loaded(make_request("torch", folder=twin(name)))
    traced, effective = loaded(make_request("torchscript", folder=twin(name)))
    alone = [*served(eager, LONG), *served(eager, SHORT)]
    assert [*served(traced, LONG), *served(traced, SHORT)] == alone
    assert served(traced, LONG, SHORT) == alone
    assert served(eager, LONG, SHORT) == alone
    assert effective["trace_deviation"] < 1e-3
    assert effective["unused_weights"] == []
    assert effective["kv_cache"] is True


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_effective_settings_are_read_back(make_request, dtype):
    engine, effective = loaded(make_request("torchscript", dtype=dtype))
    expected = {"provider": "cpu", "dtype": dtype, "threads": 1, "attention": "sdpa"}
    assert expected.items() <= effective.items()
    assert len(served(engine, LONG, new_tokens=3)[0]) == 3


def test_serving_needs_no_transformers(make_request, tmp_path):
    target = make_request("torchscript")
    loaded(target)
    (tmp_path / "settings.json").write_text(json.dumps(to_plain(target.settings)))
    code = f"""
import json, sys
from pathlib import Path
from slm_energy.cell import Settings
from slm_energy.engines.base import Batch, LoadRequest, find
from slm_energy.serialization import from_plain
settings = from_plain(Settings, json.loads(Path({str(tmp_path / "settings.json")!r}).read_text()))
engine = find("torchscript").create()
engine.load(LoadRequest(settings=settings, model_path=Path({str(target.model_path)!r}),
    model_digest={target.model_digest!r}, cache_path=Path({str(target.cache_path)!r}),
    versions={target.versions!r}, eos_ids=()))
engine.generate(Batch(prompts=((5, 6, 7),), new_tokens=2, stop="fixed"))
sys.exit("transformers" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_long_rope_is_traced_with_the_factors_of_shorter_sequences(make_request, twin):
    eager, whole = loaded(make_request("torch", folder=twin("phi-4-mini")))
    traced, effective = loaded(make_request("torchscript", folder=twin("phi-4-mini")))
    assert served(traced, LONG) == served(eager, LONG)
    assert (effective["context"], whole["context"]) == (256, 512)


def test_a_model_that_keeps_states_beside_keys_is_not_traced(make_request, twin):
    with pytest.raises(EngineError, match="lfm2 keeps states besides keys and values"):
        loaded(make_request("torchscript", folder=twin("lfm2-1.2b")))


def test_a_damaged_trace_is_remade(make_request):
    target = make_request("torchscript")
    engine, _ = loaded(target)
    before = served(engine, SHORT)
    graph = trace.entry_path(target) / trace.GRAPH
    graph.write_bytes(graph.read_bytes()[:-1000])
    assert ENGINE.needs_preparation(target)
    assert served(loaded(target)[0], SHORT) == before


def test_a_model_without_a_trace_cannot_be_loaded(make_request, tmp_path):
    target = dataclasses.replace(make_request("torchscript"), cache_path=tmp_path)
    with pytest.raises(EngineError, match="run the prepare step first"):
        ENGINE.create().load(target)


def test_an_unknown_provider_is_unsupported(make_request):
    settings = make_request("torchscript").settings
    other = dataclasses.replace(settings, provider=ProviderConfig(name="tensorrt"))
    assert unsupported(settings) is None
    assert unsupported(other) == "engine torchscript has no provider tensorrt: use cpu or cuda"
