"""An encoder's graph in a session: rows of token ids in, a vector each out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nsedge.bundle.encoder import EncoderVariant
from nsedge.runtime.graph.session import open_session


class EncoderSession:
    """Runs batches of one variant."""

    def __init__(
        self, graph: Path, variant: EncoderVariant, *, threads: int, pad_id: int, dimensions: int
    ) -> None:
        """Open `graph`; raises what `open_session` does."""
        self.device = variant.device
        self._io = variant.io
        self._pad_id = pad_id
        self._dimensions = dimensions
        self._session = open_session(
            graph, variant.device, threads, requires=variant.requires, patterns=False
        )

    @property
    def provider(self) -> str:
        """The execution provider in use."""
        return str(self._session.get_providers()[0])

    def run(self, rows: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Vectors float32 [len(rows), dimensions] of texts as token ids, none of them empty.

        Raises:
            ValueError: the graph gives something of another shape.
        """
        ids, mask = padded(rows, self._pad_id)
        feeds = {self._io.input_ids: ids, self._io.attention_mask: mask}
        if self._io.token_type_ids is not None:
            feeds[self._io.token_type_ids] = np.zeros_like(ids)
        (vectors,) = self._session.run([self._io.embedding], feeds)
        if vectors.shape != (len(rows), self._dimensions):
            raise ValueError(f"vectors of shape {vectors.shape} came of {len(rows)} texts")
        return np.asarray(vectors, np.float32)


def padded(
    rows: Sequence[Sequence[int]], pad_id: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of token ids, none of them empty, as int64 [len(rows), T], padded at the end; and which
    of these are tokens, as 1."""
    lengths = np.array([len(row) for row in rows])
    shape = len(rows), int(lengths.max())
    mask = (np.arange(shape[1]) < lengths[:, None]).astype(np.int64)
    ids = np.full(shape, pad_id, np.int64)
    ids[mask == 1] = np.concatenate([np.asarray(row, np.int64) for row in rows])
    return ids, mask
