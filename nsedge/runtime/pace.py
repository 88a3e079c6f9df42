"""How much of a prompt may be read with a decode step or between two, from what both cost."""

from __future__ import annotations

import math

FLOOR_TOKENS = 8
"""Read between two decode steps whatever they cost, so that prompts always get on."""
MIXED_FLOOR_TOKENS = 2
"""The same along with a decode step, where few cost no more a token than many."""
LEAST_TOKENS = 8
"""What is left of a budget is not worth a run of its own below this."""
QUIET_EVERY = 64
"""Steps along with which something was read, before one of so many rows goes by itself again."""
_WEIGHT = 0.25
"""Of the newest measurement in the running mean."""
_LEAP = 2.0
"""A measurement counts as at most so many times the mean: one hiccup is not the new normal."""
_QUIET_LEAP = 1.1
"""The same of decode steps, whose hiccups go one way: their mean would lie above most of them."""
_LEAST_SHARE = 0.1
"""Of a step's time at least is what was read, however much the rows' own share was overrated."""


class Pace:
    """Learns what a decode step of so many rows and what a prompt token cost; running means."""

    def __init__(self, *, stretch: float, chunk_tokens: int, floor_tokens: int) -> None:
        """`stretch`: a token of a running stream may take so many times its quiet step."""
        self._stretch = stretch
        self._chunk_tokens = chunk_tokens
        self._floor_tokens = floor_tokens
        self._decode_s: dict[int, float] = {}
        self._steps_since: dict[int, int] = {}
        self._token_s: float | None = None

    def decoded(self, seconds: float, *, rows: int) -> None:
        """A decode step of `rows` rows took so long."""
        self._decode_s[rows] = _mean(self._decode_s.get(rows), seconds, _QUIET_LEAP)
        self._steps_since[rows] = 0

    def read(self, tokens: int, seconds: float, *, rows: int = 0) -> None:
        """Reading so many prompt tokens took so long, a token of each of `rows` rows included."""
        own_s = max(seconds - self._quiet_s(rows), _LEAST_SHARE * seconds)
        self._token_s = _mean(self._token_s, own_s / tokens, _LEAP)
        if rows:
            self._steps_since[rows] = self._steps_since.get(rows, 0) + 1

    def wants_quiet(self, rows: int) -> bool:
        """Whether a decode step of so many rows has to be measured by itself."""
        return rows not in self._decode_s or self._steps_since[rows] >= QUIET_EVERY

    def budget(self, *, prompts: int, rows: int) -> int:
        """Prompt tokens to read with the next decode step of `rows` rows, or before it.

        Where more prompts can be read than rows decode, the rows wait longer in proportion: most
        of those who wait then wait for a first token.
        """
        quiet_s = self._quiet_s(rows)
        if not quiet_s or not self._token_s:
            return min(self._floor_tokens, self._chunk_tokens)
        crowd = max(1.0, prompts / rows)
        tokens = quiet_s * (self._stretch - 1.0) * crowd / self._token_s
        grain = self._floor_tokens // 2
        whole = math.floor(tokens / grain) * grain
        return min(max(self._floor_tokens, whole), self._chunk_tokens)

    def _quiet_s(self, rows: int) -> float:
        """A decode step of `rows` rows; of the next smaller number measured where that is not."""
        known = [number for number in self._decode_s if number <= rows]
        return self._decode_s[max(known)] if known else 0.0


def _mean(mean: float | None, newest: float, leap: float) -> float:
    if mean is None:
        return newest
    return mean + _WEIGHT * (min(newest, mean * leap) - mean)
