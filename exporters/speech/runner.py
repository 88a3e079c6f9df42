"""Runs a speech model's graphs as the daemon does, a recording at a time."""

from __future__ import annotations

from collections.abc import Sequence as Many
from pathlib import Path

import numpy as np

from exporters.model.speech import SpeechShape
from exporters.quantise.schemes import REFERENCE_SCHEME
from exporters.speech.audio import Floats
from exporters.speech.records import forms
from nsedge.bundle.speech import ListenerVariant, SpeechVariant
from nsedge.runtime.decode.plan import Chunk, StepPlan
from nsedge.runtime.decode.sequence import Limits, Sequence
from nsedge.runtime.graph.conditioning import Memory
from nsedge.runtime.graph.executor import Source
from nsedge.runtime.graph.executors import open_executor
from nsedge.runtime.graph.listener import Listener
from nsedge.runtime.machine.cores import usable_cores
from nsedge.runtime.speech.rules import Rules

ROWS = 4


class SpeechRunner:
    """Rows of a memory and of a cache, of which the same ones go together."""

    def __init__(
        self,
        folder: Path,
        encoder: ListenerVariant,
        decoder: SpeechVariant,
        *,
        vocabulary: int,
        positions: int,
    ) -> None:
        """Open the graphs below `folder`.

        Raises:
            BundleInvalid: one does not load.
        """
        threads = usable_cores()
        memory = Memory(decoder.memory, rows=ROWS)
        self.listener = Listener(folder / encoder.graph, encoder, memory, threads=threads)
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

    def hear(self, features: Floats, row: int = 0) -> Floats:
        """Encode a window; the encoder's output [1, F, D]."""
        return self.listener.run(features, row).copy()

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

    def greedy(self, prompt: Many[int], rules: Rules, *, end: int, most: int) -> tuple[int, ...]:
        """The likeliest token again and again, as the rules leave them, up to `end` or `most`."""
        sequence, written = _sequence(prompt, 0), list[int]()
        logits = self.logits(prompt, len(prompt) - 1)[0]
        sequence.kv_length = len(prompt)
        while True:
            rules.apply(logits, written)
            written.append(int(logits.argmax()))
            if written[-1] == end or len(written) >= most:
                return tuple(written)
            sequence.output_ids.append(written[-1])
            found = self.executor.run(StepPlan(copies=(), prefill=(), decode=(sequence,)))
            logits = found.row(0).copy()
            sequence.kv_length += 1


def runner_of(
    folder: Path, shape: SpeechShape, *, scheme: str = REFERENCE_SCHEME, native: bool = False
) -> SpeechRunner:
    """Open a form of the graphs in a stage's directory.

    Raises:
        BundleInvalid: one does not load.
    """
    encoder, decoder = forms("form", scheme, shape, native=native, inside="")
    sizes = {"vocabulary": shape.vocabulary, "positions": shape.positions}
    return SpeechRunner(folder, encoder, decoder, **sizes)


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
