"""Where a step's logits lie, and what a sampler asks of them: no more than the rows need."""

from __future__ import annotations

from collections.abc import Sequence as Many
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Reals = NDArray[np.float64]
Ids = NDArray[np.int64]
Flags = NDArray[np.bool_]

BLOCK = 64
"""Size of the blocks whose maxima bound the k-th greatest logit from below."""


@dataclass(frozen=True, slots=True)
class Greatest:
    """The greatest logits of each row, in order of id: `ids` and `values` [R, W].

    `counts` [R] of them are real, the rest have the value -inf. `whole` [R] tells whether all that
    are not -inf are among them.
    """

    ids: Ids
    values: Floats
    counts: Ids
    whole: Flags


class Logits(Protocol):
    """Logits float32 [B, V] where a run left them, valid until the next run.

    Those of a GPU may stay there: only what is asked for has to come to the host, and a row that
    is greedy and unchanged needs no more than its greatest. Whatever the place, the answers are
    the same to the bit.
    """

    def __len__(self) -> int:
        """B."""

    @property
    def vocabulary(self) -> int:
        """V."""

    def select(self, rows: Many[int]) -> Logits:
        """Some of the rows, in that order."""

    def edit(self, rows: Many[int]) -> tuple[Floats, Many[int]]:
        """An array in host memory and where in it each of the rows lies. What is changed there is
        what all others tell of these rows from then on."""

    def best(self, *, more: bool) -> tuple[Ids, Floats]:
        """The greatest logit of every row, its id and its value [B]: of equal ones the lowest id; a
        NaN counts as the greatest. `more`: whether `greatest` will be asked as well."""

    def blank(self, rows: Many[int]) -> list[int]:
        """Those of the rows that are nothing but zeros."""

    def greatest(self, rows: Many[int], count: int) -> Greatest:
        """At least the `count` greatest logits of each of the rows."""

    def row(self, row: int) -> Floats:
        """A row [V], not to be changed."""


class HostLogits:
    """Logits in host memory."""

    def __init__(self, array: Floats) -> None:
        """Takes `array` [B, V] as it is, where its rows follow each other: edits are made in it."""
        self.array: Floats = np.ascontiguousarray(array)
        self._maxima: Floats | None = None

    def __len__(self) -> int:
        """B."""
        return len(self.array)

    @property
    def vocabulary(self) -> int:
        """V."""
        return int(self.array.shape[1])

    def select(self, rows: Many[int]) -> HostLogits:
        """Some of the rows, in that order."""
        first = rows[0] if rows else 0
        if all(row == first + place for place, row in enumerate(rows)):
            return HostLogits(self.array[first : first + len(rows)])
        return HostLogits(self.array[list(rows)])

    def edit(self, rows: Many[int]) -> tuple[Floats, Many[int]]:
        """The array itself."""
        self._maxima = None
        return self.array, rows

    def best(self, *, more: bool) -> tuple[Ids, Floats]:
        """The greatest logit of every row, its id and its value."""
        rows = np.arange(len(self.array))
        if not more or self.vocabulary % BLOCK:
            ids = self.array.argmax(axis=1)
            return ids, self.array[rows, ids]
        # The blocks' maxima are wanted anyway, and tell where the greatest is.
        self._maxima = _maxima(self.array)
        blocks = self._maxima.argmax(axis=1)
        values = self._maxima[rows, blocks]
        inside = self.array.reshape(len(rows), BLOCK, -1)[rows, :, blocks] == values[:, None]
        ids = inside.argmax(axis=1) * self._maxima.shape[1] + blocks
        equals = np.count_nonzero(self._maxima == values[:, None], axis=1)
        for row in np.flatnonzero(equals != 1):
            ids[row] = self.array[row].argmax()
        return ids, values

    def blank(self, rows: Many[int]) -> list[int]:
        """Those of the rows that are nothing but zeros."""
        return [
            row for row in rows if not self.array[row, :BLOCK].any() and not self.array[row].any()
        ]

    def greatest(self, rows: Many[int], count: int) -> Greatest:
        """At least the `count` greatest logits of each of the rows."""
        every = _are_all(rows, self.array)
        part = self.array if every else self.array[list(rows)]
        size = self.vocabulary
        if count >= size:
            ids = np.broadcast_to(np.arange(size), part.shape)
            return Greatest(ids, part, np.full(len(part), size), np.ones(len(part), np.bool_))
        maxima = self._maxima
        if maxima is not None and not every:
            maxima = maxima[list(rows)]
        return _greatest(part, count, maxima)

    def row(self, row: int) -> Floats:
        """A row, not to be changed."""
        values: Floats = self.array[row]
        return values


def _are_all(rows: Many[int], array: Floats) -> bool:
    return len(rows) == len(array) and all(row == place for place, row in enumerate(rows))


def _maxima(logits: Floats) -> Floats:
    """The maxima of blocks of BLOCK tokens of each row: float32 [R, V // BLOCK].

    Block b holds the tokens b, b + V // BLOCK, and so on, which is faster than neighbours.
    """
    blocks = logits.shape[1] // BLOCK
    found: Floats = logits[:, : blocks * BLOCK].reshape(-1, BLOCK, blocks).max(axis=1)
    return found


def _greatest(logits: Floats, count: int, maxima: Floats | None) -> Greatest:
    """At least the `count` greatest of each row of `logits` [R, V].

    The count-th greatest of the blocks' maxima cannot be above the count-th greatest logit, so
    everything at or above it is a superset, found without sorting the vocabulary.
    """
    size = logits.shape[1]
    blocks = size // BLOCK
    if blocks < 2 * count:
        least = np.partition(logits, size - count, axis=1)[:, size - count]
    else:
        maxima = _maxima(logits) if maxima is None else maxima
        least = np.partition(maxima, blocks - count, axis=1)[:, blocks - count]
    whole = np.isneginf(least)
    least = np.where(whole, np.finfo(np.float32).min, least)
    at, token = np.divmod(np.flatnonzero(logits >= least[:, None]), size)
    counts = np.bincount(at, minlength=len(logits))
    place = np.arange(len(at)) - np.repeat(np.cumsum(counts) - counts, counts)
    ids = np.zeros((len(logits), counts.max()), np.int64)
    values: Floats = np.full(ids.shape, -np.inf, np.float32)
    ids[at, place], values[at, place] = token, logits[at, token]
    return Greatest(ids, values, counts, whole)
