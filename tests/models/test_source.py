import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from slm_energy.config.groups import ModelConfig
from slm_energy.errors import ConfigError, ModelError
from slm_energy.hub import Repository
from slm_energy.models import source
from slm_energy.models.folder import context_length, digest, eos_ids
from tests.models.conftest import COMMIT, as_fetched, write_model, write_weights
from tests.shipped import shipped, tiny


def config(source: object, **changes) -> ModelConfig:
    return dataclasses.replace(ModelConfig(name="m", source=str(source)), **changes)


def refusal(model: ModelConfig) -> str:
    with pytest.raises(ModelError) as caught:
        source.fetch(model, Path())
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_bundled_model_is_found_and_needs_no_heavy_import():
    folder = source.fetch(config("bundled"), Path())
    assert context_length(folder) == 512
    assert eos_ids(folder) == (0,)


def test_a_local_folder_is_returned_as_an_absolute_path(tmp_path, monkeypatch):
    write_model(tmp_path / "here")
    monkeypatch.chdir(tmp_path)
    assert source.fetch(config("./here"), Path()) == tmp_path / "here"


def test_a_single_file_is_told_from_a_folder(tmp_path):
    gguf, other = tmp_path / "model.gguf", tmp_path / "model.safetensors"
    gguf.write_bytes(b"GGUF")
    other.write_bytes(b"")
    assert "is cut off or damaged: fetch it again" in refusal(config(gguf))
    assert f"{other} is a file: give the folder of the model" in refusal(config(other))
    assert "there is no file" in refusal(config("org/model.gguf"))  # not a hub id


def test_a_missing_folder_is_named(tmp_path):
    assert f"there is no folder {tmp_path / 'gone'}" in refusal(config(tmp_path / "gone"))


def test_a_folder_is_validated_before_it_is_used(tmp_path):
    assert "config.json is missing" in refusal(config(tmp_path))
    with pytest.raises(ModelError, match=r"config\.json is missing"):
        source.identity(config(tmp_path))


@pytest.mark.parametrize("origin", ["bundled", "org/model"])
def test_stored_weights_cannot_be_tiny(origin):
    model = config(origin, revision=COMMIT, scale="tiny")
    assert "set model.weights=random" in refusal(model)
    with pytest.raises(ModelError, match=r"model\.scale=tiny"):
        source.identity(model)


def test_a_cached_snapshot_needs_no_network(snapshot):
    folder = write_model(snapshot)
    assert source.fetch(config("org/model", revision=COMMIT), Path()) == folder


@pytest.mark.usefixtures("snapshot")
def test_an_uncached_snapshot_without_network_is_one_line():
    assert "the hub cannot be reached" in refusal(config("org/model", revision=COMMIT))


def test_an_interrupted_download_is_not_taken_for_a_model(snapshot):
    write_model(snapshot)
    (snapshot / "model.safetensors").unlink()
    assert "no complete safetensors weights" in refusal(config("org/model", revision=COMMIT))


def test_what_is_to_download_is_what_is_not_here_and_a_refused_model_is_not(snapshot):
    write_model(snapshot)
    (snapshot / "quantize_config.json").write_text('{"bits": 4}')
    sizes = {"config.json": 1, "tokenizer.json": 2, "model.safetensors": 40, "README.md": 800}

    def ask(repository: str, commit: str) -> Repository:
        return Repository(commit=commit, sizes=sizes)

    model = config("org/model", revision=COMMIT)
    with pytest.raises(ModelError, match="quantized with gptq"):
        source.download_bytes(model, ask)
    (snapshot / "model.safetensors").unlink()
    assert source.download_bytes(model, ask) == 40


@pytest.mark.parametrize("revision", [None, "main", "v1.0", COMMIT[:12]])
def test_a_hub_model_needs_a_pinned_commit(revision):
    model = config("org/model", revision=revision)
    for use in (source.identity, lambda model: source.fetch(model, Path())):
        with pytest.raises(ConfigError, match=r"pin it with model\.revision=COMMIT"):
            use(model)


def test_random_weights_need_no_commit():
    assert source.identity(tiny("pythia-410m")) == source.identity(
        shipped("pythia-410m", revision="main", weights="random", scale="tiny")
    )


@pytest.mark.parametrize(
    ("model", "identity"),
    [
        (config("bundled"), "0c4d18a6f1a583b6"),
        (tiny("pythia-410m"), "45aebcdfee00263b"),
        (tiny("smollm3-3b"), "9fe61b3327699351"),
        (shipped("pythia-410m", weights="random"), "d9d2335caf39ac89"),
    ],
    ids=["bundled", "tiny", "tiny_by_layer_lists", "random_full"],
)
def test_an_identity_is_what_stored_trials_and_caches_have(model, identity):
    """It decides a cell's identity: a change would make every stored study begin anew."""
    assert source.identity(model) == identity
    if model.weights == "random":
        assert source.fetch(model, Path("cache")) == Path("cache", "random", identity)


def test_the_identity_of_a_hub_model_is_its_commit():
    assert source.identity(config("org/model", revision=COMMIT)) == COMMIT


def test_the_identity_of_a_folder_is_its_content(tmp_path):
    first, second = write_model(tmp_path / "one"), write_model(tmp_path / "two")
    assert source.identity(config(first)) == digest(second)
    assert len(digest(first)) == 16


def test_importing_this_module_costs_no_heavy_library():
    heavy = {"torch", "transformers", "huggingface_hub"}
    script = f"import sys, slm_energy.models.source; print({heavy} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"


def test_a_model_that_changed_since_the_sweep_began_is_refused(tmp_path):
    model = config(write_model(tmp_path))
    known = source.identity(model)
    source.require_unchanged(model, tmp_path, known)
    write_weights(tmp_path / "model.safetensors", name="other")
    with pytest.raises(ModelError, match=r"has changed since the sweep began: run it again"):
        source.require_unchanged(model, tmp_path, known)


def test_random_weights_are_identified_by_what_they_are_made_from():
    model = tiny("pythia-410m")
    source.require_unchanged(model, Path("not built yet"), source.identity(model))
    with pytest.raises(ModelError, match="has changed since"):
        source.require_unchanged(model, Path("not built yet"), source.identity(tiny("smollm3-3b")))


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_file_that_was_changed_in_the_hubs_cache_is_refused(snapshot, name):
    model = config("org/model", revision=COMMIT)
    folder = as_fetched(write_model(snapshot))
    assert source.fetch(model, Path()) == folder
    source.require_unchanged(model, folder, COMMIT)
    blob = (folder / name).resolve()
    blob.write_bytes(b" " + blob.read_bytes()[1:])  # of the same size
    with pytest.raises(ModelError, match=rf"{name} has been changed in the hub's cache: remove"):
        source.require_unchanged(model, folder, COMMIT)


def test_a_file_that_took_the_place_of_a_link_in_the_hubs_cache_is_refused(snapshot):
    folder = as_fetched(write_model(snapshot))
    (folder / "config.json").unlink()
    (folder / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"config\.json is not a link to what the hub sent"):
        source.require_unchanged(config("org/model", revision=COMMIT), folder, COMMIT)
