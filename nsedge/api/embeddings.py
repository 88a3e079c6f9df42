"""A request's vectors as one array. Imported where somebody wants that: the events need no numpy,
and a process that only passes them on saves 25 MiB."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nsedge.api.events import Event, Failed, Finished, FinishReason, Usage, Vectors
from nsedge.errors import NsedgeError, Unavailable


@dataclass(frozen=True, kw_only=True)
class Embeddings:
    """array: float32 [inputs, dimensions], a row an input, in their order."""

    array: NDArray[np.float32]
    usage: Usage


class Gathering:
    """Takes the events of a request that embeds."""

    def __init__(self) -> None:
        self._pieces: list[NDArray[np.float32]] = []
        self._rows = 0
        self._usage: Usage | None = None

    def saw(self, event: Event) -> None:
        """Take the next event.

        Raises:
            NsedgeError: the request failed, or its vectors are not in order.
            Unavailable: it was cancelled.
        """
        if isinstance(event, Vectors):
            if event.first != self._rows:
                raise NsedgeError(f"vectors from {event.first} on came after {self._rows}")
            self._pieces.append(np.frombuffer(event.data, "<f4").reshape(event.shape))
            self._rows += event.shape[0]
        elif isinstance(event, Failed):
            raise event.error()
        elif isinstance(event, Finished):
            if event.reason is FinishReason.CANCELLED:
                raise Unavailable("the request was cancelled before it ended")
            self._usage = event.usage

    def result(self) -> Embeddings:
        """All vectors.

        Raises:
            NsedgeError: there are none, or the last event has not come.
        """
        if self._usage is None or not self._pieces:
            raise NsedgeError("the answer holds no vectors")
        whole = np.concatenate(self._pieces).astype(np.float32, copy=False)
        return Embeddings(array=whole, usage=self._usage)
