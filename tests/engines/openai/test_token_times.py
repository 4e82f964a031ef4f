import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from slm_energy.engines.base import Batch
from slm_energy.engines.openai.stream import Piece, StreamedCompletion, Usage
from slm_energy.engines.openai.token_times import ServedTexts, to_completion
from slm_energy.errors import EngineError

EOS = 0
WORDS = ["<end>", "a", "b", "Ġb", "Ã", "©", "Ã©", "ab", "Ġ", "ï", "¿", "½"]
"""Byte-level: id 4 and 5 are the two bytes of é, id 6 is both; the last three make U+FFFD."""


def tokenizer() -> Tokenizer:
    vocabulary = {word: number for number, word in enumerate(WORDS)}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[("Ã", "©"), ("a", "b"), ("Ġ", "b")]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(["<end>"])
    return made


@pytest.fixture
def texts() -> ServedTexts:
    learned = ServedTexts(tokenizer())
    learned.build_index()
    return learned


def stream(*pieces: str | tuple[int, ...], finish: str = "length", count: int | None = None):
    """What came at 100, 200, ... ns: text, or ids."""
    return StreamedCompletion(
        pieces=tuple(
            Piece(
                text=piece if isinstance(piece, str) else "?",
                ids=None if isinstance(piece, str) else piece,
                arrived_ns=100 * number,
            )
            for number, piece in enumerate(pieces, 1)
        ),
        finish=finish,
        ended_ns=100 * (len(pieces) + 1),
        usage=None if count is None else Usage(prompt=1, completion=count, cached=None),
    )


def asked(new_tokens: int, stop: str = "fixed") -> Batch:
    return Batch(prompts=((1,),), new_tokens=new_tokens, stop=stop)  # type: ignore[arg-type]


def test_reported_ids_are_taken_with_the_arrival_of_their_event(texts):
    found = to_completion(stream((1,), (2, 3), count=3), asked(3), [EOS], texts)
    assert found.output_ids == (1, 2, 3)
    assert found.token_ns == (100, 200, 200)


def test_unreported_ids_are_looked_up(texts):
    found = to_completion(stream("a", " b", "b", "<end>", "ab"), asked(5), [EOS], texts)
    assert found.output_ids == (1, 3, 2, 0, 7)
    assert found.token_ns == (100, 200, 300, 400, 500)


def test_a_character_of_several_tokens_comes_as_one_piece(texts):
    """How many tokens there are tells which way a character was made."""
    whole = to_completion(stream("a", "é"), asked(2), [EOS], texts)
    assert whole.output_ids == (1, 6)
    with pytest.raises(EngineError, match=r"its text does not consist of 3 whole tokens"):
        to_completion(stream("a", "é"), asked(3), [EOS], texts)  # bytes apart: not how é is encoded


def test_a_piece_that_is_several_known_tokens_is_encoded(texts):
    found = to_completion(stream("a", "éé"), asked(3), [EOS], texts)
    assert found.output_ids == (1, 6, 6)
    assert found.token_ns == (100, 200, 200)


def test_a_piece_of_a_character_is_an_error_and_not_a_guess(texts):
    """Servers put U+FFFD for it; written out, that may be as many tokens as it stands for."""
    with pytest.raises(EngineError, match="the server sends no token ids"):
        to_completion(stream("a", "\ufffd"), asked(4), [EOS], texts)


def test_a_server_may_write_tokens_as_their_entries_in_the_vocabulary():
    served = tokenizer()
    served.decoder = decoders.Fuse()
    learned = ServedTexts(tokenizer(), served)
    learned.build_index()
    found = to_completion(stream("Ã", "©", "Ã©", "Ġb"), asked(4), [EOS], learned)
    assert found.output_ids == (4, 5, 6, 3)
    with pytest.raises(EngineError, match="the server sends no token ids"):
        to_completion(stream("aa"), asked(2), [EOS], learned)


def test_text_of_unknown_tokens_is_an_error_and_not_a_guess(texts):
    with pytest.raises(EngineError, match="the server sends no token ids"):
        to_completion(stream("a", "xyz"), asked(2), [EOS], texts)


def test_ids_and_count_that_disagree_are_an_error(texts):
    with pytest.raises(EngineError, match="sent 2 token ids but counted 3 tokens"):
        to_completion(stream((1,), (2,), count=3), asked(2), [EOS], texts)


@pytest.mark.parametrize("count", [2, 3, None])
def test_the_token_that_ended_a_text_counts_whether_the_server_counts_it_or_not(texts, count):
    found = to_completion(
        stream("a", "b", finish="stop", count=count), asked(9, "eos"), [EOS], texts
    )
    assert found.output_ids == (1, 2, EOS)
    assert found.token_ns == (100, 200, 300)


def test_a_reported_end_is_not_added_again(texts):
    found = to_completion(
        stream((1,), (EOS,), finish="stop", count=2), asked(9, "eos"), [EOS], texts
    )
    assert found.output_ids == (1, EOS)


def test_which_of_several_end_tokens_it_was_cannot_be_known(texts):
    with pytest.raises(EngineError, match="at which end-of-text token"):
        to_completion(stream("a", finish="stop"), asked(9, "eos"), [EOS, 3], texts)


def test_a_server_that_stops_where_it_must_not_is_an_error(texts):
    with pytest.raises(EngineError, match=r"after 2 of 9 tokens.*set workload.stop=eos"):
        to_completion(stream("a", finish="stop"), asked(9), [EOS], texts)


def test_a_server_that_goes_on_past_the_end_of_a_text_is_an_error(texts):
    with pytest.raises(EngineError, match="does not stop at the model's end-of-text token"):
        to_completion(stream((1,), (EOS,), (2,)), asked(3, "eos"), [EOS], texts)


def test_fewer_tokens_than_requested_are_an_error(texts):
    with pytest.raises(EngineError, match="returned 2 tokens instead of 3"):
        to_completion(stream((1,), (2,), count=2), asked(3), [EOS], texts)


def test_an_unknown_reason_to_end_is_an_error(texts):
    with pytest.raises(EngineError, match="finish_reason='content_filter'"):
        to_completion(stream("a", finish="content_filter"), asked(1), [EOS], texts)


def test_a_prompt_is_sent_as_the_text_that_has_its_tokens(texts):
    assert texts.prompt((7, 3)) == "ab b"
    assert texts.prompt((EOS, 1)) == "<end>a"


def test_a_prompt_whose_tokens_no_text_gives_is_an_error(texts):
    with pytest.raises(EngineError, match="the server takes no token ids"):
        texts.prompt((1, 2))  # ab is one token
