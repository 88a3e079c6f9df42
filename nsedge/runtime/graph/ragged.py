"""Steps of a graph whose runs are of segments: a step is one run, whosever its tokens are."""

from __future__ import annotations

from collections.abc import Sequence as Many
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nsedge.runtime.decode.conditioning import Placed
from nsedge.runtime.decode.plan import StepPlan
from nsedge.runtime.decode.sampling.logits import HostLogits
from nsedge.runtime.decode.sequence import Sequence
from nsedge.runtime.graph.adapted import Adapted, adapted_to
from nsedge.runtime.graph.adapters import Owned
from nsedge.runtime.graph.binding import Binding, place_cache
from nsedge.runtime.graph.conditioning import About
from nsedge.runtime.graph.executor import Executor, Source
from nsedge.runtime.graph.kv import KvMemory
from nsedge.runtime.graph.media import placed_in
from nsedge.runtime.graph.positions import one_row, positions_of


class RaggedExecutor(Executor):
    """Runs decoding rows and pieces of prompts together; the cache is bound once, whole."""

    def __init__(self, source: Source) -> None:
        """Open a session and reserve memory; raises what `Executor` does."""
        super().__init__(source)
        self._slots = source.slots
        self._binding = self._bind(self._session)

    def run(self, plan: StepPlan) -> HostLogits:
        """Run a step whose copies are made, as `Executor` says."""
        ids: list[int] = []
        segments: list[tuple[int, int, int]] = []
        kept: list[int] = []
        abouts: list[About] = []
        placed: list[Placed] = []
        for sequence in plan.decode:
            tokens = (sequence.input_id, *plan.draft)
            kept.extend(range(len(ids), len(ids) + len(tokens)))
            segments.append((sequence.held_row, sequence.kv_length, len(tokens)))
            ids.extend(tokens)
            abouts.append(About(sequence=sequence, tokens=len(tokens)))
        for chunk in plan.prefill:
            segments.append((chunk.row, chunk.start, chunk.end - chunk.start))
            kept.extend(len(ids) + place - chunk.start for place in chunk.kept)
            placed += placed_in(chunk, len(ids))
            ids.extend(chunk.ids)
            abouts.append(About(sequence=chunk.sequence, tokens=chunk.end - chunk.start))
        # ONNX Runtime's own products (w8a8's) refuse to work on no rows: some are always wanted.
        wanted = kept or [len(ids) - 1]
        logits = self._room(len(wanted))
        owned = [Owned(about.sequence.adapter, about.tokens) for about in abouts]
        binding = self._binding_for(owned)
        if self._reader is not None:
            binding.feed(str(self._reader.io.segments), self._reader.segments(abouts))
        self._feed(binding, ids, segments, wanted, of=[about.sequence for about in abouts])
        self._fetch(binding, logits[None])
        self._run(binding, placed)
        return HostLogits(logits[: len(kept)])

    def _unbind(self) -> None:
        self._binding = self._bind(self._session)

    def _try(self, adapted: Adapted, cache: KvMemory, logits: NDArray[np.float32]) -> None:
        owned = [Owned(adapted.stack.adapters[0].key, 1), Owned(None, 1)]
        binding = adapted.binding(owned, make=lambda session: self._bound(session, cache, rows=1))
        self._feed(binding, [0, 0], [(0, 0, 2)], [0, 1])
        self._fetch(binding, logits[None])
        binding.run()

    def _binding_for(self, owned: list[Owned]) -> Binding:
        adapted = adapted_to(self._adapted, owned)
        return self._binding if adapted is None else adapted.binding(owned, make=self._bind)

    def _bind(self, session: Any) -> Binding:
        return self._bound(session, self._kv, rows=self._slots)

    def _bound(self, session: Any, cache: KvMemory, *, rows: int) -> Binding:
        binding = self._new_binding(session)
        place_cache(binding, self._io, cache, first=0, rows=rows)
        if self._reader is not None:
            self._reader.place(binding)
        return binding

    def _feed(
        self,
        binding: Binding,
        ids: list[int],
        segments: list[tuple[int, int, int]],
        kept: list[int],
        *,
        of: Many[Sequence | None] = (None,),
    ) -> None:
        """Have a run append `ids` to rows of the cache; a segment is a row, the tokens it holds,
        and how many of the ids, `of` a sequence, are new to it. Logits are wanted of the `kept`
        ones."""
        inputs: dict[str, NDArray[Any]] = {
            self._io.input_ids: np.array([ids], np.int64),
            str(self._io.segments): np.array(segments, np.int32),
            self._io.kept_positions: np.array(kept, np.int64),
        }
        if self._io.position_ids is not None:
            inputs[self._io.position_ids] = one_row(
                [
                    positions_of(sequence, past, past + tokens, axes=self._io.position_axes)
                    for sequence, (_, past, tokens) in zip(of, segments, strict=True)
                ]
            )
        for name, array in inputs.items():
            binding.feed(name, array)
