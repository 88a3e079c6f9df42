"""Masks made beside the model's step: begun when the tokens are known, wanted when it is done."""

from __future__ import annotations

from collections.abc import Sequence as Many
from concurrent.futures import ThreadPoolExecutor

from nsedge.runtime.machine.cores import usable_cores
from nsedge.runtime.structure.guide import Guide

MOST_THREADS = 4


class MaskMaker:
    """Has masks made by threads of its own, which there are once one was asked for.

    Filling a mask leaves the interpreter to others, and takes 10 to 130 us in the mean: one thread
    is enough beside a step of 16 rows, unless there are cores to spare.
    """

    def __init__(self, name: str) -> None:
        self._threads = max(1, min(MOST_THREADS, usable_cores() // 4))
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix=f"{name}-mask")

    def begin(self, guides: Many[Guide]) -> None:
        """Have the next masks made of guides that took a token each."""
        for first in range(min(self._threads, len(guides))):
            part = guides[first :: self._threads]
            filled = self._pool.submit(_fill, part)
            for guide in part:
                guide.pending = filled

    def close(self) -> None:
        """End the thread, once nobody asks any more."""
        self._pool.shutdown()


def _fill(guides: Many[Guide]) -> None:
    for guide in guides:
        guide.fill()
