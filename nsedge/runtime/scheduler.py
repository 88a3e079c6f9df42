"""Policy: who prefills, who decodes, who ends. No tensors, no clock, no threads.

`plan` says what one step of the engine does; `commit` takes the tokens that came of it. Every
sequence that was submitted leaves through one `Outcome` with a reason, `cancel` or `abandon`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence as Many
from dataclasses import dataclass

from nsedge.api import FinishReason
from nsedge.errors import QueueFull
from nsedge.runtime.sequence import Sequence, State
from nsedge.runtime.slots import Move, Slots

RETRY_AFTER_S = 1.0


@dataclass(frozen=True, slots=True)
class KvCopy:
    """Copy the KV of a row's first `tokens` tokens to another row."""

    source: int
    target: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """Prompt tokens `start`..`end` of `sequence`, to be written to `row`."""

    sequence: Sequence
    row: int
    start: int
    end: int

    @property
    def ids(self) -> tuple[int, ...]:
        """The tokens to read."""
        return self.sequence.prompt_ids[self.start : self.end]

    @property
    def is_last(self) -> bool:
        """Whether the prompt is read after it, so that its logits choose the next token."""
        return self.end == len(self.sequence.prompt_ids)


@dataclass(frozen=True, slots=True)
class StepPlan:
    """One step: make the copies in order, decode a token for every row, read the chunks in order.

    Rows of chunks are apart from the decoding ones. A prompt may have several chunks in a step.
    """

    copies: tuple[KvCopy, ...]
    prefill: tuple[Chunk, ...]
    decode: tuple[Sequence, ...]
    """The sequence of row i at index i."""
    started: tuple[Sequence, ...] = ()
    """The sequences whose prompts begin to be read in this step."""

    @property
    def sampled(self) -> tuple[Sequence, ...]:
        """The sequences that get a token: the decoding rows, then those of the last chunks."""
        return (*self.decode, *(chunk.sequence for chunk in self.prefill if chunk.is_last))


@dataclass(frozen=True, slots=True)
class Token:
    """A sampled token, and the stop string that it completed."""

    id: int
    stop: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a step meant for a sequence: `reason` where it ended."""

    sequence: Sequence
    reason: FinishReason | None


class Scheduler:
    """First come, first served; one prompt is read at a time, a chunk between two decode steps."""

    def __init__(self, *, slots: Slots, max_waiting: int, chunk_tokens: int) -> None:
        self._slots = slots
        self._max_waiting = max_waiting
        self._chunk_tokens = chunk_tokens
        self._waiting: OrderedDict[Sequence, None] = OrderedDict()
        self._filling: Sequence | None = None
        self._rows: list[Sequence] = []
        self._copies: list[KvCopy] = []

    @property
    def running(self) -> int:
        """Sequences that hold a slot."""
        return len(self._rows) + (self._filling is not None)

    @property
    def waiting(self) -> int:
        """Sequences that wait for a slot."""
        return len(self._waiting)

    @property
    def kv_tokens(self) -> int:
        """Tokens in the KV cache that belong to live sequences."""
        filling = 0 if self._filling is None else self._filling.kv_length
        return filling + sum(sequence.kv_length for sequence in self._rows)

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not self._rows and self._filling is None and not self._waiting

    def submit(self, sequence: Sequence) -> None:
        """Queue a sequence.

        Raises:
            QueueFull: where as many wait as may wait.
        """
        if len(self._waiting) >= self._max_waiting:
            raise QueueFull(
                f"{self._max_waiting} requests wait already", retry_after_s=RETRY_AFTER_S
            )
        self._waiting[sequence] = None

    def cancel(self, sequence: Sequence) -> None:
        """End a live sequence wherever it stands.

        Raises:
            RuntimeError: where it has ended already.
        """
        self._release(sequence)

    def plan(self, now_s: float) -> StepPlan | None:
        """What to do next, None where there is nothing."""
        started = self._admit(now_s)
        if self._filling is None and not self._rows:
            return None
        copies, self._copies = tuple(self._copies), []
        return StepPlan(copies, self._next_chunks(), tuple(self._rows), started)

    def commit(self, plan: StepPlan, tokens: Many[Token], now_s: float) -> list[Outcome]:
        """Take the tokens of `plan.sampled`, in that order; one outcome each."""
        for chunk in plan.prefill:
            self._advance(chunk)
        outcomes = []
        for sequence, token in zip(plan.sampled, tokens, strict=True):
            sequence.accept(token.id, now_s)
            outcomes.append(Outcome(sequence, sequence.ending(token.stop)))
        # Released only now, when every KV length is true, and from the last row on: fewer copies.
        for outcome in reversed(outcomes):
            if outcome.reason is not None:
                self._release(outcome.sequence)
        return outcomes

    def abandon(self) -> None:
        """End every sequence that holds a slot, after a step that failed."""
        for sequence in [*self._rows, *filter(None, [self._filling])]:
            self._release(sequence)
        self._copies.clear()

    def check(self) -> None:
        """Raise RuntimeError where slots and sequences do not agree."""
        self._slots.check()
        if self._slots.running != len(self._rows):
            raise RuntimeError(f"{len(self._rows)} rows for {self._slots.running} running slots")
        if (self._slots.filling is None) != (self._filling is None):
            raise RuntimeError("a filling slot without its sequence, or the reverse")
        states = {id(s): s.state for s in self._rows}
        if len(states) != len(self._rows) or set(states.values()) - {State.RUNNING}:
            raise RuntimeError("a row twice, or one that does not run")

    def _admit(self, now_s: float) -> tuple[Sequence, ...]:
        if not self._waiting or not self._slots.can_take:
            return ()
        sequence, _ = self._waiting.popitem(last=False)
        sequence.move(State.PREFILL)
        sequence.started_s = now_s
        self._slots.take()
        self._filling = sequence
        return (sequence,)

    def _next_chunks(self) -> tuple[Chunk, ...]:
        sequence, row = self._filling, self._slots.filling
        if sequence is None or row is None:
            return ()
        start = sequence.prefilled
        end = min(start + self._chunk_tokens, len(sequence.prompt_ids))
        return (Chunk(sequence, row, start, end),)

    def _advance(self, chunk: Chunk) -> None:
        """Note a chunk that was read, and let its sequence run where it was the last."""
        chunk.sequence.prefilled = chunk.end
        if chunk.is_last:
            self._filling = None
            self._note(self._slots.promote(), chunk.sequence)
            chunk.sequence.move(State.RUNNING)
            self._rows.append(chunk.sequence)

    def _release(self, sequence: Sequence) -> None:
        """Take what a live sequence holds, and end it."""
        if sequence is self._filling:
            self._filling = None
            self._slots.give_filling()
        elif sequence.state is State.RUNNING:
            row = self._rows.index(sequence)
            last = self._rows.pop()
            self._note(self._slots.give(row), last)
            if last is not sequence:
                self._rows[row] = last
        else:
            self._waiting.pop(sequence, None)
        sequence.move(State.ENDED)

    def _note(self, move: Move | None, moved: Sequence) -> None:
        if move is not None:
            self._copies.append(KvCopy(move.source, move.target, moved.kv_length))
