"""The rows of a speech model's memory: who has heard something that is still of use."""

from __future__ import annotations

from collections.abc import Iterable

from nsedge.runtime.hosting.speech_work import SpeechWork


class Rows:
    """Gives rows to requests. Who hears sound while it comes takes that of one who waits for his
    next window, where none is free: nothing is written of the last."""

    def __init__(self, count: int) -> None:
        self._free = list(range(count))

    def has_one(self, work: SpeechWork, waiting: Iterable[SpeechWork]) -> bool:
        """Whether there is one for `work`; `waiting`: those that are to hear a window."""
        if work.row is not None or self._free:
            return True
        return work.coming is not None and _lender(waiting) is not None

    def take(self, work: SpeechWork, waiting: Iterable[SpeechWork]) -> int:
        """The row of `work`, which it has or is given. Raises IndexError where there is none."""
        if work.row is None:
            if not self._free and (lender := _lender(waiting)) is not None:
                self.give(lender)
            work.row = self._free.pop()
        return work.row

    def give(self, work: SpeechWork) -> None:
        """Take back the row of one who needs it no more."""
        if work.row is not None:
            self._free.append(work.row)
            work.row = None


def _lender(waiting: Iterable[SpeechWork]) -> SpeechWork | None:
    """Of those that have a row, who needs it last."""
    rows = (one for one in waiting if one.row is not None)
    return max(rows, key=lambda one: one.due_s, default=None)
