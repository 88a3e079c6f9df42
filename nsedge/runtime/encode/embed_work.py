"""Requests that are answered with arrays: a vector for each input, or a score for each document."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Sized
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nsedge.api import Request, Scores, Vectors
from nsedge.api.found import MAX_ARRAY_BYTES
from nsedge.runtime.encode.work import EncodeWork

SMALLEST_NORM = 1e-12


class EmbedWork(EncodeWork):
    """A request for vectors."""

    def __init__(
        self,
        *,
        request: Request,
        inputs: Sequence[Sized],
        dimensions: int,
        width: int,
        normalised: bool,
        submitted_s: float,
    ) -> None:
        """`width`: numbers of the model's vectors, of which `dimensions` are given."""
        super().__init__(request=request, inputs=inputs, submitted_s=submitted_s)
        self._dimensions = dimensions
        self._shortened = normalised and dimensions < width
        self._vectors: NDArray[np.float32] = np.zeros((len(inputs), dimensions), np.float32)

    def keep(self, index: int, output: NDArray[Any]) -> None:
        """Keep a vector [width]."""
        vector = output[: self._dimensions]
        if self._shortened:
            vector = vector / max(float(np.linalg.norm(vector)), SMALLEST_NORM)
        self._vectors[index] = vector

    def chunks(self, begin: int, end: int, *, done: bool) -> Iterator[tuple[int, Vectors]]:
        """As many vectors at once as an event holds."""
        for first, last in array_chunks(begin, end, self._dimensions, done=done):
            yield (
                last,
                Vectors(
                    request_id=self.request.request_id,
                    first=first,
                    shape=(last - first, self._dimensions),
                    data=self._vectors[first:last].astype("<f4").tobytes(),
                ),
            )


class ScoreWork(EncodeWork):
    """A request for a score of each document, which a cross-encoder reads with the query."""

    def __init__(
        self,
        *,
        request: Request,
        inputs: Sequence[Sized],
        activated: Callable[[NDArray[Any]], NDArray[Any]],
        submitted_s: float,
    ) -> None:
        """activated: what makes a score of a logit."""
        super().__init__(request=request, inputs=inputs, submitted_s=submitted_s)
        self._activated = activated
        self._scores: NDArray[np.float32] = np.zeros(len(inputs), np.float32)

    def keep(self, index: int, output: NDArray[Any]) -> None:
        """Keep the score of a logit [1]."""
        self._scores[index] = self._activated(output)[0]

    def chunks(self, begin: int, end: int, *, done: bool) -> Iterator[tuple[int, Scores]]:
        """As many scores at once as an event holds."""
        for first, last in array_chunks(begin, end, 1, done=done):
            yield last, _scores(self.request, first, self._scores[first:last])


class CosineWork(EncodeWork):
    """A request for a score of each document by a model that makes vectors; input 0 is the query,
    the others are the documents."""

    def __init__(
        self,
        *,
        request: Request,
        inputs: Sequence[tuple[int, ...]],
        width: int,
        submitted_s: float,
    ) -> None:
        """`width`: numbers of the model's vectors."""
        super().__init__(request=request, inputs=inputs, submitted_s=submitted_s)
        self._vectors: NDArray[np.float32] = np.zeros((len(inputs), width), np.float32)

    def keep(self, index: int, output: NDArray[Any]) -> None:
        """Keep a vector [width], at length 1."""
        self._vectors[index] = output / max(float(np.linalg.norm(output)), SMALLEST_NORM)

    def chunks(self, begin: int, end: int, *, done: bool) -> Iterator[tuple[int, Scores]]:
        """All of them at the end: no score without the query's vector."""
        if not done:
            return
        query, *_ = self._vectors
        found = self._vectors[1:] @ query
        for first, last in array_chunks(0, len(found), 1, done=True):
            yield last + 1, _scores(self.request, first, found[first:last])


def array_chunks(begin: int, end: int, width: int, *, done: bool) -> Iterator[tuple[int, int]]:
    """Rows `begin` to `end`, of `width` numbers each, in pieces that fit an event; an incomplete
    one only where the request is `done`."""
    rows = max(1, MAX_ARRAY_BYTES // (4 * width))
    while begin < end and (done or end - begin >= rows):
        last = min(end, begin + rows)
        yield begin, last
        begin = last


def _scores(request: Request, first: int, found: NDArray[np.float32]) -> Scores:
    return Scores(
        request_id=request.request_id,
        first=first,
        shape=(len(found), 1),
        data=found.astype("<f4").tobytes(),
    )
