import importlib.util

import pytest

from slm_energy.config.groups import ModelConfig
from slm_energy.errors import ModelError
from slm_energy.models.tokenizer import load_tokenizer
from slm_energy.models.validation import validate
from tests.models.conftest import write_model


def test_the_tokenizer_neither_truncates_nor_pads(tmp_path):
    tokenizer = load_tokenizer(write_model(tmp_path))
    assert tokenizer.encode("a b a b a").ids == [0, 1, 0, 1, 0]


def test_a_slow_tokenizer_is_converted(tmp_path):
    from tokenizers import ByteLevelBPETokenizer

    write_model(tmp_path, model_type="gpt2", architectures=["GPT2LMHeadModel"])
    (tmp_path / "tokenizer.json").unlink()
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(["def add(a, b):\n    return a + b\n"] * 3, vocab_size=300)
    trained.save_model(str(tmp_path))
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "GPT2Tokenizer"}')
    validate(tmp_path, ModelConfig(name="m", source=str(tmp_path)))
    text = "def add(a):\n    return a"
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.encode(text).ids == trained.encode(text).ids
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_without_transformers_a_slow_tokenizer_cannot_be_converted(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"converting another needs transformers: pip install"):
        load_tokenizer(tmp_path)


def test_a_broken_tokenizer_is_one_line(tmp_path):
    write_model(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match="the tokenizer cannot be read"):
        load_tokenizer(tmp_path)
