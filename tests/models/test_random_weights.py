import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from slm_energy.cache import MANIFEST
from slm_energy.config.groups import ModelConfig, RunConfig
from slm_energy.errors import ModelError
from slm_energy.models import source
from slm_energy.models.folder import context_length, digest, eos_ids
from slm_energy.models.tokenizer import load_tokenizer
from slm_energy.record import TRIAL_FILE
from slm_energy.serialization import write_json
from tests.conftest import a_cell, a_trial
from tests.shipped import TWINS, shipped, tiny

NAME = "pythia-410m"


def built(model: ModelConfig, cache: Path) -> Path:
    source.build(model, cache)
    return source.fetch(model, cache)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def test_the_identity_needs_no_building_and_no_heavy_library(cache):
    script = (
        "import sys, slm_energy.models.source as source, tests.shipped as shipped;"
        f"print(source.identity(shipped.tiny({NAME!r})), 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    identity, heavy = done.stdout.split()
    assert heavy == "False"
    assert identity == built(tiny(NAME), cache).name


def test_the_identity_is_that_of_the_content():
    model = tiny(NAME)
    identity = source.identity(model)
    same = dataclasses.replace(model, name="another", source="elsewhere", attention="eager")
    assert source.identity(same) == identity
    deeper = dataclasses.replace(model, architecture=model.architecture | {"rotary_pct": 0.5})
    others = {source.identity(deeper), source.identity(dataclasses.replace(model, scale="full"))}
    assert len(others | {identity}) == 3


def test_it_is_built_once(cache):
    model = tiny("codegen-350m")
    folder = source.fetch(model, cache)
    assert source.needs_building(model, folder)
    built(model, cache)
    os.utime(folder / MANIFEST, (0, 0))
    assert not source.needs_building(model, folder)
    assert (folder / MANIFEST).stat().st_mtime > 0, "counts as used, so that it stays"
    written = (folder / "model.safetensors").stat().st_mtime_ns
    built(model, cache)
    assert (folder / "model.safetensors").stat().st_mtime_ns == written
    assert not source.needs_building(shipped(NAME), folder)


def test_two_builds_are_the_same_to_the_byte(cache, tmp_path):
    one, two = built(tiny(NAME), cache), built(tiny(NAME), tmp_path)
    assert one != two
    assert digest(one) == digest(two)


def test_a_damaged_model_is_built_again(tmp_path):
    folder = built(tiny(NAME), tmp_path)
    whole = digest(folder)
    (folder / "model.safetensors").write_bytes(b"half")
    assert source.needs_building(tiny(NAME), folder)
    assert digest(built(tiny(NAME), tmp_path)) == whole


def test_every_parameter_has_values_of_its_own(cache):
    from safetensors.torch import load_file

    weights = load_file(built(tiny("tinyllama-1.1b"), cache) / "model.safetensors")
    # Of one kind, so that a scale cannot make them differ.
    starts = {tuple(v.flatten()[:8].tolist()) for name, v in weights.items() if "norm" in name}
    assert len(starts) == 5


@pytest.mark.parametrize("name", TWINS)
def test_transformers_finds_every_parameter_it_wants(cache, name):
    import torch
    from transformers import AutoModelForCausalLM

    folder = built(tiny(name), cache)
    network, told = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True
    )
    assert not any(told.values())
    assert [type(network).__name__] == shipped(name).architecture["architectures"]
    config = json.loads((folder / "config.json").read_text())
    assert config.items() >= {"vocab_size": 4096, "dtype": "bfloat16"}.items()


@pytest.mark.parametrize("name", TWINS)
def test_the_tokenizer_is_the_bundled_models(cache, name):
    folder = built(tiny(name), cache)
    assert eos_ids(folder) == (0,)
    assert context_length(folder) == 512
    text = "def add(a, b):\n    return a + b\n"
    bundled = source.fetch(ModelConfig(name="b", source="bundled"), Path())
    ids = load_tokenizer(folder).encode(text).ids
    assert ids == load_tokenizer(bundled).encode(text).ids


def test_a_child_builds_it(tmp_path, config: RunConfig):
    cell = a_cell(config, model=tiny(NAME))
    write_json(tmp_path / TRIAL_FILE, a_trial(config, cell=cell, cache_path=str(tmp_path)))
    subprocess.run(
        [sys.executable, "-m", "slm_energy.worker", "build", str(tmp_path)],
        check=True,
        capture_output=True,
    )
    assert not source.needs_building(tiny(NAME), source.fetch(tiny(NAME), tmp_path))


def refusal(model: ModelConfig, cache: Path) -> str:
    with pytest.raises(ModelError) as caught:
        source.build(model, cache)
    assert "\n" not in str(caught.value)
    assert not list(cache.glob("random/*/config.json"))
    return str(caught.value)


def test_without_torch_there_are_no_random_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert refusal(tiny(NAME), tmp_path) == (
        "model.weights=random needs torch: pip install 'slm-energy[torch]'"
    )


def test_a_model_without_architecture_has_no_random_weights(tmp_path):
    bundled = ModelConfig(name="bundled", source="bundled", weights="random")
    assert "needs model.architecture, which is empty for bundled" in refusal(bundled, tmp_path)
    with pytest.raises(ModelError, match=r"model\.architecture"):
        source.identity(bundled)


def test_a_vocabulary_must_hold_the_tokenizers(tmp_path):
    model = tiny(NAME)
    small = dataclasses.replace(
        model, scale="full", architecture=model.architecture | {"vocab_size": 4095}
    )
    assert "model.architecture.vocab_size=4095" in refusal(small, tmp_path)


@pytest.mark.parametrize(
    "change", [{"model_type": "nobody_knows"}, {"model_type": "bert", "hidden_act": "nobody_knows"}]
)
def test_what_transformers_cannot_build_is_one_line_and_leaves_nothing(tmp_path, change):
    model = tiny(NAME)
    unknown = dataclasses.replace(model, architecture=model.architecture | change)
    said = refusal(unknown, tmp_path)
    assert f"model.architecture (model_type={change['model_type']})" in said
