"""KV capacity as integers: which rows run, which one fills, which are free.

Rows 0..running-1 decode together. At most one further row fills with a prompt; it becomes a running
row when its prompt is read. Where a running row ends, the last running row moves into the hole, so
that running rows stay contiguous.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Move:
    """What row `source` holds goes to row `target`."""

    source: int
    target: int


class Slots:
    """Take a row to fill it, promote it to run, give it back.

    >>> slots = Slots(count=4)
    >>> row = slots.take()
    >>> slots.promote()          # already where it should run: nothing to copy
    >>> slots.running
    1
    """

    def __init__(self, *, count: int) -> None:
        if count < 1:
            raise ValueError(f"at least one slot is needed, not {count}")
        self.count = count
        self.running = 0
        self.filling: int | None = None

    @property
    def can_take(self) -> bool:
        """Whether a row is free and none fills."""
        return self.filling is None and self.running < self.count

    def take(self) -> int:
        """The row to fill next.

        Raises:
            RuntimeError: where none can be taken.
        """
        if not self.can_take:
            raise RuntimeError("no row can be taken")
        self.filling = self.running
        return self.filling

    def promote(self) -> Move | None:
        """Let the filling row run, as the last one; the copy that this needs, if any.

        Raises:
            RuntimeError: where no row fills.
        """
        source = self._end_filling()
        target = self.running
        self.running += 1
        return None if source == target else Move(source, target)

    def give_filling(self) -> None:
        """Give the filling row back.

        Raises:
            RuntimeError: where no row fills.
        """
        self._end_filling()

    def give(self, row: int) -> Move | None:
        """Give a running row back; the copy that closes the hole, if any.

        Raises:
            RuntimeError: where the row does not run.
        """
        if not 0 <= row < self.running:
            raise RuntimeError(f"row {row} is not running")
        self.running -= 1
        return None if row == self.running else Move(self.running, row)

    def check(self) -> None:
        """Raise RuntimeError where rows were lost or used twice."""
        if not 0 <= self.running <= self.count:
            raise RuntimeError(f"{self.running} of {self.count} rows running")
        if self.filling is not None and not self.running <= self.filling < self.count:
            raise RuntimeError(f"row {self.filling} fills while {self.running} run")

    def _end_filling(self) -> int:
        if self.filling is None:
            raise RuntimeError("no row is filling")
        row, self.filling = self.filling, None
        return row
