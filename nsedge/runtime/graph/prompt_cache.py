"""Float32 caches that prompts are read with, where the rows' own cache is int8.

A prompt is read through float32 from its first token to its last, whatever the chunks, so that
nothing depends on where it was cut. What a chunk brings is rounded into the prompt's row at once.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nsedge.bundle.causal_lm import KvLayout
from nsedge.errors import BundleInvalid
from nsedge.runtime.decode.plan import Chunk
from nsedge.runtime.decode.sequence import Sequence, State
from nsedge.runtime.graph.kv import HostKv, round_to_int8


class PromptCache:
    """One prompt's keys and values in float32: the first `tokens` tokens of `sequence`."""

    def __init__(self, layout: KvLayout, capacity: int) -> None:
        self.memory = HostKv(layout, rows=1, capacity=capacity, dtype="float32")
        self.sequence: Sequence | None = None
        self.tokens = 0

    @property
    def is_free(self) -> bool:
        """Whether no prompt is being read with it."""
        return self.sequence is None or self.sequence.state is not State.PREFILL


class PromptCaches:
    """As many as prompts are read at the same time; each is kept for the next prompt."""

    def __init__(
        self, layout: KvLayout, *, rows: HostKv, scales: NDArray[np.float32], capacity: int
    ) -> None:
        """`scales` [layers, 2, heads, head_dim] turn what `rows` hold into numbers."""
        self._layout = layout
        self._rows = rows
        self._scales = scales[:, :, :, None]
        self._capacity = capacity
        self._caches = [PromptCache(layout, capacity)]

    def before(self, chunk: Chunk) -> PromptCache:
        """What to read `chunk` with; it holds what precedes the chunk in its row."""
        found = (cache for cache in self._caches if cache.sequence is chunk.sequence)
        cache = next(found, None) or self._take()
        # What was read with it before is exact, and may be more where a chunk is read again.
        if cache.sequence is not chunk.sequence or cache.tokens < chunk.start:
            self._restore(cache, chunk)
        cache.sequence, cache.tokens = chunk.sequence, chunk.start
        return cache

    def after(self, chunk: Chunk, cache: PromptCache) -> None:
        """`chunk` was read with `cache`: round what it brought into its row."""
        cache.tokens = chunk.end
        new = slice(chunk.start, chunk.end)
        for exact, rows, scales in self._layers(cache.memory):
            round_to_int8(exact[0, :, new], scales, rows[chunk.row, :, new])

    def spare(self) -> HostKv:
        """Some memory to try the graph with."""
        return self._caches[0].memory

    def each(self) -> list[HostKv]:
        """The memory of every cache."""
        return [cache.memory for cache in list(self._caches)]

    def _take(self) -> PromptCache:
        free = next((cache for cache in self._caches if cache.is_free), None)
        if free is None:
            free = PromptCache(self._layout, self._capacity)
            self._caches.append(free)
        return free

    def _restore(self, cache: PromptCache, chunk: Chunk) -> None:
        """Take what another prompt left in the row: rounded, and as near as that is."""
        old = slice(0, chunk.start)
        for exact, rows, scales in self._layers(cache.memory):
            np.multiply(rows[chunk.row, :, old], scales, out=exact[0, :, old])

    def _layers(
        self, memory: HostKv
    ) -> list[tuple[NDArray[np.float32], NDArray[np.int8], NDArray[np.float32]]]:
        """Float32 memory, int8 memory and scales of the keys and the values of every layer."""
        return [
            (exact, rows, scales)
            for of_prompt, of_rows, of_scales in zip(
                memory.layers, self._rows.layers, self._scales, strict=True
            )
            for exact, rows, scales in zip(of_prompt, of_rows, of_scales, strict=True)
        ]


def read_scales(path: Path, layout: KvLayout) -> NDArray[np.float32]:
    """The scales in a bundle's file, float32 [layers, 2, heads, head_dim].

    Raises:
        BundleInvalid: the file holds something else.
    """
    try:
        scales = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise BundleInvalid(f"{path}: {error}") from error
    wanted = (layout.layers, 2, layout.heads, layout.head_dim)
    if not isinstance(scales, np.ndarray) or scales.dtype != np.float32 or scales.shape != wanted:
        raise BundleInvalid(f"{path} does not hold float32 {list(wanted)}")
    return scales
