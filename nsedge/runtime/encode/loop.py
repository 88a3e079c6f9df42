"""The encode loop: the only thread that runs an encoder.

Its inbox is drained between batches.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nsedge.api import Event, Failed, Finished, FinishReason, ModelStats, ModelTimes
from nsedge.errors import EngineFailure, InvalidParameter, NsedgeError, QueueFull
from nsedge.runtime.delivery import Deliver
from nsedge.runtime.encode.batching import DUE_S, Batcher, Input
from nsedge.runtime.encode.work import EncodeWork
from nsedge.runtime.loop import WorkLoop
from nsedge.runtime.machine.arbiter import Seat
from nsedge.telemetry.histogram import TOKEN_BOUNDS_S, WAIT_BOUNDS_S, Stopwatch

log = logging.getLogger(__name__)

LEAST_TOKENS = 16
"""Of a batch, however little time there is."""
_WEIGHT = 0.2
"""Of the newest batch in the running mean of seconds a token."""


class BatchRunner(Protocol):
    """What runs a batch."""

    def run(self, rows: Sequence[Any]) -> Iterable[NDArray[np.float32]]:
        """What the model makes of each row: float32 of any shape, a vector or logits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLimits:
    """Bounds of a batch and of the queue: tokens with padding, rows, inputs that may wait."""

    tokens: int
    rows: int
    waiting: int


class EncodeLoop(WorkLoop[EncodeWork]):
    """Runs requests to their end, a batch a step."""

    def __init__(
        self,
        *,
        runner: BatchRunner,
        limits: BatchLimits,
        seat: Seat,
        deliver: Deliver,
        clock: Callable[[], float],
        name: str = "encoder",
    ) -> None:
        super().__init__(deliver=deliver, clock=clock, name=name)
        self._runner = runner
        self._limits = limits
        self._seat = seat
        self._batcher = Batcher()
        self._token_s = 0.0
        self._running = 0
        self._batches = 0
        self._batch_s = 0.0
        self._tokens = 0
        self._texts = 0
        self._images = 0
        self._queue_times = Stopwatch(WAIT_BOUNDS_S)
        self._prefill_times = Stopwatch(WAIT_BOUNDS_S)
        self._request_times = Stopwatch(WAIT_BOUNDS_S)
        self._batch_times = Stopwatch(TOKEN_BOUNDS_S)

    def stats(self) -> ModelStats:
        """Counters, read from any thread: each is true, together they may be a batch apart."""
        return ModelStats(
            running=self._running,
            waiting=len(self._batcher),
            slots=self._limits.rows,
            kv_tokens_used=0,
            kv_tokens_capacity=0,
            steps=self._batches,
            step_s=self._batch_s,
            prompt_tokens=self._tokens,
            completion_tokens=0,
            texts=self._texts,
            images=self._images,
            finished=dict(self.ended),
            times=ModelTimes(
                queue=self._queue_times.read(),
                prefill=self._prefill_times.read(),
                first_token=Stopwatch(WAIT_BOUNDS_S).read(),
                inter_token=Stopwatch(TOKEN_BOUNDS_S).read(),
                request=self._request_times.read(),
                step=self._batch_times.read(),
            ),
        )

    def step(self) -> None:
        """Run a batch of what waits, and hand over all that came of it."""
        self.expire()
        if len(self._batcher):
            with self._seat:
                batch = self._batch()
                outputs = self._run(batch) if batch else []
            now_s = self.clock()
            for one, output in zip(batch, outputs, strict=True):
                self._settle(one, output, now_s)
        self.hand_over()

    def is_idle(self) -> bool:
        """Whether no input waits."""
        return not len(self._batcher)

    def take(self, work: EncodeWork) -> None:
        """Let a request's inputs wait for a batch, or refuse it where too many do."""
        asked, most = len(work.inputs), self._limits.waiting
        if asked > most:
            many = f"{asked} inputs, each tile of a picture one, more than the {most} that may wait"
            self.fail(work, InvalidParameter(many))
            return
        if len(self._batcher) + asked > most:
            full = QueueFull(f"{len(self._batcher)} inputs wait already", retry_after_s=1.0)
            self.fail(work, full)
            return
        due_s = self.clock() + DUE_S[work.request.priority]
        for index, row in enumerate(work.inputs):
            # A request of many inputs is due bit by bit, as fast as they could be run.
            self._batcher.add(Input(work, index, row, due_s))
            due_s += self._token_s * len(row)

    def drop(self, work: EncodeWork) -> None:
        """Cancel a request before the next batch."""
        self._end(work, work.cancel(self.clock()))

    def fail(self, work: EncodeWork, error: NsedgeError) -> None:
        """End a request badly; none that has ended."""
        self._end(work, work.fail(error))

    def _batch(self) -> list[Input]:
        """What to run now: as much as goes together, or as fits the time that there is."""
        tokens, slice_s = self._limits.tokens, self._seat.slice_s()
        if slice_s is not None and self._token_s:
            tokens = min(tokens, max(LEAST_TOKENS, int(slice_s / self._token_s)))
        return self._unknown(self._batcher.take(budget_tokens=tokens, max_rows=self._limits.rows))

    def _unknown(self, taken: list[Input]) -> list[Input]:
        """Those that have to be run; of several that are the same, the first. The others wait: what
        comes of that will be known then, or if it fails they are run themselves."""
        wanted: list[Input] = []
        keys: set[object] = set()
        for one in taken:
            key = one.owner.key(one.index)
            events = one.owner.pass_over(one.index)
            if events is not None:
                self._tell_all(one.owner, events)
            elif key in keys:
                self._batcher.add(one)
            else:
                wanted.append(one)
                if key is not None:
                    keys.add(key)
        return wanted

    def _run(self, batch: list[Input]) -> list[NDArray[np.float32] | None]:
        """What came of each, None where nothing did."""
        began_s = self.clock()
        self._running = len({one.owner for one in batch})
        for one in batch:
            self._tell_all(one.owner, one.owner.start(began_s))
        outputs = self._outputs(batch)
        took_s = self.clock() - began_s
        grown = took_s / (max(one.length for one in batch) * len(batch)) - self._token_s
        self._token_s += grown * (_WEIGHT if self._token_s else 1.0)
        self._running, self._batches = 0, self._batches + 1
        self._batch_s += took_s
        self._batch_times.add(took_s)
        return outputs

    def _settle(self, one: Input, output: NDArray[np.float32] | None, now_s: float) -> None:
        """Give what came of an input to its request, or fail that."""
        work = one.owner
        if output is None or not np.isfinite(output).all():
            self.fail(work, EngineFailure(f"the model failed on {work.called(one.index)}"))
            return
        if one.is_picture:
            self._images += 1
        else:
            self._texts += 1
            self._tokens += one.length
        self._tell_all(work, work.take(one.index, output, now_s))

    def _outputs(self, batch: Sequence[Input]) -> list[NDArray[np.float32] | None]:
        """What comes of each, None where the model fails on that one: a batch that fails is cut in
        two until it is known whose fault it was."""
        try:
            return list(self._runner.run([one.row for one in batch]))
        except Exception:
            if len(batch) == 1:
                label = {"request_id": batch[0].owner.request.request_id}
                log.exception("an input could not be encoded", extra=label)
                return [None]
            half = len(batch) // 2
            return [*self._outputs(batch[:half]), *self._outputs(batch[half:])]

    def _end(self, work: EncodeWork, events: list[Event]) -> None:
        """End a request of which inputs may wait."""
        if events:
            self._batcher.forget(work)
            self._tell_all(work, events)

    def _tell_all(self, work: EncodeWork, events: list[Event]) -> None:
        if work not in self.works:
            return
        for event in events:
            self.tell(work, event)
            self._count(event)
        if work.ended:
            del self.works[work]

    def _count(self, event: Event) -> None:
        match event:
            case Failed():
                self.ended[event.code] += 1
            case Finished():
                self.ended[event.reason.value] += 1
                times = event.timings
                self._queue_times.add(times.queue_s)
                self._prefill_times.add(times.prefill_s)
                if event.reason is not FinishReason.CANCELLED:
                    self._request_times.add(times.queue_s + times.prefill_s)
