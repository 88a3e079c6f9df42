"""How late an event loop comes round: the first sign of something that holds it up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from nsedge.telemetry.histogram import LAG_BOUNDS_S, Histogram, Stopwatch

EVERY_S = 0.25
"""Between two measurements."""


class LoopLag:
    """Measures the running loop from `start` to `stop`."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lags = Stopwatch(LAG_BOUNDS_S)
        self._timer: asyncio.TimerHandle | None = None
        self._due_s = 0.0

    def start(self) -> None:
        """Begin, on the loop that runs."""
        self._due_s = self._clock() + EVERY_S
        self._timer = asyncio.get_running_loop().call_later(EVERY_S, self.came)

    def stop(self) -> None:
        """End. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def came(self) -> None:
        """The loop has come round; see how late."""
        self._lags.add(max(0.0, self._clock() - self._due_s))
        self.start()

    def read(self) -> Histogram:
        """Every lag so far."""
        return self._lags.read()
