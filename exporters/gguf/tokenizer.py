"""The tokenizer that a GGUF file's metadata describe, in the form of Hugging Face's tokenizers.

Two kinds: byte-level BPE ("gpt2"), which splits text by a pattern that only its name tells, and
SentencePiece's BPE ("llama"), whose merges follow from the tokens' scores. Patterns and parts are
those of the model makers' own tokenizer.json, as `transformers` converts them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
from gguf import TokenType
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)

from exporters.errors import ExportError, Refused
from exporters.gguf.file import Metadata, shown

BYTE_LEVEL, SENTENCE_PIECE = "gpt2", "llama"
UNDERLINE = "▁"
LONGEST_TOKEN = 1024
"""Characters of a SentencePiece token: every way to cut it in two is tried."""

_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3_PATTERN = rf"{_WORDS}\p{{N}}{{1,3}}{_REST}"
QWEN2_PATTERN = rf"{_WORDS}\p{{N}}{_REST}"

ENDS = ("eos", "eot", "eom")
"""Tokens that the metadata name as ends of a text, of a turn, or of a message."""
END_NAMES = frozenset(
    {
        *("<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<|eom_id|>"),
        *("<EOT>", "_<EOT>", "[EOT]", "[EOS]", "</s>", "<|end_of_text|>", "<end_of_utterance>"),
        "<｜end▁of▁sentence｜>",
    }
)
"""Tokens that end a text by their name, as llama.cpp has it; but one that may be an ordinary word,
such as Qwen's `</s>`, the end of a tag in HTML, has to be typed as a control token."""
MARKERS = ("<|", "<｜")
"""Beginnings of tokens that are no words."""


def tokenizer_of(metadata: Metadata) -> Tokenizer:
    """The tokenizer, beginning a text with the beginning token where the metadata want that.

    Raises:
        Refused: another kind of vocabulary or pre-tokenizer.
        ExportError: its parts do not fit together.
    """
    kind = metadata.text("tokenizer.ggml.model")
    if kind not in (BYTE_LEVEL, SENTENCE_PIECE):
        raise Refused(
            f"{metadata.where}: a {shown(kind)} vocabulary;"
            f" {BYTE_LEVEL} (byte-level BPE) and {SENTENCE_PIECE} (SentencePiece) can be rebuilt"
        )
    if metadata.flag("tokenizer.ggml.add_eos_token", False):
        raise Refused(f"{metadata.where}: its tokenizer ends every text; that is not known here")
    _check_tokens(metadata)
    make = _byte_level if kind == BYTE_LEVEL else _sentence_piece
    try:
        tokenizer = make(metadata)
        _add_tokens(tokenizer, metadata, kind)
        if adds_bos(metadata):
            _begin(tokenizer, metadata)
    except (ExportError, MemoryError):
        raise
    except Exception as error:  # the library raises nothing narrower
        raise ExportError(
            f"{metadata.where}: its tokenizer cannot be rebuilt: {shown(str(error))}"
        ) from error
    return tokenizer


def _check_tokens(metadata: Metadata) -> None:
    """Hold that each token has a text of its own, but for those of no text."""
    counts = Counter(metadata.texts("tokenizer.ggml.tokens"))
    twice = next((token for token, count in counts.items() if token and count > 1), None)
    if twice is not None:
        raise ExportError(f"{metadata.where}: two tokens are {shown(twice)}")


def adds_bos(metadata: Metadata) -> bool:
    """Whether a plain text begins with the beginning token; unsaid, it depends on the kind."""
    named = metadata.text("tokenizer.ggml.pre", "default")
    unsaid = metadata.text("tokenizer.ggml.model") == SENTENCE_PIECE or named == "llama-bpe"
    return metadata.flag("tokenizer.ggml.add_bos_token", unsaid)


def special_token(metadata: Metadata, kind: str) -> int | None:
    """The number of the beginning ("bos") or another special token, if there is one.

    Raises:
        ExportError: there is no token of that number.
    """
    key = f"tokenizer.ggml.{kind}_token_id"
    if key not in metadata:
        return None
    number = metadata.whole(key)
    if number >= len(metadata.texts("tokenizer.ggml.tokens")):
        raise ExportError(f"{metadata.where}: {key} is {number}, and there is no such token")
    return number


def end_tokens(metadata: Metadata) -> list[int]:
    """Every token that ends a text, the end of sequence first."""
    named = [special_token(metadata, kind) for kind in ENDS]
    tokens = metadata.texts("tokenizer.ggml.tokens")
    control = _types(metadata) == TokenType.CONTROL
    known = [
        number
        for number, token in enumerate(tokens)
        if token in END_NAMES and (control[number] or token.startswith(MARKERS))
    ]
    return list(dict.fromkeys([*(n for n in named if n is not None), *known]))


def _byte_level(metadata: Metadata) -> Tokenizer:
    name = metadata.text("tokenizer.ggml.pre", "default")
    if name not in SPLITS:
        raise Refused(
            f"{metadata.where}: a {shown(name)} pre-tokenizer; {', '.join(SPLITS)} can be rebuilt"
        )
    tokens = metadata.texts("tokenizer.ggml.tokens")
    merges = [_pair(merge) for merge in metadata.texts("tokenizer.ggml.merges")]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(
        models.BPE(vocab=vocabulary, merges=merges, ignore_merges=name == "llama-bpe")
    )
    if name == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = SPLITS[name]()
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _pair(merge: str) -> tuple[str, str]:
    left, found, right = merge.partition(" ")
    if not found:
        raise ExportError(f"the merge {shown(merge)} is no pair")
    return left, right


def _gpt2_split() -> Any:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)


def _smollm_split() -> Any:
    return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), _gpt2_split()])


def _split_by(pattern: str) -> Callable[[], Any]:
    def make() -> Any:
        return pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )

    return make


SPLITS: dict[str, Callable[[], Any]] = {
    "smollm": _smollm_split,
    "llama-bpe": _split_by(LLAMA3_PATTERN),
    "qwen2": _split_by(QWEN2_PATTERN),
    "gpt-2": _gpt2_split,
    "default": _gpt2_split,
}
"""By the name in the metadata; one that does not say is read as GPT-2's, as transformers does."""


def _sentence_piece(metadata: Metadata) -> Tokenizer:
    tokens = metadata.texts("tokenizer.ggml.tokens")
    scores = metadata.numbers("tokenizer.ggml.scores", len(tokens)).tolist()
    unknown = special_token(metadata, "unknown")
    tokenizer = Tokenizer(
        models.BPE(
            vocab={token: number for number, token in enumerate(tokens)},
            merges=_merges(tokens, scores),
            unk_token=None if unknown is None else tokens[unknown],
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    prefixed = metadata.flag("tokenizer.ggml.add_space_prefix", True)
    steps: list[Any] = [normalizers.Prepend(UNDERLINE)] if prefixed else []
    tokenizer.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", UNDERLINE)])
    undo: list[Any] = [
        decoders.Replace(UNDERLINE, " "),
        decoders.ByteFallback(),
        decoders.Fuse(),
    ]
    if prefixed:
        undo.append(decoders.Strip(" ", 1, 0))
    tokenizer.decoder = decoders.Sequence(undo)
    return tokenizer


def _merges(tokens: list[str], scores: list[float]) -> list[tuple[str, str]]:
    """Every way to make a token of two others, the token of the best score first."""
    if (longest := max(tokens, key=len, default="")) and len(longest) > LONGEST_TOKEN:
        raise ExportError(f"the token {shown(longest)} has {len(longest)} characters")
    number = {token: n for n, token in enumerate(tokens)}
    found = []
    for token, n in number.items():
        cuts = [(token[:at], token[at:]) for at in range(1, len(token))]
        pairs = [(a, b) for a, b in cuts if a in number and b in number]
        pairs.sort(key=lambda pair: (number[pair[0]], number[pair[1]]))
        found += [(scores[n], len(a), len(b), a, b) for a, b in pairs]
    found.sort(key=lambda merge: merge[:3], reverse=True)
    return [(a, b) for *_, a, b in found]


def _types(metadata: Metadata) -> Any:
    tokens = metadata.texts("tokenizer.ggml.tokens")
    if "tokenizer.ggml.token_type" not in metadata:
        return np.full(len(tokens), int(TokenType.NORMAL))
    return metadata.numbers("tokenizer.ggml.token_type", len(tokens))


def _add_tokens(tokenizer: Tokenizer, metadata: Metadata, kind: str) -> None:
    """Tokens that a text may hold whole: control ones, and those that users have defined.

    What ends a text, and what begins it, is a control token whatever its type.
    """
    tokens, types = metadata.texts("tokenizer.ggml.tokens"), _types(metadata)
    controls = [TokenType.CONTROL, *([TokenType.UNKNOWN] if kind == SENTENCE_PIECE else [])]
    special = set(np.flatnonzero(np.isin(types, controls)).tolist())
    special.update(end_tokens(metadata))
    if adds_bos(metadata) and (first := special_token(metadata, "bos")) is not None:
        special.add(first)
    whole = special.union(np.flatnonzero(types == TokenType.USER_DEFINED).tolist())
    added = [AddedToken(tokens[n], normalized=False, special=n in special) for n in sorted(whole)]
    tokenizer.add_tokens(added)


def _begin(tokenizer: Tokenizer, metadata: Metadata) -> None:
    number = special_token(metadata, "bos")
    if number is None:
        raise ExportError(f"{metadata.where}: texts begin with a token that is not named")
    token = metadata.texts("tokenizer.ggml.tokens")[number]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=[f"{token}:0", "$A:0"],
        pair=[f"{token}:0", "$A:0", f"{token}:1", "$B:1"],
        special_tokens=[(token, number)],
    )
