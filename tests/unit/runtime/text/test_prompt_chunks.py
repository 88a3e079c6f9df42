"""Prompts of pictures to token ids, in pieces."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from nsedge.bundle.diffusion import PromptReading
from nsedge.errors import ContextExceeded, InvalidParameter
from nsedge.runtime.text.prompt_chunks import MAX_CHUNKS, PromptChunks

READING = PromptReading(
    tokenizer="tokenizer.json", context_length=5, vocab_size=16, begin_id=14, end_id=15, pad_id=0
)


@pytest.fixture
def chunks() -> PromptChunks:
    words = {f"w{number}": number for number in range(14)} | {"<begin>": 14, "<end>": 15}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(["<begin>", "<end>"])
    tokenizer.enable_truncation(2)
    return PromptChunks(tokenizer, READING)


def test_a_short_prompt_is_one_piece_and_padded(chunks: PromptChunks) -> None:
    ids = chunks.tokens("w3 w4", "prompt")
    assert (ids, chunks.chunks_of(ids)) == ([3, 4], 1)
    assert chunks.framed(ids, 1) == [(14, 3, 4, 15, 0)]


def test_no_prompt_is_one_piece(chunks: PromptChunks) -> None:
    assert chunks.chunks_of([]) == 1
    assert chunks.framed([], 2) == [(14, 15, 0, 0, 0), (14, 15, 0, 0, 0)]


def test_a_long_one_goes_on_in_the_next_piece(chunks: PromptChunks) -> None:
    ids = chunks.tokens("w1 w2 w3 w4", "prompt")
    assert chunks.chunks_of(ids) == 2
    assert chunks.framed(ids, 2) == [(14, 1, 2, 3, 15), (14, 4, 15, 0, 0)]


def test_a_prompt_that_is_too_long_is_refused_by_name(chunks: PromptChunks) -> None:
    most = MAX_CHUNKS * 3
    assert len(chunks.tokens("w1 " * most, "prompt")) == most
    with pytest.raises(ContextExceeded, match=rf"negative_prompt has {most + 1} .* reads {most}"):
        chunks.tokens("w1 " * (most + 1), "negative_prompt")


def test_a_lone_surrogate_is_refused(chunks: PromptChunks) -> None:
    with pytest.raises(InvalidParameter, match="prompt holds a lone surrogate at character 1"):
        chunks.tokens("a\ud800", "prompt")
