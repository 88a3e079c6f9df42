"""KV capacity as integers: which rows run, which fill, and which are free.

Rows fill with prompts, run when their prompts are read, and are free when that ends. Where running
rows have to be contiguous, from 0 on, a filled row moves to the end of them, and the last of them
takes the place of one that ends. Every move is an exchange: what lay in the other row is not lost,
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

    def __init__(self, *, count: int, contiguous: bool = True) -> None:
        if count < 1:
            raise ValueError(f"at least one slot is needed, not {count}")
        self.count = count
        self.contiguous = contiguous
        self._running: set[int] = set()
        self._filling: set[int] = set()
        # When each free row was given back; rows never used come first, from the lowest on.
        self._given = {row: row - count for row in range(count)}
        self._gifts = 0

    @property
    def running(self) -> int:
        """Rows that run."""
        return len(self._running)

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
        """Let a filling row run; the exchange that this needs, if any.

        Raises:
            RuntimeError: where the row does not fill.
        """
        self._end_filling(row)
        target = self.running if self.contiguous else row
        self._running.add(target)
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
        if row not in self._running:
            raise RuntimeError(f"row {row} is not running")
        last = self.running - 1 if self.contiguous else row
        self._running.remove(last)
        self._give(last)
        return None if row == last else Exchange(last, row)

    def check(self) -> None:
        """Raise RuntimeError where rows were lost or used twice."""
        rows = [*self._running, *self._filling, *self._given]
        if sorted(rows) != list(range(self.count)):
            raise RuntimeError(
                f"of {self.count} rows {sorted(self._running)} run, {sorted(self._filling)} fill"
                f" and {sorted(self._given)} are free"
            )
        if self.contiguous and max(self._running, default=-1) >= self.running:
            raise RuntimeError(f"running rows {sorted(self._running)} are not contiguous")

    def _give(self, row: int) -> None:
        self._gifts += 1
        self._given[row] = self._gifts

    def _end_filling(self, row: int) -> None:
        if row not in self._filling:
            raise RuntimeError(f"row {row} is not filling")
        self._filling.remove(row)
