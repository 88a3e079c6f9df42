"""The step loop: the only thread that runs a model.

Submissions and cancellations take one road, an inbox that is drained between steps. All events of a
step are handed over in one call.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nsedge.api import Delta, Event, Failed, Finished, FinishReason, ModelStats, Started
from nsedge.errors import DeadlineExceeded, EngineFailure, NsedgeError
from nsedge.runtime.decode.plan import Outcome, StepPlan, Token
from nsedge.runtime.decode.sampler import Sampler, SamplerRow
from nsedge.runtime.decode.scheduler import Scheduler
from nsedge.runtime.decode.sequence import Sequence, State
from nsedge.runtime.decode.timing import Times
from nsedge.runtime.delivery import Deliver, Emit
from nsedge.runtime.text.detokenizer import Piece, TextStream

log = logging.getLogger(__name__)


class StepRunner(Protocol):
    """What runs a step of the model."""

    def run(self, plan: StepPlan) -> NDArray[np.float32]:
        """Logits float32 [len(plan.answered), V], valid and writable until the next call.

        With a draft there is one row more for each of its guesses.
        """

    def recover(self) -> None:
        """Go on as if newly opened, after a run that failed. Where that raises, what is there is
        run again."""


@dataclass(eq=False, slots=True, kw_only=True)
class Job:
    """A request, as the engine works on it."""

    request_id: str
    sequence: Sequence
    row: SamplerRow
    text: TextStream
    emit: Emit
    clipped_max_tokens: int | None = None
    deltas: int = 0
    pending_ids: list[int] = field(default_factory=list)
    """Tokens since the last delta."""


@dataclass(frozen=True, slots=True)
class _Submit:
    job: Job


@dataclass(frozen=True, slots=True)
class _Cancel:
    job: Job


@dataclass(frozen=True, slots=True)
class _Ask:
    answer: Callable[[], None]


@dataclass(frozen=True, slots=True)
class _Stop:
    pass


class Engine:
    """Runs jobs to their end. `start` gives it its thread; `step` is what that thread does."""

    def __init__(
        self,
        *,
        runner: StepRunner,
        scheduler: Scheduler,
        sampler: Sampler,
        deliver: Deliver,
        clock: Callable[[], float],
        turn: AbstractContextManager[None] | None = None,
        name: str = "engine",
    ) -> None:
        """`turn` is held during each step: where several models share a device, one runs at a
        time."""
        self._runner = runner
        self._scheduler = scheduler
        self._sampler = sampler
        self._deliver = deliver
        self._clock = clock
        self._turn = turn or contextlib.nullcontext()
        self._inbox: SimpleQueue[_Submit | _Cancel | _Ask | _Stop] = SimpleQueue()
        self._jobs: dict[Sequence, Job] = {}
        self._events: list[tuple[Emit, Event]] = []
        self._thread = threading.Thread(target=self._loop, name=name, daemon=True)
        self._stopping = False
        self._steps = 0
        self._step_s = 0.0
        self._prompt_tokens = 0
        self._completion_tokens = 0
        self._ended: Counter[str] = Counter()
        self._times = Times()

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def stop(self) -> None:
        """Cancel what is left, and wait for the thread to end."""
        self._inbox.put(_Stop())
        self._thread.join()

    def submit(self, job: Job) -> None:
        """Take a job, from any thread. A refusal comes as its `Failed`."""
        self._inbox.put(_Submit(job))

    def cancel(self, job: Job) -> None:
        """End a job before the next step, from any thread. Idempotent."""
        self._inbox.put(_Cancel(job))

    def ask(self, answer: Callable[[], None]) -> None:
        """Have `answer` called by the step loop when it next comes round, from any thread. One that
        hangs never calls it."""
        self._inbox.put(_Ask(answer))

    def stats(self, *, slots: int, capacity: int) -> ModelStats:
        """Counters, read from any thread: each is true, together they may be a step apart."""
        return ModelStats(
            running=self._scheduler.running,
            waiting=self._scheduler.waiting,
            slots=slots,
            kv_tokens_used=self._scheduler.kv_tokens,
            kv_tokens_capacity=slots * capacity,
            steps=self._steps,
            step_s=self._step_s,
            prompt_tokens=self._prompt_tokens,
            completion_tokens=self._completion_tokens,
            finished=dict(self._ended),
            prefix_query_tokens=self._scheduler.prefix_query_tokens,
            prefix_hit_tokens=self._scheduler.prefix_hit_tokens,
            preemptions=self._scheduler.preemptions,
            times=self._times.read(),
        )

    def drain_inbox(self, *, wait: bool) -> None:
        """Take submissions and cancellations; with `wait`, block until there is one."""
        while wait or not self._inbox.empty():
            wait = False
            match self._inbox.get():
                case _Submit(job):
                    self._take(job)
                case _Cancel(job):
                    self._end_early(job)
                case _Ask(answer):
                    answer()
                case _Stop():
                    self._stopping = True

    def step(self) -> None:
        """Plan, run, sample, commit; then hand over all that came of it."""
        began_s = self._clock()
        self._expire(began_s)
        plan = self._scheduler.plan(began_s)
        if plan is not None:
            try:
                self._take_step(plan)
                self._scheduler.measured(plan, self._clock() - began_s)
            except Exception as error:
                held = [self._jobs[one].request_id for one in self._jobs if one.row is not None]
                log.exception("a step failed", extra={"request_ids": held})
                self._abandon(error)
            took_s = self._clock() - began_s
            self._steps += 1
            self._step_s += took_s
            self._times.step.add(took_s)
        self._hand_over()

    def _loop(self) -> None:
        while not self._stopping:
            self.drain_inbox(wait=self._scheduler.idle)
            with self._turn:
                self.step()
        for job in list(self._jobs.values()):
            self._end_early(job)
        self._hand_over()

    def _take(self, job: Job) -> None:
        try:
            self._scheduler.submit(job.sequence)
        except NsedgeError as error:
            self._fail(job, error)
        else:
            self._jobs[job.sequence] = job

    def _end_early(self, job: Job) -> None:
        if job.sequence in self._jobs:
            self._scheduler.cancel(job.sequence)
            self._finish(job, FinishReason.CANCELLED, stop=None)

    def _expire(self, now_s: float) -> None:
        for sequence in self._scheduler.expire(now_s):
            late_s = now_s - sequence.submitted_s
            error = DeadlineExceeded(f"not done {late_s:.3g} s after admission", param="deadline_s")
            self._fail(self._jobs[sequence], error)

    def _take_step(self, plan: StepPlan) -> None:
        logits = self._runner.run(plan)
        if plan.draft:
            self._check(plan, logits)
            return
        if len(plan.sampled_rows) < len(plan.answered):
            logits = logits[list(plan.sampled_rows)]
        self._commit(plan, self._choose(logits, plan.sampled))

    def _check(self, plan: StepPlan, logits: NDArray[np.float32]) -> None:
        """Take tokens one after the other, each as of a step of its own, while they are guessed."""
        sequence = plan.decode[0]
        for position, guess in enumerate((*plan.draft, None)):
            chosen = self._choose(logits[position : position + 1], plan.decode)
            self._commit(StepPlan((), (), plan.decode), chosen)
            if chosen[0] != guess or sequence.state is State.ENDED:
                return

    def _choose(self, logits: NDArray[np.float32], sampled: tuple[Sequence, ...]) -> list[int]:
        rows = []
        for sequence in sampled:
            row = self._jobs[sequence].row
            row.ban_end = sequence.must_go_on
            rows.append(row)
        return self._sampler.sample(logits, rows) if rows else []

    def _commit(self, plan: StepPlan, chosen: list[int]) -> None:
        for sequence in plan.started:
            self._start(sequence)
        self._prompt_tokens += sum(chunk.end - chunk.start for chunk in plan.prefill)
        self._completion_tokens += len(chosen)
        sampled, now_s = plan.sampled, self._clock()
        for sequence in sampled:
            self._times.token(sequence, now_s)
        pieces = [self._piece(s, i) for s, i in zip(sampled, chosen, strict=True)]
        tokens = [Token(i, piece.stop) for i, piece in zip(chosen, pieces, strict=True)]
        outcomes = self._scheduler.commit(plan, tokens, now_s)
        for outcome, piece in zip(outcomes, pieces, strict=True):
            self._tell(outcome, piece)

    def _start(self, sequence: Sequence) -> None:
        job = self._jobs[sequence]
        event = Started(
            request_id=job.request_id,
            prompt_tokens=len(sequence.prompt_ids),
            queue_s=(sequence.started_s or 0.0) - sequence.submitted_s,
        )
        self._times.queue.add(event.queue_s)
        self._events.append((job.emit, event))

    def _piece(self, sequence: Sequence, token_id: int) -> Piece:
        job = self._jobs[sequence]
        job.row.accept(token_id)
        if sequence.ends_with(token_id):
            return Piece("")
        job.pending_ids.append(token_id)
        return job.text.push(token_id, may_stop=not sequence.must_go_on)

    def _tell(self, outcome: Outcome, piece: Piece) -> None:
        job = self._jobs[outcome.sequence]
        if outcome.reason is None:
            if piece.text:
                self._delta(job, piece.text)
        else:
            held = "" if piece.stop is not None else job.text.flush()
            self._delta(job, piece.text + held)
            self._finish(job, outcome.reason, stop=piece.stop)

    def _delta(self, job: Job, text: str) -> None:
        if not text and not job.pending_ids:
            return
        event = Delta(
            request_id=job.request_id,
            seq=job.deltas,
            text=text,
            token_ids=tuple(job.pending_ids),
        )
        job.deltas += 1
        job.pending_ids.clear()
        self._events.append((job.emit, event))

    def _finish(self, job: Job, reason: FinishReason, *, stop: str | None) -> None:
        now_s = self._clock()
        if reason is not FinishReason.CANCELLED:
            self._times.request.add(now_s - job.sequence.submitted_s)
        event = Finished(
            request_id=job.request_id,
            reason=reason,
            usage=job.sequence.usage(),
            timings=job.sequence.timings(now_s),
            stop=stop,
            clipped_max_tokens=job.clipped_max_tokens,
        )
        self._forget(job, reason.value, event)

    def _fail(self, job: Job, error: NsedgeError) -> None:
        self._forget(job, error.code, Failed.of(job.request_id, error))

    def _forget(self, job: Job, how: str, event: Finished | Failed) -> None:
        self._jobs.pop(job.sequence, None)
        self._ended[how] += 1
        self._events.append((job.emit, event))

    def _abandon(self, error: Exception) -> None:
        """End everything that holds a slot: its KV memory cannot be trusted after a failed step."""
        failure = error if isinstance(error, NsedgeError) else EngineFailure("a model step failed")
        self._scheduler.abandon()
        for job in list(self._jobs.values()):
            if job.sequence.state is State.ENDED:
                self._fail(job, failure)
        self._hand_over()  # before what may take seconds
        try:
            self._runner.recover()
        except Exception:
            log.exception("the model goes on with the session in which a step failed")

    def _hand_over(self) -> None:
        if self._events:
            events, self._events = self._events, []
            # A closed event loop has nobody left to tell.
            with contextlib.suppress(RuntimeError):
                self._deliver(events)
