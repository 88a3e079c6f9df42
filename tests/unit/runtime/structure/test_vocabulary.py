"""The bytes behind tokens."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from nsedge.errors import InvalidParameter
from nsedge.runtime.structure.vocabulary import SPECIAL_MARKER, Vocabulary
from tests.unit.runtime.structure.vocabularies import CALL, END, SIZE, falling_back, printable


def test_tokens_of_a_byte_level_vocabulary_are_their_bytes() -> None:
    tokenizer = printable()
    vocabulary = Vocabulary(tokenizer, SIZE)
    assert len(vocabulary.tokens) == SIZE
    assert vocabulary.tokens[1] == b" "
    assert vocabulary.tokens[tokenizer.token_to_id("true")] == b"true"


def test_special_and_named_tokens_cannot_be_made_up_by_text() -> None:
    tokens = Vocabulary(printable(), SIZE).tokens
    assert tokens[END] == SPECIAL_MARKER + b"<end>"
    assert tokens[CALL] == SPECIAL_MARKER + b"<call>"


def test_rows_without_a_token_have_no_bytes_and_tokens_without_a_row_are_left_out() -> None:
    more = Vocabulary(printable(), SIZE + 5).tokens
    assert more[SIZE:] == [b""] * 5
    assert len(Vocabulary(printable(), SIZE - 1).tokens) == SIZE - 1


def test_a_text_is_written_as_the_tokenizer_writes_it() -> None:
    tokenizer = printable()
    vocabulary = Vocabulary(tokenizer, SIZE)
    assert vocabulary.encode(" abc") == tokenizer.encode(" abc").ids
    assert vocabulary.encode("") == []


def test_what_it_would_write_in_other_bytes_is_spelt() -> None:
    tokenizer = printable()
    assert tokenizer.encode("ab<call>").ids[-1] == CALL
    spelt = [tokenizer.token_to_id(text) for text in ("ab", "<", "c", "a", "l", "l", ">")]
    assert Vocabulary(tokenizer, SIZE).encode("ab<call>") == spelt
    letters = [tokenizer.token_to_id(letter) for letter in "xin"]
    assert Vocabulary(tokenizer, tokenizer.token_to_id("in")).encode("xin") == letters
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    vocabulary = Vocabulary(tokenizer, SIZE)
    assert tokenizer.encode("ab").ids != [tokenizer.token_to_id("ab")]
    assert vocabulary.encode("ab") == [tokenizer.token_to_id("ab")]
    assert vocabulary.encode(" ab") == tokenizer.encode(" ab").ids
    assert vocabulary.encode("éa") == [tokenizer.token_to_id("a")]


@pytest.mark.parametrize("text", ["a", "ab", "ba", "{ a", "é", "\n{"])
def test_a_tokenizer_that_puts_a_space_first_puts_none_inside_a_text(text: str) -> None:
    vocabulary = Vocabulary(falling_back(), 300)
    written = b"".join(vocabulary.tokens[token] for token in vocabulary.encode(text))
    assert written == text.encode()


def test_byte_tokens_are_bytes_and_marks_are_spaces() -> None:
    tokenizer = falling_back()
    tokens = Vocabulary(tokenizer, 300).tokens
    assert tokens[tokenizer.token_to_id("<0xC3>")] == b"\xc3"
    assert tokens[tokenizer.token_to_id("▁a")] == b" a"
    assert tokens[tokenizer.token_to_id("</s>")] == SPECIAL_MARKER + b"</s>"


def test_a_vocabulary_of_words_is_refused() -> None:
    words = Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    words.decoder = decoders.WordPiece()
    with pytest.raises(InvalidParameter, match="not one of bytes"):
        Vocabulary(words, 2)
