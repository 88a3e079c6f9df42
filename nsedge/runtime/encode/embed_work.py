"""A request for vectors: its inputs, what has come of them, and the events that tell so."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nsedge.api import (
    Event,
    Failed,
    Finished,
    FinishReason,
    Request,
    Started,
    Timings,
    Usage,
    Vectors,
)
from nsedge.api.events import MAX_ARRAY_BYTES
from nsedge.errors import NsedgeError


class EmbedWork:
    """One request in the encode loop, on its thread; `ended` tells whether its end was told."""

    def __init__(
        self,
        *,
        request: Request,
        inputs: Sequence[tuple[int, ...]],
        dimensions: int,
        width: int,
        normalised: bool,
        submitted_s: float,
    ) -> None:
        """`width`: numbers of the model's vectors, of which `dimensions` are given."""
        self.request = request
        self.inputs = tuple(inputs)
        self.ended = False
        self._dimensions = dimensions
        self._shortened = normalised and dimensions < width
        self._submitted_s = submitted_s
        self._started_s: float | None = None
        self._vectors: NDArray[np.float32] = np.zeros((len(inputs), dimensions), np.float32)
        self._there = np.zeros(len(inputs), bool)
        self._told = 0
        self._tokens = 0

    @property
    def deadline_s(self) -> float | None:
        """When it is too late."""
        limit = self.request.deadline_s
        return None if limit is None else self._submitted_s + limit

    def start(self, now_s: float) -> list[Event]:
        """Its first input is about to be run; `Started`, once."""
        if self._started_s is not None:
            return []
        self._started_s = now_s
        return [
            Started(
                request_id=self.request.request_id,
                prompt_tokens=sum(map(len, self.inputs)),
                queue_s=now_s - self._submitted_s,
            )
        ]

    def take(self, index: int, vector: NDArray[np.float32], now_s: float) -> list[Event]:
        """The vector [width] of an input; the events that may be told now."""
        if self.ended:
            return []
        vector = vector[: self._dimensions]
        if self._shortened:
            vector = vector / max(float(np.linalg.norm(vector)), 1e-12)
        self._vectors[index] = vector
        self._there[index] = True
        self._tokens += len(self.inputs[index])
        done = bool(self._there.all())
        ready = len(self._there) if done else int(self._there.argmin())
        rows = max(1, MAX_ARRAY_BYTES // (4 * self._dimensions))
        events: list[Event] = []
        while self._told < ready and (done or ready - self._told >= rows):
            end = min(ready, self._told + rows)
            events.append(self._chunk(self._told, end))
            self._told = end
        if done:
            events.append(self._finish(FinishReason.STOP, now_s))
        return events

    def cancel(self, now_s: float) -> list[Event]:
        """End it as cancelled."""
        return [] if self.ended else [self._finish(FinishReason.CANCELLED, now_s)]

    def fail(self, error: NsedgeError) -> list[Event]:
        """End it with an error."""
        if self.ended:
            return []
        self.ended = True
        return [Failed.of(self.request.request_id, error)]

    def _chunk(self, begin: int, end: int) -> Vectors:
        return Vectors(
            request_id=self.request.request_id,
            first=begin,
            shape=(end - begin, self._dimensions),
            data=self._vectors[begin:end].astype("<f4").tobytes(),
        )

    def _finish(self, reason: FinishReason, now_s: float) -> Finished:
        self.ended = True
        began_s = now_s if self._started_s is None else self._started_s
        return Finished(
            request_id=self.request.request_id,
            reason=reason,
            usage=Usage(prompt_tokens=self._tokens, completion_tokens=0),
            timings=Timings(
                queue_s=began_s - self._submitted_s, prefill_s=now_s - began_s, decode_s=0.0
            ),
        )
