"""How slow the machine is just now, and how far that can be trusted. Values only."""

from __future__ import annotations

from collections import deque

_WEIGHT = 0.25
"""Of the newest measurement in the running mean."""
_LEAP = 2.0
"""A measurement counts as at most so many times the mean: one hiccup is not the new normal."""
_WINDOW = 256
_PERCENTILE = 0.99
_FRESH_EVERY = 16
"""Measurements between two looks for the percentile."""
_UNKNOWN_TAIL = 1.5
"""Until there are measurements enough for a percentile."""


class Median:
    """A running median: each measurement moves it by a share of itself, whatever its size."""

    def __init__(self, first: float, *, step: float) -> None:
        """`step` is that share once there have been many; the first few move it further."""
        self.value = first
        self._step = step
        self._seen = 1

    def add(self, newest: float) -> None:
        """Take a measurement, above zero."""
        self._seen += 1
        step = 1.0 + max(self._step, 0.5 / self._seen)
        if newest > self.value:
            self.value = min(newest, self.value * step)
        else:
            self.value = max(newest, self.value / step)


class Slowness:
    """What steps take, in shares of what they were expected to take on this machine as a rule.

    A virtual machine's cores are now and then half as fast, for some steps in a row. `now` follows
    that: a running mean. `tail` is the 99th percentile of what came, as a share of `now` before it:
    how much slower the next step may turn out than the last ones let expect.
    """

    def __init__(self) -> None:
        self.now = 1.0
        self.tail = _UNKNOWN_TAIL
        self._surprises: deque[float] = deque(maxlen=_WINDOW)
        self._until_look = _FRESH_EVERY * 4

    def add(self, ratio: float) -> None:
        """A step took `ratio` times what was expected."""
        self._surprises.append(ratio / self.now)
        self.now += _WEIGHT * (min(ratio, self.now * _LEAP) - self.now)
        self._until_look -= 1
        if self._until_look <= 0:
            self._until_look = _FRESH_EVERY
            ordered = sorted(self._surprises)
            self.tail = ordered[int(_PERCENTILE * (len(ordered) - 1))]
