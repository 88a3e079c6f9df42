"""A decoder's inputs for rows in the place of tokens. Where a run has none, nothing is bound anew:
its bindings are made with no rows."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence as Many
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nsedge.bundle.causal_lm import MediaIo
from nsedge.runtime.decode.conditioning import Placed
from nsedge.runtime.decode.plan import Chunk
from nsedge.runtime.graph.binding import Binding


class MediaInput:
    """The inputs of one graph, by their names."""

    def __init__(self, io: MediaIo, session: Any) -> None:
        """`session` tells how wide a row is."""
        self._io = io
        self.hidden = next(int(i.shape[1]) for i in session.get_inputs() if i.name == io.embeds)
        self._no_rows = np.empty((0, self.hidden), np.float32)
        self._no_places = np.empty((0, 2), np.int64)

    def clear(self, binding: Binding) -> None:
        """Let the graph read no rows."""
        binding.feed(self._io.embeds, self._no_rows)
        binding.feed(self._io.positions, self._no_places)
        if self._io.blocks is not None:
            binding.feed(self._io.blocks, self._no_places)

    @contextmanager
    def fed(self, binding: Binding, placed: Many[Placed]) -> Iterator[None]:
        """Let the graph read rows within the block, places counted in the only row of its batch."""
        if not placed:
            yield
            return
        places: NDArray[np.int64] = np.concatenate([one.places for one in placed])
        positions = np.stack([np.zeros_like(places), places], axis=1)
        rows = np.concatenate([one.rows for one in placed])
        binding.feed(self._io.embeds, np.ascontiguousarray(rows, np.float32))
        binding.feed(self._io.positions, positions)
        blocks = [one.blocks for one in placed if one.blocks is not None]
        if self._io.blocks is not None and blocks:
            binding.feed(self._io.blocks, np.concatenate(blocks))
        try:
            yield
        finally:
            self.clear(binding)


def placed_in(chunk: Chunk, offset: int) -> list[Placed]:
    """What stands for tokens of a piece of a prompt that begins at `offset` in a run."""
    media = chunk.sequence.media
    found = None if media is None else media.between(chunk.start, chunk.end)
    return [] if found is None else [replace(found, places=found.places + offset)]
