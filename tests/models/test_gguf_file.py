"""A GGUF file as a model: the folder that is derived from it, and its tokenizer."""

import json
import shutil
from pathlib import Path

import gguf
import pytest
from tokenizers import Tokenizer

from slm_energy.config.groups import ModelConfig
from slm_energy.errors import ModelError
from slm_energy.models import gguf_file, gguf_header, source
from slm_energy.models.folder import BUNDLED_MODEL, context_length, eos_ids
from slm_energy.models.tokenizer import load_tokenizer

TEXTS = (
    "def add(a, b):\n    return a + 12345  # ünïcode\n\n\nclass Stack:\n\tpass\n",
    "I've 3 cats; he'LL say: 100,000.50 €!!!   \n \n  end  ",
    "HTTPServer2(Base) != {'a': [1, 2]} // *ptr->next\r\n\r\n   日本語 한국어 😀👍🏽",
)


def write(out: Path, split: str = "gpt-2", **values) -> Path:
    """A file with the bundled model's vocabulary and no weights."""
    data = json.loads((BUNDLED_MODEL / "tokenizer.json").read_text())
    texts = data["model"]["vocab"] | {each["content"]: each["id"] for each in data["added_tokens"]}
    tokens = sorted(texts, key=lambda text: texts[text])
    special = {each["content"] for each in data["added_tokens"]}
    writer = gguf.GGUFWriter(out, "llama")
    writer.add_context_length(512)
    writer.add_embedding_length(64)
    writer.add_block_count(2)
    writer.add_feed_forward_length(96)
    writer.add_head_count(4)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(split)
    writer.add_token_list(tokens)
    writer.add_token_types([3 if text in special else 1 for text in tokens])
    writer.add_token_merges([" ".join(each) for each in data["model"]["merges"]])
    writer.add_eos_token_id(0)
    writer.add_add_bos_token(False)
    for key, value in values.items():
        writer.add_key_value(key.replace("__", "."), value, gguf.GGUFValueType.UINT16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return out


@pytest.fixture
def cache(tmp_path) -> Path:
    return tmp_path / "cache"


@pytest.mark.parametrize(
    "split", ["gpt-2", "starcoder", "llama-bpe", "qwen2", "gpt-4o", "tekken", "smollm"]
)
def test_the_tokenizer_of_a_file_gives_the_ids_that_llama_cpp_gives(tmp_path, cache, split):
    import llama_cpp

    file = write(tmp_path / "model.gguf", split)
    tokenizer = load_tokenizer(gguf_file.folder(file, cache, "m"))
    model = llama_cpp.Llama(str(file), vocab_only=True, verbose=False)
    for text in TEXTS:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        assert ids == model.tokenize(text.encode(), add_bos=False, special=False)
        assert tokenizer.decode(ids) == text
    model.close()


def test_a_tokenizer_of_sentencepiece_too(tmp_path, cache):
    import llama_cpp
    import sentencepiece

    text = tmp_path / "text.txt"
    text.write_text("\n".join(Path(each).read_text() for each in (__file__, gguf_file.__file__)))
    sentencepiece.SentencePieceTrainer.train(
        input=str(text),
        model_prefix=str(tmp_path / "sp"),
        model_type="bpe",
        vocab_size=700,
        byte_fallback=True,
        minloglevel=2,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
    )
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "sp.model"))
    numbers = range(pieces.vocab_size())
    file = write(tmp_path / "base.gguf")
    out = tmp_path / "model.gguf"
    writer = gguf.GGUFWriter(out, "llama")
    header = gguf_header.read(file).values
    for key in ("context_length", "embedding_length", "block_count", "feed_forward_length"):
        writer.add_uint32(f"llama.{key}", header[f"llama.{key}"])
    writer.add_head_count(4)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([pieces.id_to_piece(number) for number in numbers])
    writer.add_token_scores([pieces.get_score(number) for number in numbers])
    writer.add_token_types(
        [
            2
            if pieces.is_unknown(n)
            else 3
            if pieces.is_control(n)
            else 6
            if pieces.is_byte(n)
            else 1
            for n in numbers
        ]
    )
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    tokenizer = load_tokenizer(gguf_file.folder(out, cache, "m"))
    model = llama_cpp.Llama(str(out), vocab_only=True, verbose=False)
    for text in TEXTS:
        ids = tokenizer.encode(text).ids
        assert ids == model.tokenize(text.encode(), add_bos=True, special=False)
        assert ids == [1, *pieces.encode(text)]
        assert tokenizer.decode(ids) == text
    model.close()


def test_the_folder_has_what_a_model_folder_has(tmp_path, cache):
    file = write(tmp_path / "model.gguf")
    folder = gguf_file.folder(file, cache, "m")
    assert context_length(folder) == 512
    assert eos_ids(folder) == (0,)
    assert (folder / gguf_file.NAME).resolve() == file
    assert gguf_file.folder(file, cache, "m") == folder


def test_a_tokenizer_beside_the_file_is_taken_in_place_of_the_files_own(tmp_path, cache):
    file = write(tmp_path / "model.gguf", "some-new-way")
    with pytest.raises(ModelError, match=r"splits text as some-new-way.*put the model's tokenizer"):
        gguf_file.folder(file, cache, "m")
    alone = gguf_file.identity(file)
    shutil.copy(BUNDLED_MODEL / "tokenizer.json", tmp_path)
    assert gguf_file.identity(file) != alone
    tokenizer = load_tokenizer(gguf_file.folder(file, cache, "m"))
    bundled = Tokenizer.from_file(str(BUNDLED_MODEL / "tokenizer.json"))
    assert tokenizer.encode(TEXTS[0]).ids == bundled.encode(TEXTS[0]).ids


def test_a_file_of_several_is_refused_with_the_command_that_joins_them(tmp_path):
    file = write(tmp_path / "model-00001-of-00002.gguf", split__count=2)
    with pytest.raises(ModelError, match="llama-gguf-split --merge"):
        gguf_file.config(file)


def test_a_file_that_is_cut_off_is_said(tmp_path):
    file = write(tmp_path / "model.gguf")
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="is cut off or damaged: fetch it again"):
        gguf_file.config(file)
    file.write_bytes(b"PK\3\4" + whole[4:])
    with pytest.raises(ModelError, match=r"is no GGUF file: set another model\.source"):
        gguf_file.config(file)


def test_a_file_without_a_tokenizer_is_said(tmp_path):
    out = tmp_path / "model.gguf"
    writer = gguf.GGUFWriter(out, "llama")
    writer.add_tokenizer_model("none")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(ModelError, match="has no tokenizer"):
        gguf_file.config(out)


def test_a_file_is_a_model_like_a_folder(tmp_path, cache):
    file = write(tmp_path / "model.gguf")
    model = ModelConfig(name="m", source=str(file))
    known, folder = source.identity(model), source.fetch(model, cache)
    assert source.context(model) == 512
    assert source.download_bytes(model) == 0
    assert not source.needs_building(model, folder)
    source.require_unchanged(model, folder, known)
    write(file, "starcoder")
    with pytest.raises(ModelError, match="has changed since the sweep began"):
        source.require_unchanged(model, folder, known)
    file.unlink()
    with pytest.raises(ModelError, match="there is no file"):
        source.require_unchanged(model, folder, known)


def test_an_architecture_that_the_file_contradicts_is_refused(tmp_path):
    file = write(tmp_path / "model.gguf")
    for architecture, agrees in (
        ({"hidden_size": 64, "n_layer": 2}, True),
        ({"n_embd": 65}, False),
    ):
        model = ModelConfig(name="m", source=str(file), architecture=architecture)
        if agrees:
            source.identity(model)
        else:
            with pytest.raises(ModelError, match=r"hidden_size=65, but .* has 64"):
                source.identity(model)


def test_a_file_cannot_be_tiny(tmp_path):
    file = write(tmp_path / "model.gguf")
    with pytest.raises(ModelError, match="stored weights have one size"):
        source.identity(ModelConfig(name="m", source=str(file), scale="tiny"))
