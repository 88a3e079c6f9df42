"""What scheduler, engine and executor tell each other: a step's plan, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass

from nsedge.api import FinishReason
from nsedge.runtime.sequence import Sequence


@dataclass(frozen=True, slots=True)
class KvCopy:
    """Copy the KV of a row's first `tokens` tokens to another row."""

    source: int
    target: int
    tokens: int


@dataclass(frozen=True, slots=True)
class KvSwap:
    """Exchange the KV of two rows' first `tokens` tokens."""

    first: int
    second: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """Tokens `start`..`end` of what `sequence` must have read, to be written to `row`."""

    sequence: Sequence
    row: int
    start: int
    end: int

    @property
    def ids(self) -> tuple[int, ...]:
        """The tokens to read."""
        return self.sequence.fill_ids[self.start : self.end]

    @property
    def is_last(self) -> bool:
        """Whether all is read after it, so that its logits choose the next token."""
        return self.end == len(self.sequence.fill_ids)


@dataclass(frozen=True, slots=True)
class StepPlan:
    """One step: make the copies in order, decode a token for every row, read the chunks in order.

    Rows of chunks are apart from the decoding ones.
    """

    copies: tuple[KvCopy | KvSwap, ...]
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
