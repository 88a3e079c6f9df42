"""Tokenizers rebuilt from GGUF metadata, against those that `transformers` makes of the same."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import TokenType
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers.convert_slow_tokenizer import TikTokenConverter
from transformers.integrations.ggml import convert_gguf_tokenizer

from exporters.errors import ExportError, Refused
from exporters.gguf.file import Metadata
from exporters.gguf.tokenizer import LLAMA3_PATTERN, LONGEST_TOKEN, end_tokens, tokenizer_of

pytestmark = pytest.mark.export

CORPUS = (Path(__file__).parents[2] / "docs" / "architecture.md").read_text()
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
SENTENCE_SPECIAL = ["<unk>", "<s>", "</s>"]
TEXTS = [
    "Hello world, it's what THEY'LL say: don't.",
    "In 2024, 1234567 people paid $3.99 for 10% off.",
    "  leading  spaces\n\n\n\ttabs \t mixed   ",
    "a\r\nb\u00a0c\u3000d",
    "naïve café — 日本語 🎉👩‍👩‍👧‍👦 ١٢٣",
    "cafe\u0301 as two letters",
    "def f(x):\n    return x**2  # 10%\n",
    "<|im_start|>user\nHi 42<|im_end|>\n",
    "<s>the scheduler and the engine</s>",
    "",
]

Values = dict[str, Any]


def byte_level(name: str | None) -> Values:
    """Metadata of a byte-level vocabulary trained on a page of ours."""
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=700, initial_alphabet=alphabet, special_tokens=SPECIAL, show_progress=False
    )
    trained.train_from_iterator([CORPUS, "123 1234 12 2024 caf\u00e9"], trainer)
    tokens, merges = parts_of(trained)
    values = special_values("gpt2", tokens, len(SPECIAL)) | {
        "tokenizer.ggml.merges": [" ".join(pair) for pair in merges]
    }
    return values if name is None else values | {"tokenizer.ggml.pre": name}


def sentence_piece() -> Values:
    """Metadata of a SentencePiece vocabulary: bytes, then pieces, the better the earlier."""
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=600, show_progress=False)
    trained.train_from_iterator([CORPUS], trainer)
    pieces, merges = parts_of(trained)
    learnt = ["".join(pair) for pair in merges]
    letters = [piece for piece in pieces if piece not in learnt]
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    tokens = [*SENTENCE_SPECIAL, *bytes_, *learnt, *letters]
    scores = [0.0] * 259 + [float(-n) for n in range(len(learnt))] + [-1e4] * len(letters)
    return special_values("llama", tokens, 3) | {
        "tokenizer.ggml.scores": np.array(scores, np.float32),
        "tokenizer.ggml.unknown_token_id": 0,
    }


def parts_of(trained: Tokenizer) -> tuple[list[str], list[list[str]]]:
    """Tokens in order, and merges in order."""
    model = json.loads(trained.to_str())["model"]
    tokens = [token for token, _ in sorted(model["vocab"].items(), key=lambda item: item[1])]
    return tokens, model["merges"]


def special_values(kind: str, tokens: list[str], special: int) -> Values:
    sorts = [TokenType.CONTROL] * special + [TokenType.NORMAL] * (len(tokens) - special)
    return {
        "tokenizer.ggml.model": kind,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": np.array(sorts, np.int32),
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
    }


def ours(values: Values, **changes: Any) -> Tokenizer:
    prefixed = {f"tokenizer.ggml.{key}": value for key, value in changes.items()}
    return tokenizer_of(Metadata(values | prefixed, "tiny.gguf"))


def theirs(values: Values, architecture: str) -> Tokenizer:
    names = {key.rpartition(".")[2]: value for key, value in values.items()}
    told = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in names.items()}
    return convert_gguf_tokenizer(architecture, told | {"tokenizer_type": architecture})[0]


@pytest.mark.parametrize("text", TEXTS)
def test_qwen2s_split_is_theirs(text: str) -> None:
    values = byte_level("qwen2")
    mine, other = ours(values), theirs(values, "qwen2")
    ids = mine.encode(text).ids
    assert ids == other.encode(text).ids
    normal = mine.normalizer.normalize_str(text)
    assert mine.decode(ids, skip_special_tokens=False) == normal


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("name", ["gpt-2", "default", None])
def test_gpt2s_split_is_theirs(name: str | None, text: str) -> None:
    values = byte_level(name)
    mine, other = ours(values), theirs(values, "gpt2")
    other.add_special_tokens(SPECIAL)
    assert mine.encode(text).ids == other.encode(text).ids
    assert mine.decode(mine.encode(text).ids, skip_special_tokens=False) == text


def test_llama3s_split_is_theirs_and_whole_words_need_no_merges() -> None:
    assert inspect.signature(TikTokenConverter).parameters["pattern"].default == LLAMA3_PATTERN
    values = byte_level("llama-bpe")
    values["tokenizer.ggml.tokens"][-1] = "zyxw"
    values["tokenizer.ggml.merges"].pop()
    tokenizer = ours(values, add_bos_token=False)
    assert tokenizer.encode("zyxw").tokens == ["zyxw"]
    assert tokenizer.pre_tokenizer.pre_tokenize_str("12345")[0][0] == "123"


@pytest.mark.parametrize("text", TEXTS)
def test_sentence_pieces_are_theirs(text: str) -> None:
    values = sentence_piece()
    mine, other = ours(values, add_bos_token=False), theirs(values, "llama")
    ids = mine.encode(text).ids
    assert ids == other.encode(text).ids
    if "<s>" not in text:
        assert mine.decode(ids, skip_special_tokens=False) == text


def test_letters_that_are_no_piece_become_bytes() -> None:
    tokens = ours(sentence_piece(), add_bos_token=False).encode("🎉").tokens
    assert tokens[-4:] == ["<0xF0>", "<0x9F>", "<0x8E>", "<0x89>"]


@pytest.mark.parametrize(
    ("values", "changes", "begins"),
    [
        (sentence_piece(), {}, True),  # unsaid, SentencePiece begins a text
        (sentence_piece(), {"add_bos_token": False}, False),
        (byte_level("qwen2"), {}, False),
        (byte_level("llama-bpe"), {}, True),
        (byte_level("gpt-2"), {"add_bos_token": True}, True),
    ],
)
def test_a_text_begins_as_the_metadata_say(values: Values, changes: Values, begins: bool) -> None:
    tokenizer = ours(values, **changes)
    ids = tokenizer.encode("the").ids
    assert (ids[0] == 1) is begins
    assert tokenizer.encode("the", add_special_tokens=False).ids == ids[begins:]


def test_every_end_is_known_the_sequences_own_first() -> None:
    values = byte_level("qwen2") | {"tokenizer.ggml.eot_token_id": 7}
    assert end_tokens(Metadata(values, "tiny.gguf")) == [2, 7, 0]


def test_user_defined_tokens_are_found_whole_and_are_not_special() -> None:
    values = byte_level("qwen2")
    values["tokenizer.ggml.tokens"][-1] = "<tool call>"
    values["tokenizer.ggml.merges"].pop()
    values["tokenizer.ggml.token_type"][-1] = TokenType.USER_DEFINED
    tokenizer = ours(values)
    assert tokenizer.encode("a<tool call>b").tokens == ["a", "<tool call>", "b"]
    assert tokenizer.decode([len(values["tokenizer.ggml.tokens"]) - 1]) == "<tool call>"


@pytest.mark.parametrize(
    ("values", "changes", "message"),
    [
        (sentence_piece(), {"model": "bert"}, "a 'bert' vocabulary"),
        (byte_level("qwen2"), {"pre": "tekken"}, "a 'tekken' pre-tokenizer; smollm, llama-bpe"),
        (byte_level("qwen2"), {"add_eos_token": True}, "its tokenizer ends every text"),
    ],
)
def test_other_vocabularies_are_refused_by_name(
    values: Values, changes: Values, message: str
) -> None:
    with pytest.raises(Refused, match=message):
        ours(values, **changes)


@pytest.mark.parametrize(
    ("values", "changes", "message"),
    [
        (byte_level("qwen2"), {"merges": ["ab"]}, "is no pair"),
        (byte_level("qwen2"), {"merges": ["a nosuchtoken"]}, "cannot be rebuilt"),
        (byte_level("qwen2"), {"tokens": "text"}, "tokens are no texts"),
        (byte_level("qwen2"), {"token_type": np.zeros(3, np.int32)}, "are not 7.. numbers"),
        (byte_level("gpt-2"), {"add_bos_token": True, "bos_token_id": 1 << 30}, "no such token"),
        (byte_level("gpt-2"), {"add_bos_token": True, "bos_token_id": 1 << 40}, "no 32 bits hold"),
        (sentence_piece(), {"scores": None}, "scores is missing"),
        (sentence_piece(), {"unknown_token_id": -1}, "is no whole number"),
    ],
)
def test_parts_that_do_not_fit_are_told(values: Values, changes: Values, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        ours(values, **changes)


def test_a_piece_too_long_to_be_cut_everywhere_is_refused() -> None:
    values = sentence_piece()
    values["tokenizer.ggml.tokens"][-1] = "a" * (LONGEST_TOKEN + 1)
    with pytest.raises(ExportError, match="has 1025 characters"):
        ours(values)
