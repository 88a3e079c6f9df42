"""How much of a prompt may be read between two decode steps, from what both cost lately."""

from __future__ import annotations

import math

FLOOR_TOKENS = 8
"""Read between two decode steps whatever they cost, so that prompts always get on."""
LEAST_TOKENS = 8
"""What is left of a budget is not worth a piece of its own below this."""
_GRAIN_TOKENS = 4
"""Kernels work on so many rows at a time."""
_WEIGHT = 0.25
"""Of the newest measurement in the running mean."""
_LEAP = 2.0
"""A measurement counts as at most so many times the mean: one hiccup is not the new normal."""


class Pace:
    """Learns seconds a decode step and seconds a prompt token; both as running means."""

    def __init__(self, *, stretch: float, chunk_tokens: int) -> None:
        """`stretch`: a token of a running stream may take so many times its quiet step."""
        self._stretch = stretch
        self._chunk_tokens = chunk_tokens
        self._decode_s: float | None = None
        self._token_s: float | None = None

    def decoded(self, seconds: float) -> None:
        """A decode step took so long."""
        self._decode_s = _mean(self._decode_s, seconds)

    def read(self, tokens: int, seconds: float) -> None:
        """Reading so many prompt tokens took so long."""
        self._token_s = _mean(self._token_s, seconds / tokens)

    def budget(self, *, prompts: int, rows: int) -> int:
        """Prompt tokens to read before the next decode step of `rows` rows.

        Where more prompts can be read than rows decode, the rows wait longer in proportion: most
        of those who wait then wait for a first token.
        """
        if self._decode_s is None or not self._token_s:
            return min(FLOOR_TOKENS, self._chunk_tokens)
        crowd = max(1.0, prompts / rows)
        tokens = self._decode_s * (self._stretch - 1.0) * crowd / self._token_s
        whole = math.floor(tokens / _GRAIN_TOKENS) * _GRAIN_TOKENS
        return min(max(FLOOR_TOKENS, whole), self._chunk_tokens)


def _mean(mean: float | None, newest: float) -> float:
    if mean is None:
        return newest
    return mean + _WEIGHT * (min(newest, mean * _LEAP) - mean)
