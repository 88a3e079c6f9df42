"""Durations in buckets: counted where they arise, told as a `Histogram`."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass

WAIT_BOUNDS_S = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""For what a person waits for: the queue, the first token, a load."""
TOKEN_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0)
"""For what comes again and again: tokens, steps, turns of an event loop."""
LAG_BOUNDS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
"""For how late an event loop comes round."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """How many durations fell into which bucket, since counting began.

    - bounds_s: the buckets' upper ends, included, rising.
    - counts: a number a bucket, and last that of all durations beyond; not cumulative.
    - sum_s: all durations together.
    """

    bounds_s: tuple[float, ...]
    counts: tuple[int, ...]
    sum_s: float

    @property
    def count(self) -> int:
        """How many durations."""
        return sum(self.counts)

    @property
    def mean_s(self) -> float:
        """Their mean; NaN of none."""
        return self.sum_s / self.count if self.count else math.nan

    def quantile(self, share: float) -> float:
        """The duration that `share` of all do not exceed, 0 to 1, taken as spread evenly within a
        bucket, as PromQL's `histogram_quantile` has it; NaN of none. What lies beyond the last
        bound is told as that bound."""
        wanted, before, lower_s = share * self.count, 0, 0.0
        if not self.count:
            return math.nan
        for upper_s, count in zip(self.bounds_s, self.counts, strict=False):
            if count and before + count >= wanted:
                return lower_s + (upper_s - lower_s) * (wanted - before) / count
            before, lower_s = before + count, upper_s
        return lower_s

    def since(self, earlier: Histogram | None) -> Histogram:
        """The counts since `earlier`; all, where counting began anew."""
        if earlier is None or earlier.bounds_s != self.bounds_s or earlier.count > self.count:
            return self
        pairs = zip(self.counts, earlier.counts, strict=True)
        return Histogram(
            bounds_s=self.bounds_s,
            counts=tuple(now - then for now, then in pairs),
            sum_s=self.sum_s - earlier.sum_s,
        )


class Stopwatch:
    """Counts durations. One thread adds, any may read: no locks, and no memory but its buckets."""

    __slots__ = ("_bounds_s", "_counts", "_sum_s")

    def __init__(self, bounds_s: tuple[float, ...]) -> None:
        self._bounds_s = bounds_s
        self._counts = [0] * (len(bounds_s) + 1)
        self._sum_s = 0.0

    def add(self, seconds: float) -> None:
        """One more."""
        self._counts[bisect_left(self._bounds_s, seconds)] += 1
        self._sum_s += seconds

    def read(self) -> Histogram:
        """The counts so far; the sum may be a duration ahead or behind."""
        return Histogram(bounds_s=self._bounds_s, counts=tuple(self._counts), sum_s=self._sum_s)
