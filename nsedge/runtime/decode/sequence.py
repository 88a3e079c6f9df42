"""The running state of one request, and the table of its legal moves."""

from __future__ import annotations

import enum
from collections.abc import Callable
from collections.abc import Sequence as Many
from dataclasses import dataclass, field
from typing import Protocol

from nsedge.api import FinishReason, Priority, Timings, Usage
from nsedge.runtime.decode.conditioning import Key, PromptMedia
from nsedge.runtime.decode.speculation import PromptLookup


class State(enum.Enum):
    """Where a sequence stands."""

    WAITING = "waiting"
    PREFILL = "prefill"
    RUNNING = "running"
    ENDED = "ended"


LEGAL_MOVES: dict[State, frozenset[State]] = {
    State.WAITING: frozenset({State.PREFILL, State.ENDED}),
    State.PREFILL: frozenset({State.RUNNING, State.WAITING, State.ENDED}),
    State.RUNNING: frozenset({State.WAITING, State.ENDED}),
    State.ENDED: frozenset(),
}


class Siblings(Protocol):
    """Sequences that continue one prompt, which is read by the first of them."""

    def next(self) -> Sequence | None:
        """The next of them to wait for a row; None where none is left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When a sequence ends by its tokens."""

    max_tokens: int
    min_tokens: int = 0
    end_ids: frozenset[int] = frozenset()
    """Tokens that end it; empty where they are to be ignored."""


@dataclass(eq=False, slots=True, kw_only=True)
class Sequence:
    """A prompt being continued. Times are seconds of the engine's clock."""

    prompt_ids: tuple[int, ...]
    limits: Limits
    submitted_s: float
    priority: Priority = Priority.NORMAL
    adapter: str | None = None
    """Tells the adapter that its tokens go through from all others; None is the plain base."""
    memory: int | None = None
    """The row of the encoder's memory that it is about, where the model has one."""
    media: PromptMedia | None = None
    """What its prompt has in the place of tokens."""
    deadline_s: float | None = None
    """When it must have ended."""
    state: State = State.WAITING
    row: int | None = None
    """The slot it holds."""
    kv_length: int = 0
    """Tokens in the KV cache. Of a running sequence, all but the newest; fewer where it was
    interrupted and decodes its output again."""
    cached_tokens: int = 0
    """Prompt tokens that were in the KV cache when it started."""
    prompt_told: int | None = None
    """Where the log-probabilities of the prompt are wanted: its tokens after which the logits have
    been looked at."""
    marked: int | None = None
    """A place in the prompt after which the logits are wanted."""
    output_ids: list[int] = field(default_factory=list)
    started_s: float | None = None
    first_token_s: float | None = None
    last_token_s: float | None = None
    siblings: Siblings | None = None
    """What else continues its prompt."""
    calls_next: bool = True
    """Whether the next of them waits for it to hold the prompt."""
    queued_s: float | None = None
    """Since when it waits for a row, where that is not since it was submitted."""
    fitting: Callable[[Many[int]], Many[int]] | None = None
    """Of tokens that are guessed to come next, gives as many as may, one after the other."""
    leaps: bool = False
    """Whether its newest tokens had to come, so that they can be read like a piece of a prompt."""
    lookup: PromptLookup | None = None
    """Guesses how it goes on, where several tokens may be decoded in a step."""
    beams: tuple[Sequence, ...] = ()
    """Of one beam search, all its sequences: they hold rows together, and are of one length. The
    first of them waits for all, and reads the prompt. None once they have ended, so that they do
    not keep each other."""

    def move(self, state: State) -> None:
        """Go to `state`.

        Raises:
            RuntimeError: where that is not a legal move; nothing is changed.
        """
        if state not in LEGAL_MOVES[self.state]:
            raise RuntimeError(f"a sequence cannot go from {self.state.value} to {state.value}")
        self.state = state

    @property
    def together(self) -> tuple[Sequence, ...]:
        """All that hold rows as long as it does, itself among them."""
        return self.beams or (self,)

    @property
    def leads(self) -> bool:
        """Whether it is the first of those."""
        return self.together[0] is self

    @property
    def prompt_keys(self) -> tuple[Key, ...]:
        """What tells the tokens of its prompt from others."""
        return self.prompt_ids if self.media is None else self.media.keys

    @property
    def kv_keys(self) -> tuple[Key, ...]:
        """The same of the tokens in the KV cache."""
        return (*self.prompt_keys, *self.output_ids)[: self.kv_length]

    @property
    def length(self) -> int:
        """Tokens of the prompt, and of the output so far."""
        return len(self.prompt_ids) + len(self.output_ids)

    @property
    def input_id(self) -> int:
        """The output token to decode next: the newest, or one that is decoded again."""
        return self.output_ids[self.kv_length - len(self.prompt_ids)]

    def tell_prompt(self, end: int) -> None:
        """The logits after the prompt's tokens before `end` have been looked at."""
        if self.prompt_told is not None:
            self.prompt_told = max(self.prompt_told, end)

    @property
    def reusable_keys(self) -> tuple[Key, ...]:
        """The prompt, as far as it need not be read where its keys and values are there."""
        return self.prompt_keys[: self.prompt_told]

    @property
    def ahead_ids(self) -> tuple[int, ...]:
        """The output tokens after `input_id`, which had to come, or are decoded again."""
        return tuple(self.output_ids[self.kv_length + 1 - len(self.prompt_ids) :])

    def set_back(self) -> None:
        """Wait for a slot again, to go on after the newest token."""
        self.move(State.WAITING)
        self.row, self.kv_length, self.leaps = None, 0, False

    @property
    def held_row(self) -> int:
        """The slot it holds.

        Raises:
            RuntimeError: where it holds none.
        """
        if self.row is None:
            raise RuntimeError(f"a sequence that is {self.state.value} holds no row")
        return self.row

    def accept(self, token_id: int, now_s: float) -> None:
        """Append a sampled token."""
        self.output_ids.append(token_id)
        if self.lookup is not None:
            self.lookup.accept(token_id)
        if self.first_token_s is None:
            self.first_token_s = now_s
        self.last_token_s = now_s

    def ending(self, text_ends: bool) -> FinishReason | None:
        """Why the newest token ends the sequence, None where it goes on.

        text_ends: nothing may follow the newest token's text.
        """
        if text_ends or self.ends_with(self.output_ids[-1]):
            return FinishReason.STOP
        if len(self.output_ids) >= self.limits.max_tokens:
            return FinishReason.LENGTH
        return None

    def ends_with(self, token_id: int) -> bool:
        """Whether `token_id` is an end of sequence here."""
        return token_id in self.limits.end_ids

    @property
    def must_go_on(self) -> bool:
        """Whether the next token may not end the sequence, being one of the first min_tokens."""
        return len(self.output_ids) + 1 < self.limits.min_tokens

    def usage(self) -> Usage:
        """Tokens read and written so far."""
        return Usage(
            prompt_tokens=len(self.prompt_ids),
            completion_tokens=len(self.output_ids),
            cached_tokens=self.cached_tokens,
            audio_s=0.0 if self.media is None else self.media.audio_s,
            images=0 if self.media is None else self.media.images,
            media_tokens=0 if self.media is None else self.media.tokens,
        )

    def timings(self, now_s: float) -> Timings:
        """Where the time went until `now_s`."""
        started = now_s if self.started_s is None else self.started_s
        first = now_s if self.first_token_s is None else self.first_token_s
        last = first if self.last_token_s is None else self.last_token_s
        return Timings(
            queue_s=started - self.submitted_s,
            prefill_s=first - started,
            decode_s=last - first,
        )
