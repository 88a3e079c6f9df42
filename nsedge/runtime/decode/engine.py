"""The step loop: the only thread that runs a model.

Submissions and cancellations take one road, an inbox that is drained between steps. All events of a
step are handed over in one call.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from collections.abc import Sequence as Many
from contextlib import AbstractContextManager
from queue import SimpleQueue

import numpy as np

from nsedge.api import FinishReason, ModelStats
from nsedge.errors import (
    ComputationFailure,
    DeadlineExceeded,
    EngineFailure,
    InvalidRequest,
    NsedgeError,
)
from nsedge.runtime.decode.counting import Counters
from nsedge.runtime.decode.inbox import Ask, Cancel, Stop, Submit
from nsedge.runtime.decode.isolation import isolate
from nsedge.runtime.decode.job import Job
from nsedge.runtime.decode.outbox import Outbox
from nsedge.runtime.decode.plan import Outcome, StepPlan, Token
from nsedge.runtime.decode.runner import StepRunner
from nsedge.runtime.decode.sampling.logits import Floats, HostLogits, Logits
from nsedge.runtime.decode.sampling.ranking import Draw
from nsedge.runtime.decode.sampling.sampler import Sampler
from nsedge.runtime.decode.scheduler import Scheduler
from nsedge.runtime.decode.searching import Searches
from nsedge.runtime.decode.sequence import Sequence, State
from nsedge.runtime.decode.speculation import MOST_DRAFTED
from nsedge.runtime.delivery import Deliver
from nsedge.runtime.structure.masks import MaskMaker
from nsedge.runtime.text.detokenizer import Piece

log = logging.getLogger(__name__)

Errors = dict[Sequence, NsedgeError]
"""The sequences of a step that cannot go on, and why."""
Take = Callable[[Many[Sequence], Many[Token], float], list[Outcome]]
"""Takes a token for each of some sequences, at a time of the engine's clock."""


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
        self._clock = clock
        self._turn = turn or contextlib.nullcontext()
        self._inbox: SimpleQueue[Submit | Cancel | Ask | Stop] = SimpleQueue()
        self._counters = Counters()
        self._times = self._counters.times
        self._outbox = Outbox(deliver=deliver, clock=clock, times=self._times)
        self._searches = Searches(
            runner=runner,
            scheduler=scheduler,
            sampler=sampler,
            outbox=self._outbox,
            times=self._times,
        )
        self._masks = MaskMaker(name)
        self._thread = threading.Thread(target=self._loop, name=name, daemon=True)
        self._stopping = False

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def stop(self) -> None:
        """Cancel what is left, and wait for the thread to end."""
        self._inbox.put(Stop())
        self._thread.join()

    def submit(self, job: Job) -> None:
        """Take a job, from any thread. A refusal comes as its `Failed`."""
        self._inbox.put(Submit(job))

    def cancel(self, job: Job) -> None:
        """End a job before the next step, from any thread. Idempotent."""
        self._inbox.put(Cancel(job))

    def ask(self, answer: Callable[[], None]) -> None:
        """Have `answer` called by the step loop when it next comes round, from any thread. One that
        hangs never calls it."""
        self._inbox.put(Ask(answer))

    def stats(self, *, slots: int, capacity: int) -> ModelStats:
        """Counters, read from any thread."""
        return self._counters.stats(
            self._scheduler, slots=slots, capacity=capacity, ended=self._outbox.ended
        )

    def drain_inbox(self, *, wait: bool) -> None:
        """Take submissions and cancellations; with `wait`, block until there is one."""
        while wait or not self._inbox.empty():
            wait = False
            match self._inbox.get():
                case Submit(job):
                    self._take(job)
                case Cancel(job):
                    self._end_early(job)
                case Ask(answer):
                    answer()
                case Stop():
                    self._stopping = True

    def step(self) -> None:
        """Plan, run, sample, commit; then hand over all that came of it."""
        began_s = self._clock()
        self._expire(began_s)
        plan = self._scheduler.plan(began_s)
        if plan is not None:
            try:
                if self._take_step(plan):
                    self._scheduler.measured(plan, self._clock() - began_s)
            except Exception as error:
                held = [job.request_id for one, job in self._jobs.items() if one.row is not None]
                log.exception("a step failed", extra={"request_ids": held})
                self._abandon(error)
            self._counters.step(self._clock() - began_s)
        self._outbox.hand_over()

    @property
    def _jobs(self) -> dict[Sequence, Job]:
        return self._outbox.jobs

    def _loop(self) -> None:
        while not self._stopping:
            self.drain_inbox(wait=self._scheduler.idle)
            with self._turn:
                self.step()
        for job in list(self._jobs.values()):
            self._end_early(job)
        self._outbox.hand_over()
        self._masks.close()

    def _take(self, job: Job) -> None:
        try:
            self._scheduler.submit(job.sequence)
        except NsedgeError as error:
            self._outbox.fail(job, error)
        else:
            self._enlist(job)
            if job.family is not None:
                job.family.enlist = self._enlist

    def _enlist(self, job: Job) -> None:
        self._jobs[job.sequence] = job

    def _end_early(self, job: Job) -> None:
        if self._withdraw(job):
            self._outbox.finish(job, FinishReason.CANCELLED, stop=None)

    def _withdraw(self, job: Job) -> bool:
        """Let nothing more come of a request, whichever of its choices `job` is; whether there was
        anything left of it."""
        family = job.family
        jobs = [job] if family is None else list(family.live.values())
        if family is not None:
            family.close()
        left = [one for one in jobs if self._jobs.pop(one.sequence, None) is not None]
        for one in left:
            if one.sequence.state is not State.ENDED:
                self._scheduler.cancel(one.sequence)
        return bool(left)

    def _expire(self, now_s: float) -> None:
        for sequence in self._scheduler.expire(now_s):
            job, late_s = self._jobs.get(sequence), now_s - sequence.submitted_s
            error = DeadlineExceeded(f"not done {late_s:.3g} s after admission", param="deadline_s")
            if job is not None and self._withdraw(job):
                self._outbox.fail_all(job, error)

    def _take_step(self, plan: StepPlan) -> bool:
        """Whether all went as planned, so that the time it took says something.

        Raises:
            Exception: nothing can be run any more.
        """
        if plan.copies:
            self._runner.copy(plan.copies)
        errors: Errors = {}
        try:
            left, logits = plan, self._runner.run(plan)
        except Exception:
            asked = [self._jobs[one].request_id for one in plan.sequences if one.leads]
            log.exception("a step is run again in parts", extra={"request_ids": asked})
            found = isolate(plan, self._runner.run)
            left, logits = found.plan, found.logits
            failure = "the model cannot compute this request: its step raises"
            errors = {sequence: ComputationFailure(failure) for sequence in found.errors}
        self._look_at_prompts(left, logits, errors)
        beams = self._searches.look(left, logits, errors)
        if left.draft:
            good = self._check(left, logits)
        else:
            good = self._settle(left, logits.select(left.sampled_rows), errors)
        self._counters.completion_tokens += self._searches.take(beams, self._clock())
        self._fork()
        return good and left is plan

    def _fork(self) -> None:
        """Begin what continues prompts that are read: logits that were kept give first tokens."""
        while new := self._scheduler.fork(self._clock()):
            # Now: a row that is copied may be cleared before the next step.
            self._runner.copy(self._scheduler.take_copies())
            kept = [family.logits for one in new if (family := self._jobs[one].family)]
            logits = HostLogits(np.stack([row for row in kept if row is not None]))
            errors: Errors = {}
            read = self._choose(new, logits, errors)
            self._clear(errors)
            self._take_tokens(list(read), list(read.values()), self._scheduler.accept)
            self._follow(list(read))
            self._drop(errors)

    def _look_at_prompts(self, plan: StepPlan, logits: Logits, errors: Errors) -> None:
        """Note how likely the tokens of prompts were found, or show what follows a marked one."""
        for chunk, first in plan.kept:
            if chunk.sequence.prompt_told is not None or chunk.marks:
                try:
                    self._jobs[chunk.sequence].look_at_prompt(chunk, logits, first)
                except NsedgeError as error:
                    errors[chunk.sequence] = error

    def _check(self, plan: StepPlan, logits: Logits) -> bool:
        """Take tokens one after the other, each as of a step of its own, while they are guessed."""
        sequence = plan.decode[0]
        for position, guess in enumerate((*plan.draft, None)):
            one = StepPlan((), (), plan.decode)
            if not self._settle(one, logits.select([position]), {}):
                return False
            if sequence.state is State.ENDED or sequence.input_id != guess:
                break
        return True

    def _settle(self, plan: StepPlan, logits: Logits, errors: Errors) -> bool:
        """Choose a token for each sequence that gets one, and commit the step, but for what
        `errors` has; whether it has none then."""
        read = self._choose(plan.sampled, logits, errors)
        self._clear(errors)
        self._commit(plan.without(errors), list(read.values()))
        good = not errors
        self._drop(errors)
        return good

    def _choose(
        self, sampled: Many[Sequence], logits: Logits, errors: Errors
    ) -> dict[Sequence, tuple[int, Piece]]:
        """A token for each of the sequences, but for those that `errors` has then."""
        rows = []
        after_prompt: dict[Sequence, Floats] = {}
        for place, sequence in enumerate(sampled):
            job = self._jobs[sequence]
            if job.family is not None and job.family.logits is None:
                after_prompt[sequence] = logits.row(place).copy()
            job.row.ban_end = sequence.must_go_on
            if job.guide is not None:
                job.row.mask = job.guide.mask()
            rows.append(job.row)
        read: dict[Sequence, tuple[int, Piece]] = {}
        chosen = self._sampler.sample(logits, rows) if rows else []
        for sequence, draw in zip(sampled, chosen, strict=True):
            family = self._jobs[sequence].family
            try:
                if sequence in errors:
                    continue
                if family is not None and draw is not None and sequence in after_prompt:
                    family.logits, family.has_begun = after_prompt[sequence], True
                read[sequence] = self._jobs[sequence].read_token(draw)
            except NsedgeError as error:
                errors[sequence] = error
        return read

    def _commit(self, plan: StepPlan, chosen: list[tuple[int, Piece]]) -> None:
        for sequence in plan.started:
            self._outbox.start(sequence)
        for chunk in plan.prefill:
            self._outbox.tell_prompt(chunk.sequence)
        self._counters.prompt_tokens += plan.prompt_tokens
        sampled = plan.sampled
        self._take_tokens(
            sampled,
            chosen,
            lambda _, tokens, now_s: self._scheduler.commit(plan, tokens, now_s),
        )
        self._follow(sampled)

    def _take_tokens(
        self, sequences: Many[Sequence], chosen: Many[tuple[int, Piece]], take: Take
    ) -> None:
        """Have the scheduler `take` a token for each of the sequences; tell what comes of it."""
        self._counters.completion_tokens += len(chosen)
        now_s = self._clock()
        for sequence in sequences:
            self._times.token(sequence, now_s)
        tokens = [Token(token, piece.ends) for token, piece in chosen]
        outcomes = take(sequences, tokens, now_s)
        for outcome, (_, piece) in zip(outcomes, chosen, strict=True):
            self._outbox.tell(outcome, piece)

    def _follow(self, sequences: Many[Sequence]) -> None:
        """Take what the grammars of rows that took a token let come alone, and have their masks
        made."""
        errors: Errors = {}
        for sequence in sequences:
            try:
                for token in self._jobs[sequence].forced() if sequence in self._jobs else ():
                    if sequence in self._jobs:
                        read = self._jobs[sequence].read_token(Draw(token))
                        self._take_tokens([sequence], [read], self._scheduler.leap)
            except NsedgeError as error:
                errors[sequence] = error
        self._clear(errors)
        self._drop(errors)
        live = [self._jobs[one].guide for one in sequences if one in self._jobs]
        self._masks.begin([guide for guide in live if guide is not None])

    def _clear(self, errors: Errors) -> None:
        """Leave nothing of what a step wrote to the rows of sequences that cannot go on."""
        for sequence in errors:
            self._runner.clear(sequence.held_row, sequence.length + MOST_DRAFTED)

    def _drop(self, errors: Errors) -> None:
        """End sequences that cannot go on, and forget why: nobody finds what their rows hold."""
        leading = [(sequence, error) for sequence, error in errors.items() if sequence.leads]
        for sequence, error in leading:
            job = self._jobs[sequence]
            level = logging.INFO if isinstance(error, InvalidRequest) else logging.ERROR
            log.log(level, "%s", error.message, extra={"request_id": job.request_id})
            if job.family is not None and job.family.logits is None:
                job.family.close()  # none can go on after this prompt
            self._scheduler.fail(sequence)
            self._outbox.fail(job, error)
        errors.clear()  # an error holds the frames that it came through, and one of these holds it

    def _abandon(self, error: Exception) -> None:
        """End everything that holds a slot: its KV memory cannot be trusted after a failed step."""
        failure = error if isinstance(error, NsedgeError) else EngineFailure("a model step failed")
        held = [job for one, job in self._jobs.items() if one.row is not None]
        for job in held:
            if job.family is not None:
                job.family.close()
        self._scheduler.abandon()
        for job in held:
            if self._withdraw(job):
                self._outbox.fail_all(job, failure)
        self._outbox.hand_over()  # before what may take seconds
        try:
            self._runner.recover()
        except Exception:
            log.exception("the model goes on with the session in which a step failed")
