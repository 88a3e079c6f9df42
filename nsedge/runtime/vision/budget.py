"""How long one film may be worked at."""

from __future__ import annotations

from collections.abc import Callable

from nsedge.errors import MessageTooLarge


class TimeBudget:
    """Counts the time within `with` blocks."""

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._left_s, self._seconds = seconds, seconds
        self._clock = clock
        self._began_s = 0.0

    def __enter__(self) -> None:
        self._began_s = self._clock()

    def __exit__(self, *_: object) -> None:
        self._left_s -= self._clock() - self._began_s

    def check(self) -> None:
        """Raises MessageTooLarge where there is no more time; within a block."""
        if self._clock() - self._began_s > self._left_s:
            raise MessageTooLarge(
                f"decoding it takes more than {self._seconds:g} s (engine.video_decode_s)"
            )
