"""A speech model's decoder once more, which also tells what its alignment heads look at."""

from __future__ import annotations

from collections.abc import Sequence as Many

import numpy as np
from numpy.typing import NDArray

from nsedge.runtime.decode.plan import Chunk, StepPlan
from nsedge.runtime.decode.sequence import Limits, Sequence
from nsedge.runtime.graph.executor import Source
from nsedge.runtime.graph.executors import open_executor

Floats = NDArray[np.float32]


class Aligner:
    """Reads a text as if it were being written, a text at a time."""

    def __init__(self, source: Source, *, weights: str, heads: int) -> None:
        """`source` has one slot and a memory; `weights` is the output that tells of so many heads.
        Raises what `Executor` does."""
        self._executor = open_executor(source)
        self._weights = weights
        self._heads = heads
        self._frames = 0 if source.memory is None else source.memory.frames

    def run(self, prompt: Many[int], text: Many[int], row: int) -> tuple[Floats, Floats]:
        """What the heads look at in a row of the memory while they write `text` and its end, after
        `prompt`: weights float32 [heads, len(text) + 1, frames], each row of them 1 together. And
        how likely the text's tokens are: float32 [len(text)]."""
        ids = (*prompt, *text)
        first = len(prompt) - 1
        told = np.zeros((self._heads, len(ids), self._frames), np.float32)
        sequence = Sequence(
            prompt_ids=ids,
            limits=Limits(max_tokens=1),
            submitted_s=0.0,
            row=0,
            memory=row,
            marked=first,
        )
        self._executor.also = {self._weights: told}
        chunk = Chunk(sequence=sequence, row=0, start=0, end=len(ids))
        logits = self._executor.run(StepPlan(copies=(), prefill=(chunk,), decode=()))
        likely = [_share(logits.row(place), token) for place, token in enumerate(text)]
        return told[:, first:], np.array(likely, np.float32)

    def forget(self) -> None:
        """Give back the pages that its cache has been written to."""
        self._executor.forget_caches()


def _share(logits: Floats, token: int) -> float:
    shares = np.exp(logits - logits.max())
    return float(shares[token] / shares.sum())
