"""A request as the engine works on it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from collections.abc import Sequence as Many
from dataclasses import dataclass, field, replace
from typing import Any

from nsedge.api import ChoiceFailed, ChoiceFinished, Finished, FinishReason, Logprobs
from nsedge.errors import ComputationFailure, ConstraintFailure, InvalidParameter, NsedgeError
from nsedge.runtime.decode.beams import BeamSearch
from nsedge.runtime.decode.likelihood import LogprobWriter
from nsedge.runtime.decode.plan import Chunk
from nsedge.runtime.decode.sampling.logits import Floats, Logits
from nsedge.runtime.decode.sampling.ranking import Draw, likelihood
from nsedge.runtime.decode.sampling.row import SamplerRow
from nsedge.runtime.decode.sequence import Sequence
from nsedge.runtime.delivery import Emit
from nsedge.runtime.structure.guide import Guide
from nsedge.runtime.text.answer.reader import AnyReader
from nsedge.runtime.text.detokenizer import Piece, TextStream

log = logging.getLogger(__name__)

NO_NUMBERS = "the model's logits for this request are no numbers"


@dataclass(eq=False, slots=True, kw_only=True)
class Job:
    """A sequence, how its tokens are chosen, and what becomes of them."""

    request_id: str
    sequence: Sequence
    choice: int = 0
    """Which of the request's choices it is."""
    family: Family | None = None
    """Of all of them, where there are several."""
    row: SamplerRow
    text: TextStream
    emit: Emit
    likelihood: LogprobWriter | None = None
    """Tells log-probabilities, where they were asked for."""
    answer: AnyReader | None = None
    """Tells thoughts and tool calls from the text; None where that was not asked for."""
    guide: Guide | None = None
    """Of the grammar that its answer is held to."""
    clipped_max_tokens: int | None = None
    logprob: float | None = None
    """Of all that was written, where log-probabilities are told."""
    deltas: int = 0
    pending_ids: list[int] = field(default_factory=list)
    """Tokens since the last delta."""
    pending_logprobs: list[Logprobs] = field(default_factory=list)
    """Theirs, where they were asked for."""
    looks: Callable[[Floats], None] | None = None
    """Shown the logits [V] after the marked place of the prompt, for as long as the call takes."""
    prompt_logprobs: int | None = None
    """Of how many of the likeliest tokens those in the prompt's places are told, where they are."""
    prompt_shown: int = 0
    """The prompt's tokens that were told."""
    pending_prompt: list[Logprobs] = field(default_factory=list)
    """What was not told yet of the next ones."""
    search: Search | None = None
    """How its text is found, where it is not drawn token by token."""

    def __post_init__(self) -> None:
        if self.guide is not None:
            self.sequence.fitting = self.guide.allowed

    def ending(self, reason: FinishReason, stop: str | None, now_s: float) -> dict[str, Any]:
        """What is told of an end that went well: fields of `Finished` and `ChoiceFinished`."""
        return {
            "request_id": self.request_id,
            "reason": reason,
            "usage": self.sequence.usage(),
            "timings": self.sequence.timings(now_s),
            "stop": stop,
            "clipped_max_tokens": self.clipped_max_tokens,
            "cumulative_logprob": self.logprob,
        }

    def need_search(self) -> Search:
        """Its search.

        Raises:
            RuntimeError: where it has none.
        """
        if self.search is None:
            raise RuntimeError("beams without a search")
        return self.search

    def look_at_prompt(self, chunk: Chunk, logits: Logits, first: int) -> None:
        """Note how likely the tokens after those that `chunk` keeps were found, and show what comes
        after the marked one; their logits are rows from `first` on.

        Raises:
            ComputationFailure: where these are no numbers.
        """
        ids, writer = self.sequence.prompt_ids, self.likelihood
        if self.looks is not None and chunk.marks:
            self.looks(logits.row(first + (self.sequence.marked or 0) - chunk.kept.start))
        if writer is None or self.prompt_logprobs is None:
            return
        if chunk.kept.start == 0:
            self.pending_prompt.append(writer.first(ids[0]))
        for row, place in enumerate(chunk.kept[: len(ids) - 1 - chunk.kept.start], start=first):
            draw = likelihood(logits, row, ids[place + 1], self.prompt_logprobs)
            if draw is None:
                raise ComputationFailure(NO_NUMBERS)
            self.pending_prompt.append(writer.of(draw))

    def no_token(self) -> ComputationFailure | ConstraintFailure | InvalidParameter:
        """Why no token could be chosen: the request's own fields leave none, or its grammar does,
        or the logits are no numbers."""
        row = self.row
        others = {"min_tokens": row.ban_end, "the grammar": row.mask is not None}
        rules = [*row.excluding, *(name for name, holds in others.items() if holds)]
        if not row.barren or not rules:
            return ComputationFailure(NO_NUMBERS)
        *first, last = rules
        names = f"{', '.join(first)} and {last}" if first else last
        message = f"no token may come next under {names}"
        if row.excluding:
            return InvalidParameter(message, param=row.excluding[0])
        return ConstraintFailure(message)

    @property
    def may_leap(self) -> bool:
        """Whether a token that must come may be taken without its logits: nothing is told of them,
        nothing may bar it, and nothing learns from it."""
        row = self.row
        told = row.logprobs is not None or self.prompt_logprobs is not None
        return not (told or row.bans or row.barred is not None or row.memory is not None)

    def forced(self) -> Many[int]:
        """The tokens that must come next, and need no logits.

        Raises:
            ConstraintFailure: its grammar cannot be followed any further.
        """
        if self.guide is None or not self.may_leap:
            return ()
        return self.guide.forced()

    def read_token(self, draw: Draw | None) -> tuple[int, Piece]:
        """The token that was chosen, and what it becomes.

        Raises:
            ComputationFailure: there is none.
            InvalidParameter: the request's own fields leave none.
            ConstraintFailure: its grammar leaves none, or cannot be followed any further.
            NsedgeError: it cannot be turned into text.
        """
        if draw is None:
            raise self.no_token()
        try:
            return draw.id, self.read(draw)
        except NsedgeError:
            raise
        except Exception as error:  # a tokenizer's own
            log.exception("a token has no text", extra={"request_id": self.request_id})
            raise NsedgeError(f"token {draw.id} cannot be turned into text") from error

    def read(self, draw: Draw) -> Piece:
        """The text that becomes certain with the token that was chosen.

        Raises:
            ConstraintFailure: its grammar cannot be followed any further.
        """
        self.row.accept(draw.id)
        if draw.logprob is not None:
            self.logprob = (self.logprob or 0.0) + draw.logprob
        if self.guide is not None:
            self.guide.accept(draw.id)
        if self.sequence.ends_with(draw.id):
            return Piece("")
        self.pending_ids.append(draw.id)
        if self.likelihood is not None and self.row.logprobs is not None:
            self.pending_logprobs.append(self.likelihood.of(draw))
        piece = self.text.push(draw.id, may_stop=not self.sequence.must_go_on)
        if self.answer is not None:
            parts = tuple(self.answer.push(piece.text))
            is_full = self.answer.is_full and not self.sequence.must_go_on
            piece = replace(piece, parts=parts, is_full=is_full)
        if self.guide is not None and self.guide.done:
            return replace(piece, is_full=True)
        return piece


@dataclass(frozen=True, kw_only=True)
class Search:
    """Beams, of which the `count` best are told; `make` gives the job of a choice from 1 on, where
    there are several."""

    beams: BeamSearch
    count: int
    make: Callable[[int], Job] | None

    def choices(self, first: Job) -> list[Job]:
        """A job for each text that is told, all of them read as the first was, and none written."""
        first.sequence.output_ids = []
        if self.make is None:
            return [first]
        family = Family(first, count=1, make=self.make)
        family.has_begun = True
        for number in range(1, self.count):
            family.join(self.make(number))
        for sequence in family.live:
            sequence.started_s = first.sequence.started_s
            sequence.first_token_s = first.sequence.first_token_s
            sequence.cached_tokens = first.sequence.cached_tokens
        return list(family.live.values())


class Family:
    """The choices of one request: jobs that continue one prompt, which the first of them reads.

    They begin in turn, as rows are free. Implements `sequence.Siblings`.
    """

    def __init__(self, first: Job, *, count: int, make: Callable[[int], Job]) -> None:
        """`make` gives the job of a choice from 1 to `count` - 1."""
        self.first = first
        self.live: dict[Sequence, Job] = {}
        """Those that were begun and have not ended."""
        self.logits: Floats | None = None
        """What the model says after the prompt [V], before anything is drawn from it; None until
        that is read."""
        self.has_begun = False
        """Whether a choice that fails fails alone: the prompt could be read."""
        self.enlist: Callable[[Job], None] = lambda job: None
        """Told of those that begin."""
        self._make = make
        self._left = list(range(count - 1, 0, -1))
        self._ends: dict[int, ChoiceFinished | ChoiceFailed] = {}
        self._written = 0
        self._last_s: float | None = None
        self.join(first)

    def next(self) -> Sequence | None:
        """The sequence of the next choice, which begins to wait for a row."""
        if not self._left:
            return None
        job = self._make(self._left.pop())
        self.join(job)
        self.enlist(job)
        return job.sequence

    def close(self) -> None:
        """No further choice begins."""
        self._left.clear()

    def let_go(self) -> None:
        """The request has ended: its jobs hold it no more, which holds them, and the engine."""
        for job in (self.first, *self.live.values()):
            job.family = job.sequence.siblings = None

    def leave(self, job: Job, end: ChoiceFinished | ChoiceFailed) -> bool:
        """A choice has ended; whether that was the last."""
        self._ends[job.choice] = end
        self._leave(job)
        return not self.live and not self._left

    def failure(self) -> ChoiceFailed | None:
        """What the first choice failed with, where none ended well."""
        ends = [self._ends[choice] for choice in sorted(self._ends)]
        if any(isinstance(end, ChoiceFinished) for end in ends):
            return None
        return next((end for end in ends if isinstance(end, ChoiceFailed)), None)

    def finished(self, now_s: float, reason: FinishReason | None = None) -> Finished:
        """The end of all: the prompt counts once. Where there is no `reason`, the first of theirs
        that ended well has it."""
        for job in list(self.live.values()):
            self._leave(job)
        ends = [self._ends[choice] for choice in sorted(self._ends)]
        reasons = [end.reason for end in ends if isinstance(end, ChoiceFinished)]
        sequence = self.first.sequence
        timings = sequence.timings(now_s)
        if self._last_s is not None and sequence.first_token_s is not None:
            timings = replace(timings, decode_s=self._last_s - sequence.first_token_s)
        return Finished(
            request_id=self.first.request_id,
            reason=reason or reasons[0],
            usage=replace(sequence.usage(), completion_tokens=self._written),
            timings=timings,
            clipped_max_tokens=self.first.clipped_max_tokens,
        )

    def join(self, job: Job) -> None:
        """A choice begins."""
        job.family = job.sequence.siblings = self
        self.live[job.sequence] = job

    def _leave(self, job: Job) -> None:
        del self.live[job.sequence]
        self._written += len(job.sequence.output_ids)
        last_s = job.sequence.last_token_s
        if last_s is not None:
            self._last_s = last_s if self._last_s is None else max(self._last_s, last_s)
