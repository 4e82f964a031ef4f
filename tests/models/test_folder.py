import json

import pytest

from slm_energy.errors import ModelError
from slm_energy.models.folder import context_length, digest, eos_ids
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
        ("README.md", False),
        ("training.json", False),
    ],
)
def test_the_digest_covers_what_can_change_a_result(tmp_path, name, counts):
    before = digest(write_model(tmp_path))
    (tmp_path / name).write_text("something else")
    assert (digest(tmp_path) != before) == counts


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
