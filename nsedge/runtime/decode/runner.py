"""What runs the steps of a model, as the engine sees it."""

from __future__ import annotations

from collections.abc import Sequence as Many
from typing import Protocol

from nsedge.runtime.decode.plan import KvCopy, KvSwap, StepPlan
from nsedge.runtime.decode.sampling.logits import Logits


class StepRunner(Protocol):
    """Used by one thread at a time."""

    def copy(self, copies: Many[KvCopy | KvSwap]) -> None:
        """Copy and exchange what rows hold, in order."""

    def run(self, plan: StepPlan) -> Logits:
        """Logits [plan.logit_rows, V], where they lie, valid until the next call.

        With a draft there is one row more for each of its guesses. The plan's copies are made
        before. What a run appends to the cache is written to the same places when it, or any part
        of it, is run again.
        """

    def clear(self, row: int, tokens: int) -> None:
        """Zeros for the first `tokens` tokens of a row, which may hold what is no number."""

    def recover(self) -> None:
        """Go on as if newly opened, after a run that failed. Where that raises, what is there is
        run again."""
