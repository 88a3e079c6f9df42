"""The jobs that are not done, and a step's events on their way to those who asked."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable
from typing import Any

from nsedge.api import (
    AnyDelta,
    ChoiceFailed,
    ChoiceFinished,
    Delta,
    Event,
    Failed,
    Finished,
    FinishReason,
    PromptLogprobs,
    ReasoningDelta,
    Started,
    ToolCallDelta,
)
from nsedge.errors import NsedgeError
from nsedge.runtime.decode.job import Family, Job
from nsedge.runtime.decode.plan import Outcome
from nsedge.runtime.decode.sequence import Sequence
from nsedge.runtime.decode.timing import Times
from nsedge.runtime.delivery import Deliver, Emit
from nsedge.runtime.text.answer.parts import CallPiece, Part, Said, Thought, joined
from nsedge.runtime.text.answer.reader import AnyReader
from nsedge.runtime.text.detokenizer import Piece


class Outbox:
    """Makes events of what happened to jobs; a terminal one ends its job."""

    def __init__(self, *, deliver: Deliver, clock: Callable[[], float], times: Times) -> None:
        self._deliver = deliver
        self._clock = clock
        self._times = times
        self._events: list[tuple[Emit, Event]] = []
        self.jobs: dict[Sequence, Job] = {}
        self.ended: Counter[str] = Counter()
        """Jobs that came to an end, by finish reason or error code."""

    def start(self, sequence: Sequence) -> None:
        """The prompt of a job begins to be read."""
        job = self.jobs[sequence]
        if job.choice:
            return  # it was read before, and given up since
        event = Started(
            request_id=job.request_id,
            prompt_tokens=len(sequence.prompt_ids),
            queue_s=(sequence.started_s or 0.0) - sequence.submitted_s,
        )
        self._times.queue.add(event.queue_s)
        self._events.append((job.emit, event))

    def tell_prompt(self, sequence: Sequence) -> None:
        """Tell what was noted of a prompt's tokens, if anything."""
        job = self.jobs[sequence]
        if job.pending_prompt:
            event = PromptLogprobs(
                request_id=job.request_id,
                first=job.prompt_shown,
                logprobs=tuple(job.pending_prompt),
            )
            job.prompt_shown += len(job.pending_prompt)
            job.pending_prompt.clear()
            self._events.append((job.emit, event))

    def tell(self, outcome: Outcome, piece: Piece) -> None:
        """A token of a job became `piece`, and may have ended it."""
        job = self.jobs[outcome.sequence]
        if job.answer is not None:
            self._tell_parts(job, job.answer, outcome.reason, piece)
        elif outcome.reason is None:
            if piece.text:
                self._delta(job, piece.text)
        else:
            held = "" if piece.stop is not None else job.text.flush()
            self._delta(job, piece.text + held)
            self.finish(job, outcome.reason, stop=piece.stop)

    def _tell_parts(
        self, job: Job, answer: AnyReader, reason: FinishReason | None, piece: Piece
    ) -> None:
        parts = list(piece.parts)
        if reason is not None:
            held = "" if piece.stop is not None or answer.is_full else job.text.flush()
            parts = joined([*parts, *answer.push(held), *answer.end()])
        for part in parts:
            self._part(job, part)
        if reason is not None:
            self._delta(job, "")
            called = answer.has_called and reason is FinishReason.STOP
            self.finish(job, FinishReason.TOOL_CALLS if called else reason, stop=piece.stop)

    def finish(self, job: Job, reason: FinishReason, *, stop: str | None) -> None:
        """End a job well. Of several choices one that is cancelled stands for all of them."""
        now_s, family = self._clock(), job.family
        if family is None:
            self._finish(job, Finished(**job.ending(reason, stop, now_s)), now_s)
        elif reason is FinishReason.CANCELLED:
            self._finish(job, family.finished(now_s, reason), now_s)
        else:
            fields = job.ending(reason, stop, now_s)
            self._end_choice(job, family, ChoiceFinished(choice=job.choice, **fields))

    def fail(self, job: Job, error: NsedgeError) -> None:
        """Refuse a job, or break it off; of several choices this one alone, where it began."""
        family = job.family
        if family is None or not family.has_begun:
            self.fail_all(job, error)
            return
        event = ChoiceFailed(
            request_id=job.request_id,
            choice=job.choice,
            code=error.code,
            message=error.message,
            retryable=error.retryable,
            param=error.param,
        )
        self._end_choice(job, family, event)

    def fail_all(self, job: Job, error: NsedgeError) -> None:
        """Break off a request, whatever choices it has."""
        self._forget(job, error.code, Failed.of(job.request_id, error))

    def hand_over(self) -> None:
        """Deliver what there is, in one call."""
        if self._events:
            events, self._events = self._events, []
            # A closed event loop has nobody left to tell.
            with contextlib.suppress(RuntimeError):
                self._deliver(events)

    def _delta(self, job: Job, text: str) -> None:
        if not text and not job.pending_ids:
            return
        self._part(job, Said(text))

    def _part(self, job: Job, part: Part) -> None:
        event = delta_of(
            part,
            request_id=job.request_id,
            seq=job.deltas,
            token_ids=tuple(job.pending_ids),
            logprobs=tuple(job.pending_logprobs),
            choice=job.choice,
        )
        job.deltas += 1
        job.pending_ids.clear()
        job.pending_logprobs.clear()
        self._events.append((job.emit, event))

    def _finish(self, job: Job, event: Finished, now_s: float) -> None:
        if event.reason is not FinishReason.CANCELLED:
            self._times.request.add(now_s - job.sequence.submitted_s)
        self._forget(job, event.reason.value, event)

    def _end_choice(self, job: Job, family: Family, event: ChoiceFinished | ChoiceFailed) -> None:
        """End a choice, and with the last one the request."""
        self.jobs.pop(job.sequence, None)
        self._events.append((job.emit, event))
        if not family.leave(job, event):
            return
        failure = family.failure()
        if failure is None:
            now_s = self._clock()
            self._finish(job, family.finished(now_s), now_s)
        else:
            self._forget(job, failure.code, failure.failed())

    def _forget(self, job: Job, how: str, event: Finished | Failed) -> None:
        self.jobs.pop(job.sequence, None)
        if job.family is not None:
            job.family.let_go()
        self.ended[how] += 1
        self._events.append((job.emit, event))


def delta_of(part: Part, **fields: Any) -> AnyDelta:
    """The event that tells of a part; `fields` are those that all deltas have."""
    match part:
        case Said(text):
            return Delta(text=text, **fields)
        case Thought(text):
            return ReasoningDelta(text=text, **fields)
        case CallPiece():
            return ToolCallDelta(
                index=part.index,
                call_id=part.id,
                name=part.name,
                arguments=part.arguments,
                **fields,
            )
