"""The beam searches of an engine: what a step says of their beams, and what comes of it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

from nsedge.api import FinishReason
from nsedge.errors import ComputationFailure, NsedgeError
from nsedge.runtime.decode.beams import BeamSearch, Ending, Hypothesis, Moves
from nsedge.runtime.decode.job import NO_NUMBERS, Job, Search
from nsedge.runtime.decode.outbox import Outbox
from nsedge.runtime.decode.plan import Outcome, StepPlan
from nsedge.runtime.decode.runner import StepRunner
from nsedge.runtime.decode.sampling.history import Breakers
from nsedge.runtime.decode.sampling.logits import Logits
from nsedge.runtime.decode.sampling.ranking import Ranking
from nsedge.runtime.decode.sampling.sampler import Sampler
from nsedge.runtime.decode.scheduler import Scheduler
from nsedge.runtime.decode.sequence import Sequence
from nsedge.runtime.decode.timing import Times
from nsedge.runtime.text.detokenizer import Piece

NO_STOPS = Breakers((), lambda token: b"")
Found = dict[Job, Moves | None]
"""Where the beams of each search go on; None where it is done."""


def begin(
    job: Job,
    ending: Ending,
    *,
    beams: int,
    count: int = 1,
    make: Callable[[int], Job] | None = None,
    stops: Breakers = NO_STOPS,
) -> None:
    """Have a job's text found by so many beams, and the `count` best told; `make` gives the job of
    a choice from 1 on."""
    first = job.sequence
    others = [
        replace(first, output_ids=[], deadline_s=None, prompt_told=None, marked=None)
        for _ in range(beams - 1)
    ]
    for sequence in (first, *others):
        sequence.beams = (first, *others)
    search = BeamSearch(
        ending,
        beams=beams,
        row=job.row,
        end_ids=first.limits.end_ids,
        max_tokens=first.limits.max_tokens,
        stops=stops,
    )
    job.search = Search(beams=search, count=count, make=make)


class Searches:
    """Used by the engine's thread."""

    def __init__(
        self,
        *,
        runner: StepRunner,
        scheduler: Scheduler,
        sampler: Sampler,
        outbox: Outbox,
        times: Times,
    ) -> None:
        self._runner = runner
        self._scheduler = scheduler
        self._sampler = sampler
        self._outbox = outbox
        self._times = times

    def look(self, plan: StepPlan, logits: Logits, errors: dict[Sequence, NsedgeError]) -> Found:
        """What the logits of a step say of the searches in it, but for those that `errors` has
        then: what one beam cannot do ends all."""
        for sequence, error in list(errors.items()):
            errors.update(dict.fromkeys(sequence.together, error))
        rows: dict[Sequence, dict[Sequence, int]] = {}
        for row, beam in plan.searched:
            rows.setdefault(beam.beams[0], {})[beam] = row
        found: Found = {}
        for first, places in rows.items():
            if first in errors:
                continue
            job = self._outbox.jobs[first]
            try:
                found[job] = self._advance(job, job.need_search(), places, logits)
            except NsedgeError as error:
                errors.update(dict.fromkeys(first.beams, error))
        return found

    def take(self, found: Found, now_s: float) -> int:
        """Have all searches go on, or end, after their step is committed; the tokens that were
        told."""
        told = 0
        for job, moves in found.items():
            sequence = job.sequence
            self._times.token(sequence, now_s)
            if moves is not None:
                self._scheduler.go_on(sequence.beams, moves.parents, moves.tokens, now_s)
                continue
            self._scheduler.cancel(sequence)
            self._outbox.jobs.pop(sequence)
            told += self._tell(job, job.need_search(), now_s)
        if found:
            self._runner.copy(self._scheduler.take_copies())
        return told

    def _advance(
        self, job: Job, search: Search, places: dict[Sequence, int], logits: Logits
    ) -> Moves | None:
        """Raises ComputationFailure where the logits are no numbers."""
        first, beams = job.sequence, search.beams
        live = beams.live
        rows = [beams.beams[number].row for number in live]
        for row in rows:
            row.ban_end = first.must_go_on
        own = logits.select([places[first.beams[number]] for number in live])
        rankings: dict[int, Ranking] = {}
        for number, ranking in zip(live, self._sampler.rank(own, rows, beams.width), strict=True):
            if ranking is None:
                raise ComputationFailure(NO_NUMBERS)
            rankings[number] = ranking
        length = len(first.output_ids) + 1
        moves = beams.advance(rankings, length=length, may_end=not first.must_go_on)
        if moves is None and not beams.best(1):
            job.row = rows[0]
            raise job.no_token()
        return moves

    def _tell(self, job: Job, search: Search, now_s: float) -> int:
        """Tell the best texts that were found; their tokens."""
        jobs, best = search.choices(job), search.beams.best(search.count)
        self._outbox.jobs.update((one.sequence, one) for one in jobs)
        for one, hypothesis in itertools.zip_longest(jobs, best):
            try:
                if hypothesis is None:
                    raise ComputationFailure(f"the search found only {len(best)} answers")
                self._tell_one(one, hypothesis, now_s)
            except NsedgeError as error:
                self._outbox.fail(one, error)
        return sum(len(one.sequence.output_ids) for one in jobs)

    def _tell_one(self, job: Job, hypothesis: Hypothesis, now_s: float) -> None:
        """Tell one text whole.

        Raises:
            NsedgeError: a token cannot be turned into text.
        """
        sequence, pieces = job.sequence, [Piece("")]
        reason = None
        for draw in hypothesis.draws:
            pieces.append(job.read_token(draw)[1])
            sequence.accept(draw.id, now_s)
            reason = sequence.ending(pieces[-1].ends)
            if reason is not None:
                break
        whole = replace(
            pieces[-1],
            text="".join(piece.text for piece in pieces),
            parts=tuple(part for piece in pieces for part in piece.parts),
        )
        self._outbox.tell(Outcome(sequence, reason or FinishReason.STOP), whole)
