"""A step plan to logits: the session, its bindings and the KV memory.

KV memory is `[slots, heads, capacity, head_dim]` for the keys and the values of every layer, bound
as past and present alike, so that GroupQueryAttention appends in place. Decoding binds rows 0..n-1;
a prompt is read straight into its row by the row's address.
"""

from __future__ import annotations

from collections.abc import Sequence as Many
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nsedge.bundle import Variant
from nsedge.runtime.memory import reserve
from nsedge.runtime.scheduler import Chunk, KvCopy, StepPlan
from nsedge.runtime.session import open_session


class Executor:
    """Runs the steps of one model. Used by one thread at a time."""

    def __init__(
        self,
        *,
        graph: Path,
        variant: Variant,
        vocab_size: int,
        slots: int,
        capacity: int,
        threads: int,
    ) -> None:
        """Open a session and reserve KV memory for `slots` rows of `capacity` tokens.

        Raises:
            DeviceUnavailable: where the variant's provider is not the one in use.
            BundleInvalid: where the graph cannot be loaded.
        """
        self._io = variant.io
        self._layout = variant.kv
        self._session = open_session(graph, variant.device, threads)
        shape = (slots, variant.kv.heads, capacity, variant.kv.head_dim)
        self._kv = [
            (reserve(shape, variant.kv.dtype), reserve(shape, variant.kv.dtype))
            for _ in range(variant.kv.layers)
        ]
        self._logits = np.zeros((slots + 1, vocab_size), np.float32)
        self._ids = np.zeros((slots, 1), np.int64)
        self._lengths = np.zeros(slots, np.int32)
        self._positions = np.zeros((slots, 1), np.int64)
        self._total = np.zeros((), np.int32)
        self._first = np.zeros(1, np.int64)
        self._bindings: dict[int, Any] = {}

    @property
    def provider(self) -> str:
        """The execution provider really in use."""
        return str(self._session.get_providers()[0])

    def run(self, plan: StepPlan) -> NDArray[np.float32]:
        """Run a step; float32 [len(plan.sampled), V], valid and writable until the next."""
        for copy in plan.copies:
            self._copy(copy)
        row = len(plan.decode)
        if row:
            self._decode(plan)
        for chunk in plan.prefill:
            # What comes before a prompt's last chunk leaves logits that the next one overwrites.
            self._prefill(chunk, self._logits[row : row + 1])
            row += chunk.is_last
        return self._logits[:row]

    def warm_up(self) -> None:
        """Read and decode once, so that the first request finds memory and kernels ready."""
        kept = np.array([1], np.int64)
        self._read([0, 0], row=0, start=0, kept=kept, logits=self._logits[:1])
        self._lengths[0], self._total[...] = 2, 3
        self._session.run_with_iobinding(self._decoding(1))

    def _decode(self, plan: StepPlan) -> None:
        rows = len(plan.decode)
        self._ids[:rows, 0] = [sequence.output_ids[-1] for sequence in plan.decode]
        self._lengths[:rows] = [sequence.kv_length for sequence in plan.decode]
        self._positions[:rows, 0] = self._lengths[:rows]
        self._total[...] = self._lengths[:rows].max() + 1
        self._session.run_with_iobinding(self._decoding(rows))

    def _prefill(self, chunk: Chunk, logits: NDArray[np.float32]) -> None:
        ids = chunk.ids
        kept = np.array([len(ids) - 1], np.int64)
        self._read(ids, row=chunk.row, start=chunk.start, kept=kept, logits=logits)

    def _read(
        self,
        ids: Many[int],
        *,
        row: int,
        start: int,
        kept: NDArray[np.int64],
        logits: NDArray[np.float32],
    ) -> None:
        """Append `ids` to `row`, which holds `start` tokens; `logits` [K, V] of those kept."""
        end = start + len(ids)
        inputs: dict[str, NDArray[Any]] = {
            self._io.input_ids: np.array([ids], np.int64),
            self._io.seqlens_k: np.array([end - 1], np.int32),
            self._io.total_sequence_length: np.array(end, np.int32),
            self._io.kept_positions: kept,
        }
        if self._io.position_ids is not None:
            inputs[self._io.position_ids] = np.arange(start, end, dtype=np.int64)[None]
        self._session.run_with_iobinding(self._bind(inputs, row, 1, logits[None]))

    def _decoding(self, rows: int) -> Any:
        """The binding for `rows` decoding rows, made once."""
        binding = self._bindings.get(rows)
        if binding is None:
            inputs: dict[str, NDArray[Any]] = {
                self._io.input_ids: self._ids[:rows],
                self._io.seqlens_k: self._lengths[:rows],
                self._io.total_sequence_length: self._total,
                self._io.kept_positions: self._first,
            }
            if self._io.position_ids is not None:
                inputs[self._io.position_ids] = self._positions[:rows]
            binding = self._bind(inputs, 0, rows, self._logits[:rows, None])
            self._bindings[rows] = binding
        return binding

    def _bind(
        self,
        inputs: dict[str, NDArray[Any]],
        row: int,
        rows: int,
        logits: NDArray[np.float32],
    ) -> Any:
        """Bind by address; the arrays must outlive the run, and no copy is made of them."""
        binding = self._session.io_binding()
        for name, array in inputs.items():
            _bind(binding.bind_input, name, array)
        _bind(binding.bind_output, self._io.logits, logits)
        for layer, (keys, values) in enumerate(self._kv):
            k, v = keys[row : row + rows], values[row : row + rows]
            _bind(binding.bind_input, self._io.past_key.format(layer=layer), k)
            _bind(binding.bind_input, self._io.past_value.format(layer=layer), v)
            _bind(binding.bind_output, self._io.present_key.format(layer=layer), k)
            _bind(binding.bind_output, self._io.present_value.format(layer=layer), v)
        return binding

    def _copy(self, copy: KvCopy) -> None:
        for pair in self._kv:
            for memory in pair:
                memory[copy.target, :, : copy.tokens] = memory[copy.source, :, : copy.tokens]


def _bind(bind: Any, name: str, array: NDArray[Any]) -> None:
    bind(name, "cpu", 0, array.dtype.type, list(array.shape), array.ctypes.data)
