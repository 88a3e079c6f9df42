"""Runs an encoder's and a decoder's graphs as the daemon does, an input at a time."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Many
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nsedge.bundle.conditioning import ConditionedVariant, ConditioningVariant
from nsedge.runtime.decode.plan import Chunk, StepPlan
from nsedge.runtime.decode.sequence import Limits, Sequence
from nsedge.runtime.graph.conditioning import Memory
from nsedge.runtime.graph.executor import Source
from nsedge.runtime.graph.executors import open_executor
from nsedge.runtime.graph.memory_writer import MemoryWriter
from nsedge.runtime.machine.cores import usable_cores

ROWS = 4
Floats = NDArray[np.float32]
Rule = Callable[[Floats, Many[int]], None]
"""Sets what may not come next to -inf, in logits [V], after the tokens written so far."""


def anything(logits: Floats, written: Many[int]) -> None:
    """No rule."""


class ConditionedRunner:
    """Rows of a memory and of a cache, of which the same ones go together."""

    def __init__(
        self,
        folder: Path,
        encoder: ConditioningVariant,
        decoder: ConditionedVariant,
        *,
        reads: str,
        vocabulary: int,
        positions: int,
    ) -> None:
        """Open the graphs below `folder`; the encoder calls its input `reads`.

        Raises:
            BundleInvalid: one does not load.
        """
        threads = usable_cores()
        memory = Memory(decoder.memory, rows=ROWS)
        graph = folder / encoder.graph
        self._writer = MemoryWriter(graph, encoder, memory, reads=reads, threads=threads)
        self.executor = open_executor(
            Source(
                graph=folder / decoder.graph,
                variant=decoder,
                vocab_size=vocabulary,
                slots=ROWS,
                capacity=positions,
                threads=threads,
                memory=memory,
            )
        )

    def encode(self, given: Floats, row: int = 0) -> Floats:
        """Encode an input to a row of the memory; the encoder's output [1, F, D]."""
        return self._writer.run(given, row).copy()

    def logits(self, ids: Many[int], start: int = 0, row: int = 0) -> Floats:
        """Logits [len(ids) - start, V] after each token from `start`, read at once."""
        sequence = _sequence(ids, row)
        sequence.marked = start
        chunk = Chunk(sequence=sequence, row=row, start=0, end=len(ids))
        found = self.executor.run(StepPlan(copies=(), prefill=(chunk,), decode=()))
        return np.stack([found.row(place) for place in range(len(found))])

    def steps(self, rows: Many[Many[int]], prompts: Many[int]) -> list[Floats]:
        """For each of the rows, logits [tokens after its prompt + 1, V]: prompts of unequal lengths
        are read one by one, and what follows all rows together, a token a step; rows are about the
        memory's row of the same number."""
        sequences = [_sequence(ids[:length], row) for row, (ids, length) in _told(rows, prompts)]
        logits = [
            [self.logits(one.prompt_ids, len(one.prompt_ids) - 1, row)[0]]
            for row, one in enumerate(sequences)
        ]
        for sequence, (_, (ids, length)) in zip(sequences, _told(rows, prompts), strict=True):
            sequence.output_ids, sequence.kv_length = list(ids[length:]), length
        for step in range(max(len(one.output_ids) for one in sequences)):
            going = tuple(one for one in sequences if len(one.output_ids) > step)
            found = self.executor.run(StepPlan(copies=(), prefill=(), decode=going))
            for place, sequence in enumerate(going):
                logits[sequence.held_row].append(found.row(place).copy())
                sequence.kv_length += 1
        return [np.stack(one) for one in logits]

    def greedy(
        self, prompt: Many[int], *, ends: Many[int], most: int, rule: Rule = anything
    ) -> tuple[int, ...]:
        """The likeliest token again and again, as the rule leaves them, up to one of `ends` or
        `most` tokens."""
        sequence, written = _sequence(prompt, 0), list[int]()
        logits = self.logits(prompt, len(prompt) - 1)[0]
        sequence.kv_length = len(prompt)
        while True:
            rule(logits, written)
            written.append(int(logits.argmax()))
            if written[-1] in ends or len(written) >= most:
                return tuple(written)
            sequence.output_ids.append(written[-1])
            found = self.executor.run(StepPlan(copies=(), prefill=(), decode=(sequence,)))
            logits = found.row(0).copy()
            sequence.kv_length += 1


def _told(rows: Many[Many[int]], prompts: Many[int]) -> list[tuple[int, tuple[Many[int], int]]]:
    return list(enumerate(zip(rows, prompts, strict=True)))


def _sequence(ids: Many[int], row: int) -> Sequence:
    return Sequence(
        prompt_ids=tuple(ids),
        limits=Limits(max_tokens=1),
        submitted_s=0.0,
        row=row,
        memory=row,
    )
