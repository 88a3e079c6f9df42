"""Prompts of a wanted length, each different from its first token on, the same in every run."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer

from nsedge.bundle import Bundle

_TEXT = (
    "the harbour lamp was lit before dusk and three boats came in with nets full of silver fish "
    "while the keeper wrote down wind and weather in a book that nobody had read for many years"
)


def prompts(bundle: Path, *, count: int, tokens: int) -> list[str]:
    """`count` texts of `tokens` tokens each, give or take one."""
    opened = Bundle.open(bundle)
    tokenizer = Tokenizer.from_file(str(opened.file(opened.manifest.tokenizer.file)))
    return [_prompt(tokenizer, number, tokens) for number in range(count)]


def _prompt(tokenizer: Tokenizer, number: int, tokens: int) -> str:
    source = _TEXT.split()
    words = [f"Entry {number}:"]
    while len(tokenizer.encode(" ".join(words), add_special_tokens=False).ids) < tokens:
        words.append(source[(number * 7 + len(words)) % len(source)])
    return " ".join(words)
