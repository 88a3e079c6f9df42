"""Policy: who prefills, who decodes, who gives way, who ends. No tensors, no clock, no threads.

`plan` says what one step of the engine does; `commit` takes the tokens that came of it. Every
sequence that was submitted leaves through one `Outcome` with a reason, `cancel`, `expire`, `fail`
or `abandon`. docs/decisions/scheduling.md says why the policy is as it is.
"""

from __future__ import annotations

from collections.abc import Sequence as Many
from dataclasses import replace

from nsedge.errors import QueueFull
from nsedge.runtime.decode.pace import FLOOR_TOKENS, LEAST_TOKENS, MIXED_FLOOR_TOKENS, Pace
from nsedge.runtime.decode.placement import Placement
from nsedge.runtime.decode.plan import (
    Chunk,
    KvCopy,
    KvSwap,
    Outcome,
    StepPlan,
    Token,
    leap_of,
    leaps,
)
from nsedge.runtime.decode.policy import Policy
from nsedge.runtime.decode.preemption import victims_of
from nsedge.runtime.decode.sequence import Sequence, State
from nsedge.runtime.decode.slots import Slots
from nsedge.runtime.decode.speculation import MOST_DRAFTED, CheckCost
from nsedge.runtime.decode.succession import Succession
from nsedge.runtime.decode.waiting import TimeHeap, place_s

RETRY_AFTER_S = 1.0
TOLD_TOKENS = 32
"""Of a prompt read at once, where the logits of all its tokens are wanted."""
BURST_GAP_S = 0.2
"""Between two tokens of a stream in a burst."""


class Scheduler:
    """Decode steps, and pieces of prompts with or between them, in order of `waiting.place_s`."""

    def __init__(self, *, slots: Slots, policy: Policy) -> None:
        self._policy = policy
        floor, size = MIXED_FLOOR_TOKENS if policy.mixed else FLOOR_TOKENS, policy.chunk_tokens
        self._pace = Pace(stretch=policy.stretch, chunk_tokens=size, floor_tokens=floor)
        self._placed = Placement(
            slots=slots, reuse=policy.prefix_reuse, block_tokens=policy.prefix_block_tokens
        )
        self._waiting = TimeHeap()
        self._deadlines = TimeHeap()
        self._succession = Succession(
            placed=self._placed, waiting=self._waiting, enqueue=self._enqueue
        )
        self._check_cost = CheckCost()
        self._decoded = False
        self._decoded_s = 0.0
        self._burst_began_s: float | None = None
        self.preemptions = 0

    @property
    def running(self) -> int:
        """Sequences that hold a slot."""
        return len(self._placed.running) + len(self._placed.filling)

    @property
    def waiting(self) -> int:
        """Sequences that wait for a slot."""
        return len(self._waiting)

    @property
    def kv_tokens(self) -> int:
        """Tokens in the KV cache that belong to live sequences."""
        return sum(sequence.kv_length for sequence in self._placed.holding())

    @property
    def prefix_query_tokens(self) -> int:
        """Prompt tokens that a known prefix was looked for of."""
        return self._placed.query_tokens

    @property
    def prefix_hit_tokens(self) -> int:
        """Those of them that need not be read."""
        return self._placed.hit_tokens

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not (self._placed.running or self._placed.filling or self._waiting)

    def submit(self, sequence: Sequence) -> None:
        """Queue a sequence, and its beams with it.

        Raises:
            QueueFull: where as many wait as may wait.
        """
        limit = self._policy.max_waiting
        if len(self._waiting) >= limit:
            for one in sequence.together:
                one.beams = ()
            raise QueueFull(f"{limit} requests wait already", retry_after_s=RETRY_AFTER_S)
        self._enqueue(sequence)

    def cancel(self, sequence: Sequence) -> None:
        """End a live sequence wherever it stands, and all beams with one.

        Raises:
            RuntimeError: where it has ended already.
        """
        self._end_all(sequence)

    def expire(self, now_s: float) -> list[Sequence]:
        """End the sequences whose deadline has come, wherever they stand."""
        expired = []
        while (first := self._deadlines.first()) is not None and first[0] <= now_s:
            self._end_all(first[1])
            expired.append(first[1])
        return expired

    def plan(self, now_s: float) -> StepPlan | None:
        """What to do next, None where there is nothing: decode, read of prompts, or both.

        Where a run cannot do both, they take turns, so that nobody waits for the other's tokens; in
        a burst of prompts several pieces are read in a turn.
        """
        if self._policy.mixed:
            return self._plan_mixed(now_s)
        if not self._placed.running or self._reads_next(now_s):
            started: list[Sequence] = []
            chunks = self._read(now_s, started)
            if chunks:
                self._decoded = False
                return StepPlan(self._placed.take_copies(), chunks, (), tuple(started))
            self._burst_began_s = None
        if not self._placed.running:
            return None
        self._decoded, self._decoded_s = True, now_s
        return StepPlan(
            self._placed.take_copies(), (), tuple(self._placed.running), draft=self._draft()
        )

    def _plan_mixed(self, now_s: float) -> StepPlan | None:
        started: list[Sequence] = []
        chunks = self._read_mixed(now_s, started)
        if not self._placed.running and not chunks:
            return None
        if not self._placed.filling and not self._waiting:
            self._burst_began_s = None
        leaping = [sequence for sequence in self._placed.running if leaps(sequence)]
        plan = StepPlan(
            self._placed.take_copies(),
            (*chunks, *map(leap_of, leaping)),
            tuple(one for one in self._placed.running if one not in leaping),
            tuple(started),
        )
        return plan if plan.prefill else replace(plan, draft=self._draft())

    def commit(self, plan: StepPlan, tokens: Many[Token], now_s: float) -> list[Outcome]:
        """Take the tokens of `plan.sampled`, in that order; one outcome each."""
        sampled = plan.sampled
        for sequence in plan.decode:
            sequence.kv_length += 1
        for chunk in plan.prefill:
            chunk.sequence.kv_length = chunk.end
            chunk.sequence.tell_prompt(chunk.end)
            self._placed.note(chunk.sequence)
        for chunk in plan.prefill:
            if chunk.is_prompt and chunk.is_last:
                if not self._placed.running:
                    self._burst_began_s = self._decoded_s = now_s
                self._placed.promote(chunk.sequence)
                for beam in chunk.sequence.beams[1:]:
                    self._placed.join(beam, chunk.sequence)
                self._succession.call_next(chunk.sequence, now_s)
        return self.accept(sampled, tokens, now_s)

    def fork(self, now_s: float) -> list[Sequence]:
        """Give rows to those that come first and continue a prompt that another row holds. Of those
        that are new `accept` takes the first token: the logits after the prompt say it."""
        return self._succession.fork(now_s)

    def take_copies(self) -> tuple[KvCopy | KvSwap, ...]:
        """What is to be copied before anything else is done to rows, in order."""
        return self._placed.take_copies()

    def accept(self, sequences: Many[Sequence], tokens: Many[Token], now_s: float) -> list[Outcome]:
        """Take a token for each of the sequences; one outcome each."""
        outcomes = []
        for sequence, token in zip(sequences, tokens, strict=True):
            sequence.accept(token.id, now_s)
            outcomes.append(Outcome(sequence, sequence.ending(token.ends)))
        # Released only now, when every KV length is true, and from the last row on: fewer copies.
        for outcome in reversed(outcomes):
            if outcome.reason is not None:
                succeeded = self._succession.succeed(outcome.sequence, now_s)
                self._end(outcome.sequence, succeeded=succeeded)
        return outcomes

    def leap(self, sequences: Many[Sequence], tokens: Many[Token], now_s: float) -> list[Outcome]:
        """As `accept`, of running sequences whose newest tokens had to be followed by these."""
        for sequence in sequences:
            sequence.leaps = True
        return self.accept(sequences, tokens, now_s)

    def go_on(
        self, beams: Many[Sequence], parents: Many[int], tokens: Many[int], now_s: float
    ) -> None:
        """Have each beam go on from what its parent holds, the number of a beam, with a token."""
        self._placed.reorder(beams, parents)
        for beam, token in zip(beams, tokens, strict=True):
            beam.accept(token, now_s)

    def measured(self, plan: StepPlan, seconds: float) -> None:
        """A step took so long, from its plan to its commit."""
        rows, read = len(plan.decode), plan.prompt_tokens
        if any(not chunk.is_prompt for chunk in plan.prefill):
            return
        told = [chunk.sequence.prompt_told is not None for chunk in plan.prefill]
        if any(told):
            if all(told):
                self._pace.told(read, seconds, rows=rows)
            return
        if plan.draft:
            self._check_cost.checked(len(plan.draft), seconds)
        elif read:
            self._pace.read(read, seconds, rows=rows)
        else:
            self._pace.decoded(seconds, rows=rows)
            if rows == 1:
                self._check_cost.decoded(seconds)

    def fail(self, sequence: Sequence) -> None:
        """End a live sequence, and all beams with one; nothing is found of what its row holds.

        Raises:
            RuntimeError: where it has ended already.
        """
        self._end_all(sequence, keep=False)
        self._succession.call_next(sequence, place_s(sequence))

    def abandon(self) -> None:
        """End every sequence that holds a slot, after a step that failed: no KV can be trusted."""
        for sequence in self._placed.holding():
            self._end(sequence, keep=False)
        self._succession.forget()
        self._placed.forget()

    def check(self) -> None:
        """Raise RuntimeError where slots and sequences do not agree."""
        self._placed.check()

    def _enqueue(self, sequence: Sequence) -> None:
        self._waiting.push(place_s(sequence), sequence)
        if sequence.deadline_s is not None:
            self._deadlines.push(sequence.deadline_s, sequence)

    def _reads_next(self, now_s: float) -> bool:
        """Whether it is the turn of prompts."""
        if self._bursting(now_s):
            return now_s - self._decoded_s < BURST_GAP_S
        return self._decoded

    def _bursting(self, now_s: float) -> bool:
        """Whether there were prompts to read ever since the first row began to run."""
        began_s = self._burst_began_s
        return began_s is not None and now_s - began_s < self._policy.burst_s

    def _draft(self) -> tuple[int, ...]:
        """Guesses for the only row there is: beside other rows or prompts, checks do not pay."""
        if (
            not self._policy.drafts
            or len(self._placed.running) != 1
            or self._placed.filling
            or self._waiting
        ):
            return ()
        sequence = self._placed.running[0]
        if leaps(sequence):
            return sequence.ahead_ids[:MOST_DRAFTED]
        if sequence.lookup is None or sequence.kv_length + 1 < sequence.length:
            return ()
        # One token more than the guesses may come of a check.
        room = sequence.limits.max_tokens - len(sequence.output_ids) - 1
        guessed = sequence.lookup.draft(room=room, cost=self._check_cost.share)
        return guessed if sequence.fitting is None else tuple(sequence.fitting(guessed))

    # Reading prompts.

    def _read(self, now_s: float, started: list[Sequence]) -> tuple[Chunk, ...]:
        """The next pieces of prompts; adds to `started` those that are begun."""
        if not self._placed.running or self._bursting(now_s):
            sequence = self._next(now_s, started, ())
            if sequence is None:
                return ()
            # Borders of chunks are the same wherever a prefix was reused.
            size = self._policy.chunk_tokens
            return (self._chunk(sequence, (sequence.kv_length // size + 1) * size),)
        return self._divide(self._budget(), LEAST_TOKENS, now_s, started)

    def _read_mixed(self, now_s: float, started: list[Sequence]) -> tuple[Chunk, ...]:
        """The next pieces of prompts to read along with the rows."""
        if not self._placed.running or self._bursting(now_s):
            return self._divide(self._policy.chunk_tokens, 1, now_s, started)
        if self._pace.wants_quiet(len(self._placed.running)):
            return ()
        return self._divide(self._budget(), 1, now_s, started)

    def _budget(self) -> int:
        prompts = len(self._placed.reading) + min(len(self._waiting), self._placed.free)
        return self._pace.budget(prompts=prompts, rows=len(self._placed.running))

    def _divide(
        self, budget: int, least: int, now_s: float, started: list[Sequence]
    ) -> tuple[Chunk, ...]:
        """Pieces of prompts, of `budget` tokens in all; none but the first of under `least`."""
        chunks: list[Chunk] = []
        while budget >= (least if chunks else 1):
            chosen = tuple(chunk.sequence for chunk in chunks)
            sequence = self._next(now_s, started, chosen)
            if sequence is None:
                break
            chunk = self._chunk(sequence, sequence.kv_length + budget)
            budget -= chunk.end - chunk.start
            chunks.append(chunk)
        return tuple(chunks)

    def _chunk(self, sequence: Sequence, end: int) -> Chunk:
        length = len(sequence.prompt_ids)
        if sequence.prompt_told is not None:
            size = self._pace.told_tokens(end - sequence.kv_length)
            end = sequence.kv_length + min(size, TOLD_TOKENS)
        if sequence.media is not None:
            end = sequence.media.border(end)
        if end >= length - 1:
            # A token by itself would go the way of decoding, whose rounding is not that of reading.
            end = length
        return Chunk(sequence, sequence.held_row, sequence.kv_length, end)

    def _next(
        self, now_s: float, started: list[Sequence], chosen: tuple[Sequence, ...]
    ) -> Sequence | None:
        """The sequence to read next, none of `chosen`; it is given a row where it had none."""
        first = self._waiting.first()
        if first is not None and self._placed.holder(first[1]) is not None:
            if not self._placed.free:
                self._preempt_for(first[1], chosen)
            first = None  # it need not be read: `fork` follows
        reading = [sequence for sequence in self._placed.reading if sequence not in chosen]
        best = min(reading, key=place_s, default=None)
        if first is None or (best is not None and place_s(best) <= first[0]):
            return best
        lacking = self._placed.free < len(first[1].together)
        if lacking and not self._preempt_for(first[1], chosen):
            return best
        return self._admit(now_s, started)

    def _admit(self, now_s: float, started: list[Sequence]) -> Sequence:
        """Give the first that waits a row, and each of its beams."""
        sequence = self._waiting.pop()
        self._placed.admit(sequence)
        for beam in sequence.beams[1:]:
            self._placed.reserve(beam)
        if sequence.started_s is None:
            sequence.started_s, sequence.cached_tokens = now_s, sequence.kv_length
            started.append(sequence)
        return sequence

    def _preempt_for(self, sequence: Sequence, chosen: tuple[Sequence, ...]) -> bool:
        """Whether batch sequences gave as many rows as it lacks to one that goes before them."""
        placed = self._placed
        victims = victims_of(sequence, placed.holding(), free=placed.free, kept=chosen)
        for victim in victims:
            for one in victim.together:
                placed.release(one)
                one.set_back()
            self._waiting.push(place_s(victim), victim)
            self.preemptions += 1
        return bool(victims)

    def _end_all(self, sequence: Sequence, *, keep: bool = True) -> None:
        # From the last row on: fewer copies.
        for one in reversed(sequence.together):
            self._end(one, keep=keep)

    def _end(self, sequence: Sequence, *, keep: bool = True, succeeded: bool = False) -> None:
        if sequence.state is State.WAITING:
            self._waiting.discard(sequence)
        elif not succeeded:
            self._placed.release(sequence, keep=keep)
        self._deadlines.discard(sequence)
        sequence.move(State.ENDED)
        sequence.beams = ()
