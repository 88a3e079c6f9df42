"""Steps of a graph whose runs are of rows of equally many tokens, as GroupQueryAttention has them.

Decoding binds rows 0..n-1 of the cache, and in a part of a step whatever rows it has, neighbours
together; a prompt is read straight into its row by the row's address, in a run of its own. Where
the cache is int8, a prompt is read with a float32 cache of its own instead, and rounded into its
row.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence as Many
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nsedge.runtime.decode.conditioning import Placed
from nsedge.runtime.decode.plan import Chunk, StepPlan
from nsedge.runtime.decode.sampling.logits import HostLogits
from nsedge.runtime.decode.sequence import Sequence
from nsedge.runtime.graph.adapted import Adapted, adapted_to
from nsedge.runtime.graph.adapters import Owned
from nsedge.runtime.graph.binding import Binding, place_cache
from nsedge.runtime.graph.executor import Executor, Source
from nsedge.runtime.graph.kv import HostKv, KvMemory
from nsedge.runtime.graph.media import placed_in
from nsedge.runtime.graph.positions import one_row, positions_of
from nsedge.runtime.graph.prompt_cache import PromptCaches, read_scales


@dataclass(frozen=True, slots=True)
class _Span:
    """Neighbouring rows of the cache from `first` on, the `begin`-th and next ones of a step."""

    begin: int
    first: int
    rows: int

    @property
    def usual(self) -> bool:
        """Whether it is all of a whole step."""
        return self.begin == self.first == 0

    @property
    def places(self) -> slice:
        """Where its rows are among the step's."""
        return slice(self.begin, self.begin + self.rows)


def _spans(rows: Many[int]) -> Iterator[_Span]:
    """The neighbours among rows of the cache."""
    begin = 0
    for place in range(1, len(rows) + 1):
        if place == len(rows) or rows[place] != rows[place - 1] + 1:
            yield _Span(begin, rows[begin], place - begin)
            begin = place


class RowExecutor(Executor):
    """Runs decoding rows together, then prompts one by one."""

    def __init__(self, source: Source) -> None:
        """Open a session and reserve memory; raises what `Executor` does."""
        super().__init__(source)
        slots, capacity, layout = source.slots, source.capacity, source.variant.kv
        self._ids = np.zeros((slots, 1), np.int64)
        self._lengths = np.zeros(slots, np.int32)
        self._positions = np.zeros((slots, 1), np.int64)
        self._axes = source.variant.io.position_axes
        self._memory_rows = np.zeros(slots, np.int64)
        self._total = np.zeros((), np.int32)
        # A captured run keeps the total it was captured with: the greatest there can be.
        self._fixed_total = capacity if source.captures else None
        self._first = np.zeros(1, np.int64)
        self._bindings: dict[int, Binding] = {}
        self._prompts: PromptCaches | None = None
        if source.scales is not None and isinstance(self._kv, HostKv):
            read = read_scales(source.scales, layout)
            self._prompts = PromptCaches(layout, rows=self._kv, scales=read, capacity=capacity)
        self._reads_prompt, self._reads_rows = np.array(True), np.array(False)

    def run(self, plan: StepPlan) -> HostLogits:
        """Run a step whose copies are made, as `Executor` says."""
        if plan.draft:
            return HostLogits(self._check(plan))
        row = len(plan.decode)
        # What comes before a prompt's last chunk leaves logits that the next one overwrites.
        logits = self._room(plan.logit_rows + 1)
        if row:
            self._decode(plan)
            if logits.base is None:  # room of its own
                logits[:row] = self._logits[:row]
        for chunk in plan.prefill:
            self._prefill(chunk, logits[row : row + max(1, len(chunk.kept))])
            row += len(chunk.kept)
        return HostLogits(logits[:row])

    def _unbind(self) -> None:
        self._bindings.clear()

    def _caches(self) -> list[KvMemory]:
        return [self._kv, *([] if self._prompts is None else self._prompts.each())]

    def _decode(self, plan: StepPlan) -> None:
        rows = len(plan.decode)
        self._ids[:rows, 0] = [sequence.input_id for sequence in plan.decode]
        self._lengths[:rows] = [sequence.kv_length for sequence in plan.decode]
        self._positions[:rows, 0] = self._lengths[:rows]
        self._memory_rows[:rows] = [sequence.memory or 0 for sequence in plan.decode]
        owned = [Owned(sequence.adapter, 1) for sequence in plan.decode]
        for span in _spans([sequence.held_row for sequence in plan.decode]):
            self._run_rows(span, owned[span.places], plan.decode[span.places])

    def _check(self, plan: StepPlan) -> NDArray[np.float32]:
        """Read the newest token and its guesses into the only row, like a piece of a prompt."""
        sequence = plan.decode[0]
        logits = self._logits[: 1 + len(plan.draft)]
        ids = (sequence.input_id, *plan.draft)
        self._read(
            ids,
            row=sequence.held_row,
            start=sequence.kv_length,
            logits=logits,
            of=sequence,
        )
        return logits

    def _run_rows(self, span: _Span, owned: list[Owned], sequences: Many[Sequence]) -> None:
        """Decode a token for each row of a span, of these sequences."""
        self._total[...] = self._fixed_total or self._lengths[span.places].max() + 1
        adapted = adapted_to(self._adapted, owned)
        if adapted is None:
            binding = self._decoding(span) if span.usual else self._bind_rows(span, self._session)
        elif span.usual:
            make = partial(self._bind_rows, span)
            binding = adapted.binding(owned, make=make, rows=span.rows)
        else:
            make = partial(self._bind_rows, span)
            binding = adapted.once(owned, make=make, by_row=True)
        if self._axes > 1:
            own = [
                positions_of(one, one.kv_length, one.kv_length + 1, axes=self._axes)
                for one in sequences
            ]
            binding.feed(str(self._io.position_ids), np.stack(own, axis=1))
        binding.run()

    def _prefill(self, chunk: Chunk, logits: NDArray[np.float32]) -> None:
        cache = None if self._prompts is None else self._prompts.before(chunk)
        self._read(
            chunk.ids,
            row=chunk.row,
            start=chunk.start,
            logits=logits,
            prompt=None if cache is None else cache.memory,
            of=chunk.sequence,
            placed=placed_in(chunk, 0),
        )
        if self._prompts is not None and cache is not None:
            self._prompts.after(chunk, cache)

    def _read(
        self,
        ids: Many[int],
        *,
        row: int,
        start: int,
        logits: NDArray[np.float32],
        of: Sequence,
        prompt: HostKv | None = None,
        placed: Many[Placed] = (),
    ) -> None:
        """Append `ids`, tokens `of` a sequence, to `row`, which holds `start` tokens, or to
        `prompt` if there is one; `placed` stand in the place of some of them.

        `logits` [K, V] are those after the last K.
        """
        owned = [Owned(of.adapter, len(ids))]
        adapted = adapted_to(self._adapted, owned)
        if adapted is None:
            binding = self._new_binding(self._session)
        else:
            binding = adapted.once(owned, make=self._new_binding)
        self._place_read(binding, ids, start=start, logits=logits, of=of)
        place_cache(binding, self._io, self._kv, first=row, rows=1)
        self._place_prompt(binding, prompt)
        self._place_memory(binding, np.array([of.memory or 0], np.int64))
        self._run(binding, placed)

    def _place_read(
        self,
        binding: Binding,
        ids: Many[int],
        *,
        start: int,
        logits: NDArray[np.float32],
        of: Sequence | None = None,
    ) -> None:
        end = start + len(ids)
        inputs: dict[str, NDArray[Any]] = {
            self._io.input_ids: np.array([ids], np.int64),
            self._io.seqlens_k: np.array([end - 1], np.int32),
            self._io.kept_positions: np.arange(len(ids) - len(logits), len(ids), dtype=np.int64),
        }
        if self._io.position_ids is not None:
            own = positions_of(of, start, end, axes=self._axes)
            inputs[self._io.position_ids] = one_row([own])
        self._bind(binding, inputs, logits[None], total=np.array(end, np.int32))

    def _try(self, adapted: Adapted, cache: KvMemory, logits: NDArray[np.float32]) -> None:
        owned = [Owned(adapted.stack.adapters[0].key, len(logits))]
        binding = adapted.once(owned, make=self._new_binding)
        self._place_read(binding, [0] * len(logits), start=0, logits=logits)
        place_cache(binding, self._io, cache, first=0, rows=1)
        self._place_prompt(binding, None)
        binding.run()

    def _decoding(self, span: _Span) -> Binding:
        """The binding for the usual span, made once for each number of rows."""
        binding = self._bindings.get(span.rows)
        if binding is None:
            binding = self._bindings[span.rows] = self._bind_rows(span, self._session)
        return binding

    def _bind_rows(self, span: _Span, session: Any) -> Binding:
        places = span.places
        inputs: dict[str, NDArray[Any]] = {
            self._io.input_ids: self._ids[places],
            self._io.seqlens_k: self._lengths[places],
            self._io.kept_positions: self._first,
        }
        if self._io.position_ids is not None and self._axes == 1:
            inputs[self._io.position_ids] = self._positions[places]
        binding = self._new_binding(session, repeats=span.rows if span.usual else None)
        self._bind(binding, inputs, self._logits[places, None], total=self._total)
        place_cache(binding, self._io, self._kv, first=span.first, rows=span.rows)
        self._place_prompt(binding, None)
        self._place_memory(binding, self._memory_rows[places])
        return binding

    def _bind(
        self,
        binding: Binding,
        inputs: dict[str, NDArray[Any]],
        logits: NDArray[np.float32],
        *,
        total: NDArray[np.int32],
    ) -> None:
        for name, array in inputs.items():
            binding.feed(name, array)
        binding.feed_host(self._io.total_sequence_length, total)
        self._fetch(binding, logits)

    def _place_memory(self, binding: Binding, rows: NDArray[np.int64]) -> None:
        """Let the graph read the memory, where there is one, and which of it each row is about."""
        if self._reader is not None:
            binding.feed(str(self._reader.io.rows), rows)
            self._reader.place(binding)

    def _place_prompt(self, binding: Binding, prompt: HostKv | None) -> None:
        """Let the graph read `prompt`, or the rows where that is None."""
        if self._io.prompt is not None and self._prompts is not None:
            flag = self._reads_rows if prompt is None else self._reads_prompt
            binding.feed_host(self._io.prompt.flag, flag)
            own = self._prompts.spare() if prompt is None else prompt
            place_cache(binding, self._io.prompt, own, first=0, rows=1)
