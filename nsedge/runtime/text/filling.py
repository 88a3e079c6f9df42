"""Texts with a gap: the tokens that models were trained to fill one by."""

from __future__ import annotations

from dataclasses import dataclass

from tokenizers import Tokenizer

_NAMES = (
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),
    ("<fim-prefix>", "<fim-suffix>", "<fim-middle>"),
    ("<PRE>", "<SUF>", "<MID>"),
    ("▁<PRE>", "▁<SUF>", "▁<MID>"),
    ("<|fim▁begin|>", "<|fim▁hole|>", "<|fim▁end|>"),
    ("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),
    ("[PREFIX]", "[SUFFIX]", "[MIDDLE]"),
)
"""What models call them: before what precedes the gap, before what follows it, before its text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FillTokens:
    """The three tokens of one model."""

    prefix: int
    suffix: int
    middle: int

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> FillTokens | None:
        """Those of a vocabulary; None where it has none."""
        for names in _NAMES:
            prefix, suffix, middle = map(tokenizer.token_to_id, names)
            if prefix is not None and suffix is not None and middle is not None:
                return cls(prefix=prefix, suffix=suffix, middle=middle)
        return None

    def around(self, before: list[int], after: list[int]) -> list[int]:
        """The prompt that asks for what stands between the two."""
        return [self.prefix, *before, self.suffix, *after, self.middle]
