"""Steps of a graph whose runs are of segments: a step is one run, whosever its tokens are."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nsedge.runtime.binding import Binding, place_cache
from nsedge.runtime.executor import Executor, Source
from nsedge.runtime.plan import StepPlan


class RaggedExecutor(Executor):
    """Runs decoding rows and pieces of prompts together; the cache is bound once, whole."""

    def __init__(self, source: Source) -> None:
        """Open a session and reserve memory; raises what `Executor` does."""
        super().__init__(source)
        self._slots = source.slots
        self._binding = self._bind()

    def _run(self, plan: StepPlan) -> NDArray[np.float32]:
        ids: list[int] = []
        segments: list[tuple[int, int, int]] = []
        kept: list[int] = []
        for sequence in plan.decode:
            tokens = (sequence.input_id, *plan.draft)
            kept.extend(range(len(ids), len(ids) + len(tokens)))
            segments.append((sequence.held_row, sequence.kv_length, len(tokens)))
            ids.extend(tokens)
        for chunk in plan.prefill:
            segments.append((chunk.row, chunk.start, chunk.end - chunk.start))
            ids.extend(chunk.ids)
            if chunk.is_last:
                kept.append(len(ids) - 1)
        self._run_segments(ids, segments, kept)
        return self._logits[: len(kept)]

    def _unbind(self) -> None:
        self._binding = self._bind()

    def _bind(self) -> Binding:
        binding = self._device.binding(self._session)
        place_cache(binding, self._io, self._kv, first=0, rows=self._slots)
        return binding

    def _run_segments(
        self, ids: list[int], segments: list[tuple[int, int, int]], kept: list[int]
    ) -> None:
        """Append `ids` to rows of the cache; a segment is a row, the tokens it holds, and how many
        of the ids are new to it. Leaves logits of the `kept` ones in `_logits`."""
        inputs: dict[str, NDArray[Any]] = {
            self._io.input_ids: np.array([ids], np.int64),
            str(self._io.segments): np.array(segments, np.int32),
            self._io.kept_positions: np.array(kept, np.int64),
        }
        if self._io.position_ids is not None:
            positions = [range(past, past + tokens) for _, past, tokens in segments]
            inputs[self._io.position_ids] = np.concatenate(positions, dtype=np.int64)[None]
        for name, array in inputs.items():
            self._binding.feed(name, array)
        self._binding.fetch(self._io.logits, self._logits[None, : len(kept)])
        self._binding.run()
