"""What single tokens stand for, over real tokenizer kinds."""

from __future__ import annotations

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models

from nsedge.runtime.text.detokenizer import Detokenizer
from nsedge.runtime.text.tokens import TokenText, TokenTexts
from tests.unit.runtime.text.test_detokenizer import BYTE_FALLBACK, BYTE_LEVEL


def word_pieces() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(vocab={"walk": 0, "##ing": 1}, unk_token="walk"))
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens([AddedToken("[SEP]", special=True)])
    return tokenizer


def text_of(tokenizer: Tokenizer, token: str) -> TokenText:
    return TokenTexts(tokenizer)[tokenizer.token_to_id(token)]


@pytest.mark.parametrize(
    ("tokenizer", "token", "text"),
    [
        (BYTE_LEVEL, "Ġhello", TokenText(" hello")),
        (BYTE_LEVEL, "ĠÐ¿ÑĢ", TokenText(" пр")),
        (BYTE_LEVEL, "ðŁĺ", TokenText("\\xf0\\x9f\\x98", b"\xf0\x9f\x98")),
        (BYTE_LEVEL, "<|end|>", TokenText("<|end|>", special=True)),
        (BYTE_LEVEL, "<tool é>", TokenText("<tool é>")),
        (BYTE_FALLBACK, "▁the", TokenText(" the")),
        (BYTE_FALLBACK, "s", TokenText("s")),
        (BYTE_FALLBACK, "▁", TokenText(" ")),
        (BYTE_FALLBACK, "<0x41>", TokenText("A")),
        (BYTE_FALLBACK, "<0xF0>", TokenText("\\xf0", b"\xf0")),
        (word_pieces(), "walk", TokenText(" walk")),
        (word_pieces(), "##ing", TokenText("ing")),
        (word_pieces(), "[SEP]", TokenText("[SEP]", special=True)),
    ],
    ids=str,
)
def test_a_token_says_what_it_adds(tokenizer: Tokenizer, token: str, text: TokenText) -> None:
    assert text_of(tokenizer, token) == text


def test_tokens_together_are_the_text() -> None:
    ids = list(range(BYTE_LEVEL.get_vocab_size()))
    texts = [Detokenizer(BYTE_LEVEL).tokens[i] for i in ids]
    octets = b"".join(
        b"" if one.special else one.text.encode() if one.raw is None else one.raw for one in texts
    )
    assert octets.decode(errors="replace") == BYTE_LEVEL.decode(ids, skip_special_tokens=True)


def test_a_row_of_logits_that_no_token_has_says_nothing() -> None:
    for tokenizer in (BYTE_LEVEL, BYTE_FALLBACK):
        assert TokenTexts(tokenizer)[100_000] == TokenText("")
