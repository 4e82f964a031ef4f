import dataclasses
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers import models as tokenizer_models

from slm_energy.config.groups import ModelConfig
from slm_energy.errors import ModelError
from slm_energy.models import source

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def config(source: object, **changes) -> ModelConfig:
    return dataclasses.replace(ModelConfig(name="m", source=str(source)), **changes)


def write_model(folder: Path, **entries) -> Path:
    """A folder that has all the files of a causal language model, and nothing in them."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"} | entries
    (folder / "config.json").write_text(json.dumps(entries))
    (folder / "model.safetensors").write_bytes(b"weights")
    tokenizer = Tokenizer(tokenizer_models.WordLevel({"a": 0, "b": 1, "?": 2}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.enable_truncation(2)
    tokenizer.enable_padding(length=8)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def refusal(model: ModelConfig) -> str:
    with pytest.raises(ModelError) as caught:
        source.fetch(model, Path())
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_bundled_model_is_found_and_needs_no_heavy_import():
    folder = source.fetch(config("bundled"), Path())
    assert source.context_length(folder) == 512
    assert source.eos_ids(folder) == (0,)


def test_a_local_folder_is_returned_as_an_absolute_path(tmp_path, monkeypatch):
    write_model(tmp_path / "here")
    monkeypatch.chdir(tmp_path)
    assert source.fetch(config("./here"), Path()) == tmp_path / "here"


def test_a_missing_folder_is_named(tmp_path):
    assert f"there is no folder {tmp_path / 'gone'}" in refusal(config(tmp_path / "gone"))


def test_a_folder_without_config_is_refused(tmp_path):
    assert "config.json is missing" in refusal(config(tmp_path))


def test_a_broken_config_is_refused(tmp_path):
    write_model(tmp_path)
    (tmp_path / "config.json").write_text("{")
    assert "is not JSON" in refusal(config(tmp_path))


@pytest.mark.parametrize("classes", [["BertForMaskedLM"], [], ["T5ForConditionalGeneration"]])
def test_what_is_not_a_causal_language_model_is_refused(tmp_path, classes):
    write_model(tmp_path, architectures=classes)
    assert "is not a causal language model" in refusal(config(tmp_path))


def test_gpt2_names_its_class_differently(tmp_path):
    write_model(tmp_path, architectures=["GPT2LMHeadModel"])
    assert source.fetch(config(tmp_path), Path()) == tmp_path


def test_a_missing_tokenizer_is_refused(tmp_path):
    write_model(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    assert "has no tokenizer" in refusal(config(tmp_path))


def test_pickled_weights_are_refused_unless_allowed(tmp_path):
    write_model(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    assert "set model.allow_pickle=true" in refusal(config(tmp_path))
    assert source.fetch(config(tmp_path, allow_pickle=True), Path()) == tmp_path


def test_missing_weights_are_refused(tmp_path):
    write_model(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    assert "no complete safetensors weights" in refusal(config(tmp_path))


def test_every_part_of_split_weights_must_be_there(tmp_path):
    write_model(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "part-1.safetensors")
    index = {"weight_map": {"a": "part-1.safetensors", "b": "part-2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "no complete safetensors weights" in refusal(config(tmp_path))
    (tmp_path / "part-2.safetensors").write_bytes(b"more")
    assert source.fetch(config(tmp_path), Path()) == tmp_path


def test_a_models_own_code_runs_only_with_trust(tmp_path):
    own = {"auto_map": {"AutoModelForCausalLM": "own.Model"}, "model_type": "nobody_knows"}
    write_model(tmp_path, architectures=["OwnModel"], **own)
    assert "model.trust_remote_code=true" in refusal(config(tmp_path))
    assert source.fetch(config(tmp_path, trust_remote_code=True), Path()) == tmp_path


def test_a_built_in_class_needs_no_trust_although_code_came_along(tmp_path):
    write_model(tmp_path, auto_map={"AutoModelForCausalLM": "own.Model"})
    assert source.fetch(config(tmp_path), Path()) == tmp_path


def test_without_transformers_a_models_own_code_cannot_be_checked(tmp_path, monkeypatch):
    write_model(tmp_path, auto_map={"AutoModelForCausalLM": "own.Model"})
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "needs transformers: pip install 'slm-energy[torch]'" in refusal(config(tmp_path))


def test_weights_of_another_architecture_are_refused(tmp_path):
    write_model(tmp_path, hidden_size=64, num_hidden_layers=2)
    asked = {"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 3}
    said = refusal(config(tmp_path, architecture=asked))
    assert f"model.architecture.num_hidden_layers=3, but {tmp_path} has 2" in said
    asked["num_hidden_layers"] = 2
    assert source.fetch(config(tmp_path, architecture=asked), Path()) == tmp_path


@pytest.mark.parametrize("origin", ["bundled", "org/model"])
def test_stored_weights_cannot_be_tiny(origin):
    model = config(origin, revision=COMMIT, scale="tiny")
    assert "set model.weights=random" in refusal(model)
    with pytest.raises(ModelError, match=r"model\.scale=tiny"):
        source.identity(model)


@pytest.fixture
def _offline_hub(tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def snapshot(tmp_path: Path) -> Path:
    return tmp_path / "hub" / "models--org--model" / "snapshots" / COMMIT


@pytest.mark.usefixtures("_offline_hub")
def test_a_cached_snapshot_needs_no_network(tmp_path):
    folder = write_model(snapshot(tmp_path))
    assert source.fetch(config("org/model", revision=COMMIT), Path()) == folder


@pytest.mark.usefixtures("_offline_hub")
def test_an_uncached_snapshot_without_network_is_one_line():
    assert "the hub cannot be reached" in refusal(config("org/model", revision=COMMIT))


@pytest.mark.usefixtures("_offline_hub")
def test_an_interrupted_download_is_not_taken_for_a_model(tmp_path):
    write_model(snapshot(tmp_path))
    (snapshot(tmp_path) / "model.safetensors").unlink()
    assert "no complete safetensors weights" in refusal(config("org/model", revision=COMMIT))


def test_the_identity_of_a_hub_model_is_its_commit():
    assert source.identity(config("org/model", revision=COMMIT)) == COMMIT


def test_the_identity_of_a_folder_is_its_content(tmp_path):
    first, second = write_model(tmp_path / "one"), write_model(tmp_path / "two")
    assert source.identity(config(first)) == source.digest(second)
    assert len(source.digest(first)) == 16


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("config.json", True),
        ("generation_config.json", True),
        ("model.safetensors", True),
        ("tokenizer.json", True),
        ("merges.txt", True),
        ("modeling_own.py", True),
        ("README.md", False),
        ("training.json", False),
    ],
)
def test_the_digest_covers_what_can_change_a_result(tmp_path, name, counts):
    before = source.digest(write_model(tmp_path))
    (tmp_path / name).write_text("something else")
    assert (source.digest(tmp_path) != before) == counts


def test_a_folder_without_a_model_has_no_digest(tmp_path):
    with pytest.raises(ModelError, match="holds no model"):
        source.digest(tmp_path)


def test_the_tokenizer_neither_truncates_nor_pads(tmp_path):
    tokenizer = source.load_tokenizer(write_model(tmp_path))
    assert tokenizer.encode("a b a b a").ids == [0, 1, 0, 1, 0]


def test_a_slow_tokenizer_is_converted(tmp_path):
    from tokenizers import ByteLevelBPETokenizer

    write_model(tmp_path, model_type="gpt2", architectures=["GPT2LMHeadModel"])
    (tmp_path / "tokenizer.json").unlink()
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(["def add(a, b):\n    return a + b\n"] * 3, vocab_size=300)
    trained.save_model(str(tmp_path))
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "GPT2Tokenizer"}')
    assert source.fetch(config(tmp_path), Path()) == tmp_path
    text = "def add(a):\n    return a"
    tokenizer = source.load_tokenizer(tmp_path)
    assert tokenizer.encode(text).ids == trained.encode(text).ids
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_without_transformers_a_slow_tokenizer_cannot_be_converted(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"converting another needs transformers: pip install"):
        source.load_tokenizer(tmp_path)


def test_a_broken_tokenizer_is_one_line(tmp_path):
    write_model(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match="the tokenizer cannot be read"):
        source.load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("general", "generation", "ids"),
    [
        (7, None, (7,)),
        (7, [8, 9], (8, 9)),
        (None, None, ()),
        ([1, 2], None, (1, 2)),
        (0, None, (0,)),
    ],
)
def test_end_of_text_comes_from_the_generation_config_first(tmp_path, general, generation, ids):
    write_model(tmp_path, eos_token_id=general)
    if generation is not None:
        (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": generation}))
    assert source.eos_ids(tmp_path) == ids


@pytest.mark.parametrize(
    ("entries", "length"),
    [({"max_position_embeddings": 64}, 64), ({"n_positions": 32}, 32), ({"alibi": True}, None)],
)
def test_the_context_length_is_read_from_the_config(tmp_path, entries, length):
    assert source.context_length(write_model(tmp_path, **entries)) == length


def test_importing_this_module_costs_no_heavy_library():
    heavy = {"torch", "transformers", "huggingface_hub"}
    script = f"import sys, slm_energy.models.source; print({heavy} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"
