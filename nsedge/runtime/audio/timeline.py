"""Times of a recording that parts were left out of, and of the sound that it is of."""

from __future__ import annotations

from bisect import bisect_left, bisect_right

from nsedge.runtime.audio.samples import RATE


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
        self._begins.append(at / RATE)
        self._left_out.append((source - at) / RATE)

    def follows(self, at: int, source: int) -> bool:
        """Whether that is so already, by the stretch before."""
        return bool(self._begins) and self._left_out[-1] == (source - at) / RATE

    def start(self, seconds: float) -> float:
        """The time in the sound of what begins at `seconds` of the recording."""
        return seconds + self._shift(bisect_right(self._begins, seconds))

    def end(self, seconds: float) -> float:
        """The same of what ends there: where two stretches meet, it is in the first."""
        return seconds + self._shift(bisect_left(self._begins, seconds))

    def span(self, start: float, end: float) -> tuple[float, float]:
        """A word's times: it is in the stretch that its middle is in."""
        shift = self._shift(bisect_right(self._begins, (start + end) / 2))
        return start + shift, end + shift

    def _shift(self, stretches: int) -> float:
        """Of what is in the last of so many stretches."""
        if not self._left_out:
            return 0.0
        return self._left_out[max(stretches - 1, 0)]
