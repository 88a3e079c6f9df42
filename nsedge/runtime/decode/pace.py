"""How much of a prompt may be read with a decode step or between two, from what both cost."""

from __future__ import annotations

import math

from nsedge.runtime.decode.slowness import Median, Slowness

FLOOR_TOKENS = 8
"""Read between two decode steps whatever they cost, so that prompts always get on."""
MIXED_FLOOR_TOKENS = 2
"""The same along with a decode step, where few cost no more a token than many."""
LEAST_TOKENS = 8
"""What is left of a budget is not worth a run of its own below this."""
QUIET_EVERY = 64
"""Steps along with which something was read, before one of so many rows goes by itself again."""
LEAST_STRETCH = 1.25
"""Of a step while the machine is as fast as ever, however far its slowest moments are from that:
prompts get a fifth of the time then."""
_LEAST_SHARE = 0.1
"""Of a step's time at least is what was read, however much the rows' own share was overrated."""
_QUIET_STEP = 0.03
"""By which a measurement moves what a decode step takes."""
_TOKEN_STEP = 0.01
"""The same of a prompt token, which is the small difference of two long times, and uncertain."""
FIRST_TOLD_COST = 2.0
"""What a prompt token whose logits are looked at is first taken to cost, in others."""
_TOLD_STEP = 0.02
"""By which a measurement moves that."""
_TICK_S = 1e-6
"""What a step takes at least: a clock may be coarse."""
MOST_HELD = 8
"""Steps in a row that go by themselves since the machine is slow. A longer moment is how fast the
machine is now: the last of them is measured as a quiet step, and then something is read."""


class Pace:
    """Learns what a decode step of so many rows and what a prompt token cost, and how much longer
    a step may take than that."""

    def __init__(self, *, stretch: float, chunk_tokens: int, floor_tokens: int) -> None:
        """`stretch`: 99 of 100 tokens of a running stream may take so many times its quiet step."""
        self._stretch = stretch
        self._chunk_tokens = chunk_tokens
        self._floor_tokens = floor_tokens
        self._decode_s: dict[int, Median] = {}
        self._steps_since: dict[int, int] = {}
        self._token_s: Median | None = None
        self._told_cost = Median(FIRST_TOLD_COST, step=_TOLD_STEP)
        self._slowness = Slowness()
        self._held = 0
        self._holds = False

    def decoded(self, seconds: float, *, rows: int) -> None:
        """A decode step of `rows` rows took so long."""
        seconds = max(seconds, _TICK_S)
        held, self._holds = self._holds, False
        self._held = self._held + 1 if held else 0
        known = self._decode_s.get(rows)
        if known is not None:
            self._slowness.add(seconds / known.value)
        if held and self._held < MOST_HELD:
            return
        if known is None:
            self._decode_s[rows] = Median(seconds, step=_QUIET_STEP)
        else:
            known.add(seconds)
        self._steps_since[rows] = 0

    def read(self, tokens: int, seconds: float, *, rows: int = 0) -> None:
        """Reading so many prompt tokens took so long, a token of each of `rows` rows included."""
        self._held, seconds = 0, max(seconds, _TICK_S)
        quiet_s = self._quiet_s(rows)
        if rows and self._token_s is not None and rows in self._decode_s:
            self._slowness.add(seconds / (quiet_s + tokens * self._token_s.value))
        own_s = max(seconds - quiet_s, _LEAST_SHARE * seconds) / tokens
        if self._token_s is None:
            self._token_s = Median(own_s, step=_TOKEN_STEP)
        else:
            self._token_s.add(own_s)
        if rows:
            self._steps_since[rows] = self._steps_since.get(rows, 0) + 1

    def told(self, tokens: int, seconds: float, *, rows: int = 0) -> None:
        """Reading so many prompt tokens took so long, with the logits of each looked at."""
        if self._token_s is not None:
            own_s = max(seconds - self._quiet_s(rows), _LEAST_SHARE * seconds) / tokens
            self._told_cost.add(own_s / self._token_s.value)

    def told_tokens(self, budget: int) -> int:
        """How many tokens with their logits looked at take as long as `budget` others; never 0."""
        return max(1, math.floor(budget / max(1.0, self._told_cost.value)))

    def wants_quiet(self, rows: int) -> bool:
        """Whether a decode step of so many rows has to be measured by itself."""
        return rows not in self._decode_s or self._steps_since[rows] >= QUIET_EVERY

    def budget(self, *, prompts: int, rows: int) -> int:
        """Prompt tokens to read with the next decode step of `rows` rows, or before it; 0 where the
        machine is so slow just now that this step has to go by itself.

        Where more prompts can be read than rows decode, the rows wait longer in proportion: most
        of those who wait then wait for a first token.
        """
        quiet_s = self._quiet_s(rows)
        if not quiet_s or self._token_s is None:
            return min(self._floor_tokens, self._chunk_tokens)
        crowd = max(1.0, prompts / rows)
        share = self._aim(crowd) / self._slowness.now - 1.0
        if share <= 0.0 and self._held < MOST_HELD:
            self._holds = prompts > 0
            return 0
        whole = math.floor(max(0.0, share) * quiet_s / self._token_s.value)
        return min(max(self._floor_tokens, whole), self._chunk_tokens)

    def _aim(self, crowd: float) -> float:
        """What a step may take as a rule, in quiet ones, so that nearly all stay in the limit."""
        limit = 1.0 + (self._stretch - 1.0) * crowd
        return max(limit / self._slowness.tail, 1.0 + (LEAST_STRETCH - 1.0) * crowd)

    def _quiet_s(self, rows: int) -> float:
        """A decode step of `rows` rows; of the next smaller number measured where that is not."""
        known = [number for number in self._decode_s if number <= rows]
        return self._decode_s[max(known)].value if known else 0.0
