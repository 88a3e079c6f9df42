"""How many threads a model should run with, from the cores that others leave free. Values only."""

from __future__ import annotations

import math

FOLLOW_FROM = 3
"""Threads from which following the free cores is worth a second session for a moment. Two threads
of which one shares its core do as much as one."""
SHRINK_AT = 0.5
"""Cores missing under the threads in use before fewer are worth it. A process that would take a
whole core gets 0.55 to 0.7 of it beside as many threads as there are cores."""
GROW_AT = 0.75
"""Cores free beyond the threads in use before more are worth it."""
SMOOTH_S = 1.0
"""Time constant of the average that is decided by."""
SHRINK_AFTER_S = 2.0
GROW_AFTER_S = 5.0
REGRET_S = 60.0
"""More threads that had to be taken back within this time were a mistake: the next wait doubles."""
LONGEST_WAIT_S = 300.0


class ThreadChoice:
    """Follows free cores with hysteresis.

    A thread that shares its core with another process is waited for by all the others at every
    matrix product, so that one thread fewer is then faster. More threads make others look less
    busy, fewer make them look busier or the same: between the two limits nothing changes, and it
    cannot swing by its own doing.
    """

    def __init__(self, *, most: int) -> None:
        self.threads = most
        self._most = most
        self._free = float(most)
        self._read_s: float | None = None
        self._since_s: float | None = None
        self._towards = 0
        self._grow_after_s = GROW_AFTER_S
        self._grew_s = -math.inf

    def take(self, now_s: float, free: float) -> int:
        """Threads to run with, `free` cores having been left since the last call."""
        self._smooth(now_s, free)
        wanted = self._wanted()
        towards = (wanted > self.threads) - (wanted < self.threads)
        if towards != self._towards or self._since_s is None:
            self._towards, self._since_s = towards, now_s
        if towards < 0 and now_s - self._since_s >= SHRINK_AFTER_S:
            self._shrink(now_s, wanted)
        elif towards > 0 and now_s - self._since_s >= self._grow_after_s:
            self._grow(now_s, wanted)
        return self.threads

    def _smooth(self, now_s: float, free: float) -> None:
        elapsed_s = math.inf if self._read_s is None else now_s - self._read_s
        self._read_s = now_s
        self._free += (free - self._free) * -math.expm1(-elapsed_s / SMOOTH_S)

    def _wanted(self) -> int:
        missing = self.threads - self._free
        if missing > SHRINK_AT:
            return max(1, self.threads - math.ceil(missing - SHRINK_AT))
        if -missing > GROW_AT:
            return min(self._most, self.threads + math.floor(1 - GROW_AT - missing))
        return self.threads

    def _shrink(self, now_s: float, wanted: int) -> None:
        if now_s - self._grew_s < REGRET_S:
            self._grow_after_s = min(LONGEST_WAIT_S, self._grow_after_s * 2)
        else:
            self._grow_after_s = GROW_AFTER_S
        self._move(wanted)

    def _grow(self, now_s: float, wanted: int) -> None:
        self._grew_s = now_s
        self._move(wanted)

    def _move(self, wanted: int) -> None:
        self.threads = wanted
        self._since_s = None
