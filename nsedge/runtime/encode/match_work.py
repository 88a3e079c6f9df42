"""Requests for the likeliest of given labels, by a model whose vectors of labels and inputs
compare."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nsedge.api import Label, Labels, Request
from nsedge.runtime.encode.found_work import LabelWork
from nsedge.runtime.encode.rows import Row

Floats = NDArray[np.float32]


class MatchWork(LabelWork):
    """A request for labels; its first rows are the candidates, the others what is labelled."""

    def __init__(
        self,
        *,
        request: Request,
        candidates: Sequence[Row],
        inputs: Sequence[Row],
        find: Callable[[int, Floats], tuple[Label, ...]],
        width: int,
        submitted_s: float,
    ) -> None:
        """find: what is told of an input by its cosines to the candidates [len(candidates)]. width:
        numbers of a vector, which has length 1."""
        rows = [*candidates, *inputs]
        super().__init__(request=request, inputs=rows, find=find, submitted_s=submitted_s)
        self._candidates = len(candidates)
        self._vectors: Floats = np.zeros((len(rows), width), np.float32)

    def keep(self, index: int, output: NDArray[Any]) -> None:
        """Keep a vector [width]."""
        self._vectors[index] = output

    def chunks(self, begin: int, end: int, *, done: bool) -> Iterator[tuple[int, Labels]]:
        """All of them at the end: no label without the candidates' vectors."""
        if not done:
            return
        known, seen = np.split(self._vectors, [self._candidates])
        for index, cosines in enumerate(seen @ known.T):
            super().keep(index, cosines)
        for at, event in super().chunks(0, len(seen), done=True):
            yield at + self._candidates, event
