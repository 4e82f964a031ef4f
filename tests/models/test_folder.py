import json
import os

import pytest

from slm_energy.errors import ModelError
from slm_energy.models.folder import context_length, digest, eos_ids, graph_context
from tests.models.conftest import write_model


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("config.json", True),
        ("generation_config.json", True),
        ("model.safetensors", True),
        ("tokenizer.json", True),
        ("merges.txt", True),
        ("modeling_own.py", True),
        ("parts/own.py", True),
        ("additional_chat_templates/tools.jinja", True),
        ("README.md", False),
        ("training.json", False),
    ],
)
def test_the_digest_covers_what_can_change_a_result(tmp_path, name, counts):
    before = digest(write_model(tmp_path))
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("something else")
    assert (digest(tmp_path) != before) == counts


def indexed(folder, *names):
    """A model whose index names these files of weights."""
    write_model(folder)
    (folder / "model.safetensors").unlink()
    weights = {f"layer.{i}": name for i, name in enumerate(names)}
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weights}))
    return folder


def test_weights_in_subfolders_count_under_the_names_of_the_index(tmp_path):
    part = tmp_path / "parts" / "1.safetensors"
    part.parent.mkdir()
    part.write_bytes(b"old")
    before = digest(indexed(tmp_path, "parts/1.safetensors"))
    part.write_bytes(b"new")
    assert digest(tmp_path) != before


def test_new_content_with_the_old_size_and_date_is_noticed(tmp_path):
    weights = write_model(tmp_path) / "model.safetensors"
    before, dates = digest(tmp_path), weights.stat()
    weights.write_bytes(b"x" * dates.st_size)
    os.utime(weights, ns=(dates.st_atime_ns, dates.st_mtime_ns))
    assert digest(tmp_path) != before


def test_where_the_folder_is_and_when_it_was_written_do_not_count(tmp_path):
    before = digest(write_model(tmp_path / "here"))
    (tmp_path / "here").rename(tmp_path / "there")
    os.utime(tmp_path / "there" / "config.json", (1, 1))
    assert digest(tmp_path / "there") == before


@pytest.mark.parametrize("name", ["../x.safetensors", "/x.safetensors", "a/../../x.safetensors"])
def test_a_name_that_leaves_the_folder_is_refused(tmp_path, name):
    with pytest.raises(ModelError, match=r"outside the model's folder: change model.source"):
        digest(indexed(tmp_path, name))


def test_a_link_that_leaves_the_folder_is_refused(tmp_path):
    folder = write_model(tmp_path / "model")
    (folder / "model.safetensors").rename(tmp_path / "weights")
    (folder / "model.safetensors").symlink_to(tmp_path / "weights")
    with pytest.raises(ModelError, match=r"is a link to .*weights, outside the model's folder"):
        digest(folder)


def test_the_links_of_a_hub_cache_lead_to_its_blobs(tmp_path):
    folder = write_model(tmp_path / "snapshots" / "0123")
    (tmp_path / "blobs").mkdir()
    (folder / "model.safetensors").rename(tmp_path / "blobs" / "abc")
    (folder / "model.safetensors").symlink_to("../../blobs/abc")
    assert digest(folder)


def test_a_folder_without_a_model_has_no_digest(tmp_path):
    with pytest.raises(ModelError, match="contains no model"):
        digest(tmp_path)


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
    assert eos_ids(tmp_path) == ids


@pytest.mark.parametrize(
    ("entries", "length"),
    [({"max_position_embeddings": 64}, 64), ({"n_positions": 32}, 32), ({"alibi": True}, None)],
)
def test_the_context_length_is_read_from_the_config(tmp_path, entries, length):
    assert context_length(write_model(tmp_path, **entries)) == length


@pytest.mark.parametrize(
    ("entries", "length"),
    [
        ({"max_position_embeddings": 64}, 64),
        (
            {
                "max_position_embeddings": 64,
                "original_max_position_embeddings": 16,
                "rope_scaling": {"type": "longrope", "short_factor": [1], "long_factor": [2]},
            },
            16,
        ),
        (
            {
                "max_position_embeddings": 64,
                "rope_parameters": {
                    "rope_type": "longrope",
                    "original_max_position_embeddings": 16,
                },
            },
            16,
        ),
        (
            {"max_position_embeddings": 64, "rope_scaling": {"rope_type": "linear", "factor": 4}},
            64,
        ),
    ],
)
def test_a_graph_has_the_positions_up_to_the_original_length_of_long_rope(
    tmp_path, entries, length
):
    assert graph_context(write_model(tmp_path, **entries)) == length
