"""Logits that lie elsewhere: every answer comes another way than `HostLogits` finds it."""

from __future__ import annotations

from collections.abc import Sequence as Many

import numpy as np

from nsedge.runtime.decode.sampling.logits import Floats, Greatest, Ids


class RemoteLogits:
    """Counts the rows that had to come whole; exactly `count` greatest are found, as TopK does."""

    def __init__(self, array: Floats) -> None:
        self._there = array.copy()
        self._here: Floats = np.empty((0, array.shape[1]), np.float32)
        self._places: dict[int, int] = {}
        self.fetched = 0

    @property
    def vocabulary(self) -> int:
        return int(self._there.shape[1])

    def select(self, rows: Many[int]) -> RemoteLogits:
        return RemoteLogits(self._there[list(rows)])

    def edit(self, rows: Many[int]) -> tuple[Floats, Many[int]]:
        for row in rows:
            if row not in self._places:
                self._places[row] = len(self._here)
                self._here = np.concatenate([self._here, self._there[row : row + 1]])
                self.fetched += 1
        return self._here, [self._places[row] for row in rows]

    def best(self, *, more: bool) -> tuple[Ids, Floats]:
        pairs = [max(enumerate(self._at(i)), key=_above) for i in range(len(self._there))]
        ids, values = zip(*pairs, strict=True)
        return np.array(ids, np.int64), np.array(values, np.float32)

    def blank(self, rows: Many[int]) -> list[int]:
        return [row for row in rows if not np.count_nonzero(self._at(row))]

    def greatest(self, rows: Many[int], count: int) -> Greatest:
        count = min(count, self.vocabulary)
        ids = np.array(
            [sorted(np.argsort(-self._at(row), kind="stable")[:count].tolist()) for row in rows]
        )
        values = np.array([self._at(row)[own] for row, own in zip(rows, ids, strict=True)])
        finite = [int(np.isfinite(self._at(row)).sum()) for row in rows]
        whole = np.array([number <= count for number in finite])
        return Greatest(ids, values, np.full(len(ids), count), whole)

    def row(self, row: int) -> Floats:
        self.fetched += row not in self._places
        return self._at(row)

    def _at(self, row: int) -> Floats:
        place = self._places.get(row)
        values: Floats = self._there[row] if place is None else self._here[place]
        return values


def _above(pair: tuple[int, float]) -> tuple[bool, float, int]:
    """NaN counts as the greatest; of equal ones the lowest id does."""
    token, value = pair
    return (bool(np.isnan(value)), 0.0 if np.isnan(value) else float(value), -token)
