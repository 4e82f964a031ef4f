"""Texts of tokens, as they read inside a longer text."""

from __future__ import annotations

from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from slm_energy.models.token_texts import TokenTexts


def byte_level() -> TokenTexts:
    words = ["a", "Ġb", "Ã", "©", "Ċ"]
    made = Tokenizer(models.BPE(vocab={w: n for n, w in enumerate(words)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    return TokenTexts(made)


def test_a_part_of_a_character_has_no_text_of_its_own_and_both_parts_have() -> None:
    texts = byte_level()
    assert [texts[n] for n in range(5)] == ["a", " b", "\ufffd", "\ufffd", "\n"]
    assert texts.text((1, 2, 3, 4)) == " bé\n"


def test_the_first_token_of_an_answer_keeps_the_space_that_the_tokenizer_strips() -> None:
    """As in Llama 2: without it the first line of a function's body would be misplaced."""
    words = ["a", "▁", "▁b"]
    made = Tokenizer(models.BPE(vocab={w: n for n, w in enumerate(words)}, merges=[]))
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    assert made.decode([1, 1, 2]) == "  b"
    assert TokenTexts(made).text((1, 1, 2)) == "   b"
    assert TokenTexts(made)[2] == " b"
