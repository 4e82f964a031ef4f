"""What a model folder must have before anything is loaded from it."""

import dataclasses
import importlib.util
import json
from pathlib import Path

import pytest

from slm_energy.config.groups import ModelConfig
from slm_energy.errors import ModelError
from slm_energy.models.validation import validate
from tests.models.conftest import write_model, write_weights


def config(**changes) -> ModelConfig:
    return dataclasses.replace(ModelConfig(name="m", source="elsewhere"), **changes)


def refusal(folder: Path, model: ModelConfig | None = None) -> str:
    with pytest.raises(ModelError) as caught:
        validate(folder, model or config())
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_folder_without_config_is_refused(tmp_path):
    assert "config.json is missing" in refusal(tmp_path)


def test_a_broken_config_is_refused(tmp_path):
    write_model(tmp_path)
    (tmp_path / "config.json").write_text("{")
    assert "is not JSON" in refusal(tmp_path)


@pytest.mark.parametrize("classes", [["BertForMaskedLM"], [], ["T5ForConditionalGeneration"]])
def test_what_is_not_a_causal_language_model_is_refused(tmp_path, classes):
    write_model(tmp_path, architectures=classes)
    assert "is not a causal language model" in refusal(tmp_path)


def test_gpt2_names_its_class_differently(tmp_path):
    write_model(tmp_path, architectures=["GPT2LMHeadModel"])
    validate(tmp_path, config())


def test_a_missing_tokenizer_is_refused(tmp_path):
    write_model(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    assert "has no tokenizer" in refusal(tmp_path)


def test_pickled_weights_are_refused_unless_allowed(tmp_path):
    write_model(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    assert "set model.allow_pickle=true" in refusal(tmp_path)
    validate(tmp_path, config(allow_pickle=True))


def test_missing_weights_are_refused(tmp_path):
    write_model(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    assert "no complete safetensors weights" in refusal(tmp_path)


def test_every_part_of_split_weights_must_be_there(tmp_path):
    write_model(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "part-1.safetensors")
    index = {"weight_map": {"a": "part-1.safetensors", "b": "part-2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "part-2.safetensors, a part of the weights, is missing" in refusal(tmp_path)
    write_weights(tmp_path / "part-2.safetensors")
    validate(tmp_path, config())


def test_a_folder_with_something_else_than_a_model_says_what_it_has(tmp_path):
    (tmp_path / "model-q4_0.gguf").write_bytes(b"GGUF")
    assert "holds GGUF files only: set model.source to one of them" in refusal(tmp_path)
    (tmp_path / "adapter_config.json").write_text("{}")
    assert "holds an adapter (adapter_config.json), not a model" in refusal(tmp_path)
    write_model(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    validate(tmp_path, config(allow_pickle=True))


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_file_that_git_lfs_has_not_fetched_is_named_with_the_command(tmp_path, name):
    write_model(tmp_path)
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:12ab\nsize 523\n"
    (tmp_path / name).write_text(pointer)
    said = refusal(tmp_path)
    assert f"{tmp_path / name} is a Git LFS pointer" in said
    assert f"git lfs pull in {tmp_path}" in said


def test_weights_that_were_fetched_in_part_are_refused(tmp_path):
    file = write_model(tmp_path) / "model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    assert f"{file} has {len(whole) - 1} of its {len(whole)} bytes" in refusal(tmp_path)
    file.write_bytes(whole[:20])
    assert "is not a safetensors file: fetch the model again" in refusal(tmp_path)


def test_a_models_own_code_runs_only_with_trust(tmp_path):
    own = {"auto_map": {"AutoModelForCausalLM": "own.Model"}, "model_type": "nobody_knows"}
    write_model(tmp_path, architectures=["OwnModel"], **own)
    assert "model.trust_remote_code=true" in refusal(tmp_path)
    validate(tmp_path, config(trust_remote_code=True))


def test_a_built_in_class_needs_no_trust_although_code_came_along(tmp_path):
    write_model(tmp_path, auto_map={"AutoModelForCausalLM": "own.Model"})
    validate(tmp_path, config())


def test_without_transformers_a_models_own_code_cannot_be_checked(tmp_path, monkeypatch):
    write_model(tmp_path, auto_map={"AutoModelForCausalLM": "own.Model"})
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "needs transformers: pip install 'slm-energy[torch]'" in refusal(tmp_path)


def test_weights_of_another_architecture_are_refused(tmp_path):
    write_model(tmp_path, hidden_size=64, num_hidden_layers=2)
    asked = {"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 3}
    said = refusal(tmp_path, config(architecture=asked))
    assert f"model.architecture.num_hidden_layers=3, but {tmp_path} has 2" in said
    asked["num_hidden_layers"] = 2
    validate(tmp_path, config(architecture=asked))


@pytest.mark.parametrize(
    "changes",
    [
        {"_attn_implementation_internal": "someone/kernel"},
        {"_attn_implementation": "someone/kernel@main:flash"},
        {"attn_implementation": {"": "someone/kernel"}},
        {"text_config": {"_attn_implementation_internal": "someone/kernel"}},
        {"layers": [{"_attn_implementation_internal": "someone/kernel"}]},
    ],
)
def test_an_attention_that_is_downloaded_code_is_refused(tmp_path, changes):
    write_model(tmp_path, **changes)
    assert "names code to download" in refusal(tmp_path, config(trust_remote_code=True))


def test_an_attention_of_transformers_is_not_code_to_download(tmp_path):
    write_model(tmp_path, _attn_implementation="sdpa")
    validate(tmp_path, config())


def test_pickled_weights_without_an_index_do_not_ask_for_what_is_set(tmp_path):
    write_model(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model-00001-of-00002.bin")
    said = refusal(tmp_path, config(allow_pickle=True))
    assert "no complete weights" in said
    assert "allow_pickle" not in said
