"""Masks made beside the model's step: begun when the tokens are known, wanted when it is done."""

from __future__ import annotations

from collections.abc import Sequence as Many
from concurrent.futures import ThreadPoolExecutor

from nsedge.runtime.structure.guide import Guide


class MaskMaker:
    """Has masks made by a thread of its own, which there is once one was asked for.

    Filling a mask leaves the interpreter to others, and takes 5 to 100 us where the lexer knows
    what comes; so one thread is enough beside a step of 16 rows.
    """

    def __init__(self, name: str) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=name)

    def begin(self, guides: Many[Guide]) -> None:
        """Have the next masks made of guides that took a token each."""
        for guide in guides:
            guide.pending = self._pool.submit(guide.fill)

    def close(self) -> None:
        """End the thread, once nobody asks any more."""
        self._pool.shutdown()
