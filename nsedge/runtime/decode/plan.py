"""What scheduler, engine and executor tell each other: a step's plan, and what came of it."""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass, replace

from nsedge.api import FinishReason
from nsedge.runtime.decode.sequence import Sequence
from nsedge.runtime.decode.speculation import MOST_LEAPT


@dataclass(frozen=True, slots=True)
class KvCopy:
    """Copy the KV of a row's first `tokens` tokens to another row, which has the first `shared` of
    them already."""

    source: int
    target: int
    tokens: int
    shared: int = 0


@dataclass(frozen=True, slots=True)
class KvSwap:
    """Exchange the KV of two rows' first `tokens` tokens."""

    first: int
    second: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """Tokens `start`..`end` of `sequence`, to be written to `row`: of its prompt, or of its output
    those that had to come."""

    sequence: Sequence
    row: int
    start: int
    end: int

    @property
    def ids(self) -> tuple[int, ...]:
        """The tokens to read."""
        if self.is_prompt:
            return self.sequence.prompt_ids[self.start : self.end]
        read = len(self.sequence.prompt_ids)
        return tuple(self.sequence.output_ids[self.start - read : self.end - read])

    @property
    def is_prompt(self) -> bool:
        """Whether it is a piece of the prompt."""
        return self.start < len(self.sequence.prompt_ids)

    @property
    def is_last(self) -> bool:
        """Whether all of the prompt is read after it, or of the output."""
        return self.end == (
            len(self.sequence.prompt_ids) if self.is_prompt else self.sequence.length
        )

    @property
    def kept(self) -> range:
        """The places in the prompt after which there are logits, up to the piece's end: the last of
        the prompt; where its log-probabilities are wanted, all of which they are not known; and
        from the marked one on."""
        first, wanted = self.end - self.is_last, []
        if self.sequence.prompt_told is not None:
            wanted.append(max(self.start, self.sequence.prompt_told))
        if self.marks:
            wanted.append(self.sequence.marked or 0)
        return range(min(first, *wanted) if wanted else first, self.end)

    @property
    def marks(self) -> bool:
        """Whether the marked place of the prompt is in it."""
        marked = self.sequence.marked
        return marked is not None and self.start <= marked < self.end


def leaps(sequence: Sequence) -> bool:
    """Whether several tokens of a running sequence are to be read that had to come."""
    return sequence.leaps and sequence.kv_length + 1 < sequence.length


def leap_of(sequence: Sequence) -> Chunk:
    """The next of them."""
    start = sequence.kv_length
    return Chunk(sequence, sequence.held_row, start, min(start + MOST_LEAPT, sequence.length))


@dataclass(frozen=True, slots=True)
class StepPlan:
    """One step: decode a token for every row, and read the chunks, once the copies are made.

    Rows of chunks are apart from the decoding ones.
    """

    copies: tuple[KvCopy | KvSwap, ...]
    prefill: tuple[Chunk, ...]
    decode: tuple[Sequence, ...]
    """Where rows have to be contiguous, in the order of their rows, which are 0 to n-1 unless the
    step is a part of another."""
    started: tuple[Sequence, ...] = ()
    """The sequences whose prompts begin to be read in this step."""
    draft: tuple[int, ...] = ()
    """Guesses of what follows the newest token of the only decoding row, all checked in this step:
    there are logits after the newest token, and after each guess."""

    @property
    def prompt_tokens(self) -> int:
        """Tokens of prompts that it reads."""
        return sum(chunk.end - chunk.start for chunk in self.prefill if chunk.is_prompt)

    @property
    def sequences(self) -> tuple[Sequence, ...]:
        """All that the step is for."""
        return (*self.decode, *(chunk.sequence for chunk in self.prefill))

    def without(self, sequences: Container[Sequence]) -> StepPlan:
        """The same for all others."""
        return replace(
            self,
            prefill=tuple(chunk for chunk in self.prefill if chunk.sequence not in sequences),
            decode=tuple(one for one in self.decode if one not in sequences),
            started=tuple(one for one in self.started if one not in sequences),
        )

    @property
    def logit_rows(self) -> int:
        """How many rows of logits there are, without those of a draft: one for each decoding row,
        then those that each chunk keeps."""
        return len(self.decode) + sum(len(chunk.kept) for chunk in self.prefill)

    @property
    def kept(self) -> tuple[tuple[Chunk, int], ...]:
        """The chunks that keep logits, and the first of their rows. True until the step is
        committed, as is all that follows."""
        found, row = [], len(self.decode)
        for chunk in self.prefill:
            if chunk.kept:
                found.append((chunk, row))
                row += len(chunk.kept)
        return tuple(found)

    @property
    def sampled_rows(self) -> tuple[int, ...]:
        """The rows of logits that a token is chosen from. Others belong to sequences that were
        interrupted, and whose next token is known, tell of a prompt, or are searched."""
        return tuple(row for row, sequence in self._continued() if not sequence.beams)

    @property
    def sampled(self) -> tuple[Sequence, ...]:
        """The sequences that get a token, in the order of `sampled_rows`."""
        return tuple(sequence for _, sequence in self._continued() if not sequence.beams)

    @property
    def searched(self) -> tuple[tuple[int, Sequence], ...]:
        """The rows of logits that beams go on by, and whose they are."""
        return tuple((row, sequence) for row, sequence in self._continued() if sequence.beams)

    def _continued(self) -> Iterator[tuple[int, Sequence]]:
        for row, sequence in enumerate(self.decode):
            if sequence.kv_length + 1 == sequence.length:
                yield row, sequence
        for chunk, first in self.kept:
            if chunk.is_last and chunk.end == chunk.sequence.length:
                yield first + len(chunk.kept) - 1, chunk.sequence


@dataclass(frozen=True, slots=True)
class Token:
    """A sampled token. ends: its text ends the sequence, by a stop string for one."""

    id: int
    ends: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a step meant for a sequence: `reason` where it ended."""

    sequence: Sequence
    reason: FinishReason | None
