"""A wall clock that a test can set, for a daemon in another process."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from tests.ipc import short_directory


class Clock:
    """Runs with the machine's, ahead of it or behind."""

    def __init__(self) -> None:
        self._folder = short_directory()
        self._offset_s = 0.0

    def __enter__(self) -> Self:
        self._path = self._folder.__enter__() / "offset"
        self.jump(0.0)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._folder.__exit__(kind, error, trace)

    @property
    def words(self) -> list[str]:
        """The daemon that goes by it."""
        return ["-m", "tests.faults.skewed", str(self._path)]

    def jump(self, seconds: float) -> None:
        """Set it, forward or back."""
        self._offset_s += seconds
        fresh = self._path.with_suffix(".new")
        fresh.write_text(str(self._offset_s), encoding="ascii")
        fresh.replace(self._path)
