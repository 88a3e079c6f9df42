"""Times of a recording that parts were left out of, and of the sound that it is of."""

from __future__ import annotations

from bisect import bisect_right

from nsedge.runtime.audio.samples import RATE

SEAM_S = 0.5
"""What reaches no further than this beyond where two stretches meet is in one of them: it is their
margins, which are silent."""


class Timeline:
    """The stretches that were kept. Without any, both times are the same.

    Stretches are added by the thread that decodes, and may be asked for by another, which only asks
    for what it has heard.
    """

    def __init__(self) -> None:
        self._begins: list[float] = []
        """Where each stretch begins in the recording, in seconds."""
        self._left_out: list[float] = []
        """What was left out before each."""

    def keep(self, at: int, source: int) -> None:
        """From sample `at` of the recording on, it is the sound from sample `source` on."""
        if not self._follows(at, source):
            self._begins.append(at / RATE)
            self._left_out.append((source - at) / RATE)

    def time(self, seconds: float) -> float:
        """The time in the sound of `seconds` of the recording."""
        return seconds + self._shift(self._stretch(seconds))

    def span(self, start: float, end: float) -> tuple[float, float]:
        """The times of what is said from `start` to `end`."""
        first, last = self._stretch(start), self._stretch(end)
        while last > first and end - self._begins[last] < SEAM_S:
            end = self._begins[last]
            last -= 1
        while first < last and self._begins[first + 1] - start < SEAM_S:
            start = self._begins[first + 1]
            first += 1
        return start + self._shift(first), end + self._shift(last)

    def _follows(self, at: int, source: int) -> bool:
        """Whether that is so already, by the stretch before."""
        return bool(self._begins) and self._left_out[-1] == (source - at) / RATE

    def _stretch(self, seconds: float) -> int:
        """The stretch that a time is in."""
        return max(0, bisect_right(self._begins, seconds) - 1)

    def _shift(self, stretch: int) -> float:
        return self._left_out[stretch] if self._left_out else 0.0
