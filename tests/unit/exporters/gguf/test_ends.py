"""What a GGUF file names as the end of a text is a control token, whatever type it gives it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gguf import TokenType

from exporters.gguf.file import Metadata
from exporters.gguf.tokenizer import end_tokens, tokenizer_of
from tests.unit.exporters.gguf.test_import import BYTES, MERGES, SPACES

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<turn over>", "<message over>", "<begin>"]
TOKENS = [*SPECIAL, *BYTES, *SPACES, "Ġa", "ab", "12", "Ġ1"]
TURN, MESSAGE, BEGIN = 2, 3, 4


def metadata(**changes: Any) -> Metadata:
    """A byte-level vocabulary whose special tokens are all typed as ordinary ones."""
    values = {
        "model": "gpt2",
        "pre": "gpt-2",
        "tokens": TOKENS,
        "token_type": np.full(len(TOKENS), TokenType.NORMAL, np.int32),
        "merges": MERGES,
        "eos_token_id": 0,
        **changes,
    }
    return Metadata({f"tokenizer.ggml.{key}": value for key, value in values.items()}, "tiny.gguf")


def pieces(made: Metadata, text: str) -> list[str]:
    return list(tokenizer_of(made).encode(text, add_special_tokens=False).tokens)


@pytest.mark.parametrize(("kind", "number"), [("eot", TURN), ("eom", MESSAGE), ("eos", TURN)])
def test_a_token_named_as_an_end_is_found_whole_and_is_special(kind: str, number: int) -> None:
    text = f"a{TOKENS[number]}a"
    assert len(pieces(metadata(), text)) > 3
    made = metadata(**{f"{kind}_token_id": number})
    assert pieces(made, text) == ["a", TOKENS[number], "a"]
    assert number in end_tokens(made)
    tokenizer = tokenizer_of(made)
    ids = tokenizer.encode(text).ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == "aa"


def test_a_marker_that_ends_texts_by_its_name_is_one_whatever_its_type() -> None:
    made = metadata(eos_token_id=TURN)
    assert end_tokens(made) == [TURN, 0]
    assert pieces(made, "a<|endoftext|>") == ["a", "<|endoftext|>"]
    assert len(pieces(made, "<|im_start|>")) > 1  # neither named nor typed: text


def test_a_word_is_no_end_by_its_name_alone() -> None:
    tokens = [*TOKENS[:-1], "</s>"]
    types = np.full(len(tokens), TokenType.NORMAL, np.int32)
    made = metadata(tokens=tokens, token_type=types, merges=MERGES[:-1])
    assert end_tokens(made) == [0]
    types[-1] = TokenType.CONTROL
    assert end_tokens(made) == [0, len(tokens) - 1]


def test_what_begins_texts_is_special_only_where_it_does() -> None:
    assert len(pieces(metadata(bos_token_id=BEGIN), "<begin>")) > 1
    made = metadata(bos_token_id=BEGIN, add_bos_token=True)
    assert pieces(made, "<begin>a") == ["<begin>", "a"]
    assert tokenizer_of(made).encode("a").ids[0] == BEGIN


def test_padding_may_be_an_ordinary_token() -> None:
    made = metadata(padding_token_id=TOKENS.index("a"))
    tokenizer = tokenizer_of(made)
    assert tokenizer.decode(tokenizer.encode("ba").ids, skip_special_tokens=True) == "ba"
