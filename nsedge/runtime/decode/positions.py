"""Positions of tokens on three axes, time, row and column, as Qwen2-VL has them.

Of text all three are the same, and count on. A picture's tokens have the time of its first one, and
rows and columns that count from there; text goes on behind the greatest. What comes behind a prompt
is text.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

AXES = 3
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A picture in a prompt: the place of its first token, and its rows and columns of tokens."""

    place: int
    rows: int
    columns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Positions:
    """Of a prompt's tokens, int64 [3, prompt], and how much less far than the tokens they count
    behind it."""

    of_prompt: Ints
    lag: int

    @classmethod
    def of(cls, tokens: int, blocks: Iterable[Block]) -> Positions:
        """Of a prompt of so many tokens with pictures, in the order of their places."""
        found = np.empty((AXES, tokens), np.int64)
        place = at = 0
        for block in blocks:
            words, end = block.place - place, block.place + block.rows * block.columns
            found[:, place : block.place] = np.arange(at, at + words)
            at += words
            row, column = np.divmod(np.arange(end - block.place), block.columns)
            found[:, block.place : end] = at + np.stack([np.zeros_like(row), row, column])
            at += max(block.rows, block.columns)
            place = end
        found[:, place:] = np.arange(at, at + tokens - place)
        return cls(of_prompt=found, lag=place - at)

    def between(self, start: int, end: int) -> Ints:
        """Those of tokens `start` to `end` of the prompt, or of what comes behind it."""
        read = self.of_prompt.shape[1]
        if end <= read:
            return self.of_prompt[:, start:end]
        behind = text(max(start, read) - self.lag, end - self.lag)
        return np.concatenate([self.of_prompt[:, start:read], behind], axis=1)


def text(start: int, end: int) -> Ints:
    """Positions `start` to `end` of text: int64 [3, end - start]."""
    return np.broadcast_to(np.arange(start, end), (AXES, end - start))
