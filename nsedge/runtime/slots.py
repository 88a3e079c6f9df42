"""KV capacity as integers: which rows run, which fill, and which are free.

Rows 0..running-1 decode together. Any further rows fill with prompts; each becomes the last running
row when its prompt is read. Where a running row ends, the last running row takes its place, so that
running rows stay contiguous. Every move is an exchange: what lay in the other row is not lost,
because a free row may hold a prefix that somebody asks for again.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Exchange:
    """What row `source` holds goes to row `target`, and the reverse."""

    source: int
    target: int


class Slots:
    """Take a row to fill it, promote it to run, give it back.

    >>> slots = Slots(count=4)
    >>> row = slots.take(slots.oldest())
    >>> slots.promote(row)       # already where it should run: nothing to move
    >>> slots.running
    1
    """

    def __init__(self, *, count: int) -> None:
        if count < 1:
            raise ValueError(f"at least one slot is needed, not {count}")
        self.count = count
        self.running = 0
        self._filling: set[int] = set()
        # When each free row was given back; rows never used come first, from the lowest on.
        self._given = {row: row - count for row in range(count)}
        self._gifts = 0

    @property
    def filling(self) -> int:
        """Rows that fill."""
        return len(self._filling)

    @property
    def free(self) -> int:
        """Rows that can be taken."""
        return len(self._given)

    def is_free(self, row: int) -> bool:
        """Whether `row` can be taken."""
        return row in self._given

    def oldest(self) -> int:
        """The free row that was given back first.

        Raises:
            RuntimeError: where no row is free.
        """
        if not self._given:
            raise RuntimeError("no row is free")
        return min(self._given, key=self._given.__getitem__)

    def take(self, row: int) -> int:
        """Fill a free row.

        Raises:
            RuntimeError: where it is not free.
        """
        if row not in self._given:
            raise RuntimeError(f"row {row} is not free")
        del self._given[row]
        self._filling.add(row)
        return row

    def promote(self, row: int) -> Exchange | None:
        """Let a filling row run, as the last one; the exchange that this needs, if any.

        Raises:
            RuntimeError: where the row does not fill.
        """
        self._end_filling(row)
        target = self.running
        self.running += 1
        if row == target:
            return None
        if target in self._filling:
            self._filling.remove(target)
            self._filling.add(row)
        else:
            self._given[row] = self._given.pop(target)
        return Exchange(row, target)

    def give_filling(self, row: int) -> None:
        """Give a filling row back.

        Raises:
            RuntimeError: where the row does not fill.
        """
        self._end_filling(row)
        self._give(row)

    def give(self, row: int) -> Exchange | None:
        """Give a running row back; the exchange with the last one that this needs, if any.

        Raises:
            RuntimeError: where the row does not run.
        """
        if not 0 <= row < self.running:
            raise RuntimeError(f"row {row} is not running")
        self.running -= 1
        self._give(self.running)
        return None if row == self.running else Exchange(self.running, row)

    def check(self) -> None:
        """Raise RuntimeError where rows were lost or used twice."""
        rows = [*range(self.running), *self._filling, *self._given]
        if sorted(rows) != list(range(self.count)):
            raise RuntimeError(
                f"of {self.count} rows {self.running} run, {sorted(self._filling)} fill"
                f" and {sorted(self._given)} are free"
            )

    def _give(self, row: int) -> None:
        self._gifts += 1
        self._given[row] = self._gifts

    def _end_filling(self, row: int) -> None:
        if row not in self._filling:
            raise RuntimeError(f"row {row} is not filling")
        self._filling.remove(row)
