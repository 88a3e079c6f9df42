"""Inputs that wait to be encoded, and which of them go together. Values only."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sized
from dataclasses import dataclass

from nsedge.api import Priority
from nsedge.runtime.encode.rows import Picture
from nsedge.runtime.encode.work import EncodeWork

DUE_S = {Priority.INTERACTIVE: 0.0, Priority.NORMAL: 0.05, Priority.BATCH: 2.0}
"""How long after its arrival an input is due; the one that is due first goes first."""
MAX_PADDING = 0.2
"""Share of a batch's tokens that may be padding."""


@dataclass(eq=False, slots=True, frozen=True)
class Input:
    """One input, and where what comes of it belongs."""

    owner: EncodeWork
    index: int
    """Which of the owner's inputs."""
    row: Sized
    """What the runner takes, as long as it has tokens."""
    due_s: float

    @property
    def length(self) -> int:
        """In tokens, or patches."""
        return len(self.row)

    @property
    def is_picture(self) -> bool:
        """Whether it goes with pictures: a batch is of one kind."""
        return isinstance(self.row, Picture)


class Batcher:
    """Keeps inputs by length, and hands out batches of similar ones.

    A batch begins with the input that is due first, and takes the nearest in length as long as
    rows x longest stays within a budget of tokens and little of that is padding. So nobody waits
    for ever, and short texts are not padded to the length of long ones. Pictures go with pictures.
    """

    def __init__(self) -> None:
        self._by_length: list[Input] = []
        """Texts, then pictures, each sorted by length, then by when they are due."""

    def __len__(self) -> int:
        return len(self._by_length)

    def __iter__(self) -> Iterator[Input]:
        return iter(self._by_length)

    def add(self, one: Input) -> None:
        """Another that waits."""
        bisect.insort(self._by_length, one, key=_order)

    def forget(self, owner: EncodeWork) -> None:
        """Take away what an owner has here."""
        self._by_length = [one for one in self._by_length if one.owner is not owner]

    def take(self, *, budget_tokens: int, max_rows: int) -> list[Input]:
        """The next batch, in rising length, of one input at least where there is any.

        budget_tokens: of the batch as it is run, padding included.
        """
        if not self._by_length:
            return []
        first = min(range(len(self._by_length)), key=lambda at: self._by_length[at].due_s)
        low = high = first
        tokens = self._by_length[first].length
        while high - low + 1 < max_rows:
            at = self._nearest(low, high, tokens, budget_tokens)
            if at is None:
                break
            low, high = min(low, at), max(high, at)
            tokens += self._by_length[at].length
        batch = self._by_length[low : high + 1]
        del self._by_length[low : high + 1]
        return batch

    def _nearest(self, low: int, high: int, tokens: int, budget: int) -> int | None:
        """Which of the two beside a batch is nearer to it in length and fits; None where none
        does."""
        waiting, rows = self._by_length, high - low + 2
        shortest, longest = waiting[low].length, waiting[high].length
        pictures = waiting[low].is_picture
        found: list[tuple[int, int]] = []
        if low > 0 and waiting[low - 1].is_picture == pictures:
            length = waiting[low - 1].length
            if _fits(rows, longest, tokens + length, budget):
                found.append((shortest - length, low - 1))
        if high + 1 < len(waiting) and waiting[high + 1].is_picture == pictures:
            length = waiting[high + 1].length
            if _fits(rows, length, tokens + length, budget):
                found.append((length - longest, high + 1))
        return min(found)[1] if found else None


def _fits(rows: int, longest: int, tokens: int, budget: int) -> bool:
    padded = rows * longest
    return padded <= budget and tokens >= (1.0 - MAX_PADDING) * padded


def _order(one: Input) -> tuple[bool, int, float]:
    return one.is_picture, one.length, one.due_s
