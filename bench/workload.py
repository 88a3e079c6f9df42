"""Prompts of a wanted length, each different from its first token on, the same in every run."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

from tokenizers import Tokenizer

from nsedge.bundle.manifest import Bundle

_TEXT = (
    "the harbour lamp was lit before dusk and three boats came in with nets full of silver fish "
    "while the keeper wrote down wind and weather in a book that nobody had read for many years"
)
_FIRST = re.compile("[a-z]{3,}")


class Writer:
    """Writes prompts; no two that it ever wrote begin with the same token."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        words = sorted(word for word in self._tokenizer.get_vocab() if _FIRST.fullmatch(word))
        self._first = (word for word in words if self.length(word) == 1)
        self._number = itertools.count()

    @classmethod
    def of(cls, bundle: Path) -> Writer:
        """With the tokenizer of a bundle's directory."""
        opened = Bundle.open(bundle)
        return cls(Tokenizer.from_file(str(opened.file(opened.manifest.tokenizer.file))))

    def length(self, text: str) -> int:
        """Tokens of a text."""
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def prompts(self, *, count: int, tokens: int) -> list[str]:
        """`count` new texts of `tokens` tokens each, give or take one.

        Raises:
            ValueError: every word that can begin a prompt has begun one.
        """
        beginnings = list(itertools.islice(self._first, count))
        if len(beginnings) < count:
            raise ValueError("the vocabulary has no word left that began no prompt")
        return [self._prompt(first, tokens) for first in beginnings]

    def _prompt(self, first: str, tokens: int) -> str:
        source, shift = _TEXT.split(), next(self._number) * 7
        words, count = [first], 1
        while (missing := tokens - count) > 0:
            begin = len(words) + shift
            words += [source[n % len(source)] for n in range(begin, begin + missing)]
            count = self.length(" ".join(words))
        while self.length(" ".join(words)) > tokens + 1:
            words.pop()
        return " ".join(words)
