"""Sequences that wait for a slot, in an order that never has to be sorted again.

Each gets a place when it comes: its time of arrival, later by a fixed time for its class and its
length. A sequence therefore passes only those that came up to that much earlier, and whoever waits
long enough is first.
"""

from __future__ import annotations

import heapq

from nsedge.api import Priority
from nsedge.runtime.decode.sequence import Sequence

CLASS_DELAY_S = {Priority.INTERACTIVE: 0.0, Priority.NORMAL: 10.0, Priority.BATCH: 60.0}
"""How much earlier than an interactive one a sequence must come to go before it."""
TOKEN_DELAY_S = 0.002
"""The same for each token to be read: short prompts go before long ones, for a while."""
_SLACK = 64
"""Ended sequences that are left in a heap before it is rebuilt."""


class TimeHeap:
    """Live sequences by a time, the earliest first. Those that ended fall out by themselves.

    Push, pop and discard cost the logarithm of the number of sequences at most, taken over time.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Sequence]] = []
        self._members: set[Sequence] = set()
        self._pushed = 0

    def __len__(self) -> int:
        return len(self._members)

    def push(self, time_s: float, sequence: Sequence) -> None:
        """Add a sequence; of equal times the first to come is first."""
        self._pushed += 1
        self._members.add(sequence)
        heapq.heappush(self._heap, (time_s, self._pushed, sequence))

    def first(self) -> tuple[float, Sequence] | None:
        """The earliest, with its time."""
        while self._heap and self._heap[0][2] not in self._members:
            heapq.heappop(self._heap)
        return (self._heap[0][0], self._heap[0][2]) if self._heap else None

    def pop(self) -> Sequence:
        """Take the earliest; `first` must have shown that there is one."""
        sequence = heapq.heappop(self._heap)[2]
        self._members.remove(sequence)
        return sequence

    def discard(self, sequence: Sequence) -> None:
        """Forget a sequence, if it is here."""
        self._members.discard(sequence)
        if len(self._heap) > 2 * len(self._members) + _SLACK:
            self._heap = [entry for entry in self._heap if entry[2] in self._members]
            heapq.heapify(self._heap)


def place_s(sequence: Sequence) -> float:
    """The time by which a sequence is ordered among others."""
    since_s = sequence.submitted_s if sequence.queued_s is None else sequence.queued_s
    length_s = TOKEN_DELAY_S * len(sequence.prompt_ids)
    return since_s + CLASS_DELAY_S[sequence.priority] + length_s
