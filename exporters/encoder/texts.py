"""The texts that an encoder's graphs are held to."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from tokenizers import Tokenizer

from exporters.errors import Refused
from exporters.model.source import Source, read_tokenizer
from exporters.model.texts import CALIBRATION_FILE, FIDELITY_FILE
from nsedge.bundle.vocabulary import tokens_without_row
from nsedge.errors import BundleInvalid
from nsedge.runtime.text.reader import TextReader

GOLDEN_FILE = Path(__file__).parents[1] / "data" / "golden_vectors.toml"


def golden_texts() -> tuple[str, ...]:
    """Those whose fp32 vectors every bundle holds."""
    entries = tomllib.loads(GOLDEN_FILE.read_text(encoding="utf-8"))["text"]
    return tuple(entry["text"].strip() for entry in entries)


def fidelity_texts() -> tuple[str, ...]:
    """Those that fidelity is measured over: passages whole, their paragraphs, and the sentences of
    these, each once."""
    return _texts_of(FIDELITY_FILE)


def calibration_texts() -> tuple[str, ...]:
    """Those that ranges are taken from, cut in the same way; fidelity is measured over none."""
    return _texts_of(CALIBRATION_FILE)


def _texts_of(file: Path) -> tuple[str, ...]:
    texts: dict[str, None] = {}
    for entry in tomllib.loads(file.read_text(encoding="utf-8"))["passage"]:
        turns = [turn["content"] for turn in entry.get("messages", ())]
        passage = entry.get("text") or "\n\n".join(turns)
        for paragraph in [passage, *passage.split("\n\n")]:
            parts = [paragraph, *re.split(r"(?<=[.!?])\s+", paragraph)]
            texts |= dict.fromkeys(part.strip() for part in parts)
    return tuple(filter(None, texts))


def reader_of(source: Source, *, context_length: int, vocab_size: int) -> TextReader:
    """Reads texts as the daemon does.

    Raises:
        Refused: the tokenizer does not put its special tokens around a text, or knows more tokens
            than the model.
        ExportError: it cannot be read.
    """
    tokenizer = tokenizer_of(source, vocab_size=vocab_size)
    try:
        return TextReader(tokenizer, context_length=context_length, vocab_size=vocab_size)
    except BundleInvalid as error:
        raise Refused(str(error)) from error


def tokenizer_of(source: Source, *, vocab_size: int) -> Tokenizer:
    """A folder's tokenizer.

    Raises:
        Refused: it knows more tokens than the model.
        ExportError: it cannot be read.
    """
    tokenizer = read_tokenizer(source.tokenizer_file)
    if reason := tokens_without_row(tokenizer, vocab_size):
        raise Refused(
            f"{source.folder}: {reason}; --drop-surplus-tokens leaves them out, if they were added"
            " to the vocabulary"
        )
    return tokenizer
