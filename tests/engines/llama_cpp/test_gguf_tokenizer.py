import json

import pytest
from tokenizers import Tokenizer

from slm_energy.engines.llama_cpp.gguf_export import convert

CODE = "def add(a, b):\n    return a + 10  # ünïcode\n\n\nclass Stack:\n\tpass\n"


@pytest.mark.parametrize(
    ("pre_tokenizer", "fidelity"),
    [
        ({"type": "ByteLevel", "use_regex": True}, "exact"),
        (
            {
                "type": "Sequence",
                "pretokenizers": [
                    {"type": "Digits", "individual_digits": True},
                    {"type": "ByteLevel", "use_regex": True},
                ],
            },
            "exact",
        ),
        ({"type": "ByteLevel", "use_regex": False}, "approximate"),
        ({"type": "Whitespace"}, "none"),
    ],
)
def test_a_tokenizer_called_exact_gives_the_same_ids(copy, tmp_path, pre_tokenizer, fidelity):
    import llama_cpp

    path = copy / "tokenizer.json"
    data = json.loads(path.read_text())
    whole = {"add_prefix_space": False, "trim_offsets": True} | pre_tokenizer
    for part in whole.get("pretokenizers", [whole]):
        if part["type"] == "ByteLevel":
            part.update(add_prefix_space=False, trim_offsets=True)
    data["pre_tokenizer"] = whole if whole["type"] == "ByteLevel" else pre_tokenizer
    path.write_text(json.dumps(data))
    out = tmp_path / "model.gguf"
    facts = convert(copy, out, "float32")
    assert facts["tokenizer"] == fidelity
    if fidelity == "none":
        return
    model = llama_cpp.Llama(str(out), vocab_only=True, verbose=False)
    ids = model.tokenize(CODE.encode(), add_bos=False)
    assert model.detokenize(ids).decode() == CODE
    assert model.token_eos() == 0
    same = ids == Tokenizer.from_file(str(path)).encode(CODE).ids
    assert same or fidelity == "approximate"
    model.close()
