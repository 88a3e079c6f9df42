"""A request in the encode loop: its inputs, what has come of them, and the events that tell so."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence, Sized
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nsedge.api import (
    Event,
    Failed,
    Finished,
    FinishReason,
    Request,
    Result,
    Started,
    Timings,
    Usage,
)
from nsedge.errors import NsedgeError
from nsedge.runtime.encode.rows import Picture


class EncodeWork(ABC):
    """One request in the encode loop, on its thread; `ended` tells whether its end was told."""

    def __init__(self, *, request: Request, inputs: Sequence[Sized], submitted_s: float) -> None:
        """inputs: what the runner takes a batch of, each as long as it has tokens, or patches."""
        self.request = request
        self.inputs = tuple(inputs)
        self.ended = False
        self._submitted_s = submitted_s
        self._started_s: float | None = None
        self._there = np.zeros(len(self.inputs), bool)
        self._told = 0
        self._tokens = 0
        self._pictures = 0

    @abstractmethod
    def keep(self, index: int, output: NDArray[Any]) -> None:
        """Keep what the model made of an input."""

    @abstractmethod
    def chunks(self, begin: int, end: int, *, done: bool) -> Iterator[tuple[int, Result]]:
        """The events that may be told of inputs `begin` to `end`, which are all there, each with
        the input behind its last; all of them, where the request is `done`."""

    def key(self, index: int) -> object | None:
        """What tells an input from others, whosever they are: the same need be run only once. None
        where that is not known."""
        return None

    def pass_over(self, index: int) -> list[Event] | None:
        """Take what is known by now of an input, which need not be run then; the events that may be
        told. None where it has to be run."""
        return None

    def called(self, index: int) -> str:
        """What an input is called where it is at fault."""
        return f"input {index}"

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
                prompt_tokens=sum(len(row) for row in self.inputs if not isinstance(row, Picture)),
                queue_s=now_s - self._submitted_s,
            )
        ]

    def take(self, index: int, output: NDArray[Any], now_s: float) -> list[Event]:
        """What the model made of an input; the events that may be told now."""
        if self.ended:
            return []
        self.keep(index, output)
        self._there[index] = True
        if isinstance(row := self.inputs[index], Picture):
            self._pictures += 1
        else:
            self._tokens += len(row)
        done = bool(self._there.all())
        ready = len(self._there) if done else int(self._there.argmin())
        events: list[Event] = []
        for end, event in self.chunks(self._told, ready, done=done):
            self._told = end
            events.append(event)
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

    def _finish(self, reason: FinishReason, now_s: float) -> Finished:
        self.ended = True
        began_s = now_s if self._started_s is None else self._started_s
        return Finished(
            request_id=self.request.request_id,
            reason=reason,
            usage=Usage(prompt_tokens=self._tokens, completion_tokens=0, images=self._pictures),
            timings=Timings(
                queue_s=began_s - self._submitted_s, prefill_s=now_s - began_s, decode_s=0.0
            ),
        )
