"""Rows for sequences that continue a prompt which another row holds: read once, by one of them."""

from __future__ import annotations

from collections.abc import Callable

from nsedge.runtime.decode.placement import Placement
from nsedge.runtime.decode.sequence import Sequence
from nsedge.runtime.decode.waiting import TimeHeap


class Succession:
    """One of those that continue a prompt waits at a time; it takes over the row of one that has
    ended, or a copy of a running one's."""

    def __init__(
        self, *, placed: Placement, waiting: TimeHeap, enqueue: Callable[[Sequence], None]
    ) -> None:
        self._placed = placed
        self._waiting = waiting
        self._enqueue = enqueue
        self._heirs: list[Sequence] = []
        """Given the row of one that ended, and without a token yet."""

    def call_next(self, sequence: Sequence, now_s: float) -> None:
        """Once a row holds a prompt, let the next that continues it wait for one: since now, so
        that it passes nobody who was there before."""
        if sequence.siblings is not None and sequence.calls_next:
            sequence.calls_next = False
            if (following := sequence.siblings.next()) is not None:
                following.queued_s = now_s
                self._enqueue(following)

    def fork(self, now_s: float) -> list[Sequence]:
        """Give rows to those that wait first and continue a prompt that another row holds; those
        that have no token yet, heirs included."""
        new, self._heirs = self._heirs, []
        while self._placed.free and (first := self._waiting.first()) is not None:
            source = self._placed.holder(first[1])
            if source is None:
                break
            self._placed.fork(self._waiting.pop(), source)
            new += self._begun(first[1], now_s)
        return new

    def succeed(self, sequence: Sequence, now_s: float) -> bool:
        """Whether a sequence that ended gave its row to the first that waits, a sibling of it."""
        first = self._waiting.first() if sequence.siblings is not None else None
        if first is None or first[1].siblings is not sequence.siblings:
            return False
        heir = self._waiting.pop()
        self._placed.succeed(sequence, heir)
        self._heirs += self._begun(heir, now_s)
        return True

    def forget(self) -> None:
        """No row holds anything."""
        self._heirs.clear()

    def _begun(self, sequence: Sequence, now_s: float) -> list[Sequence]:
        """A row holds the prompt of a sequence, which is given back where it has no token yet."""
        if sequence.started_s is None:
            sequence.started_s, sequence.cached_tokens = now_s, sequence.kv_length
        self.call_next(sequence, now_s)
        return [] if sequence.output_ids else [sequence]
