"""The encoder of a model that hears, in a session: features in, rows for its decoder out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nsedge.bundle.hearing import SoundEncoder, SoundFeatures
from nsedge.runtime.encode.rows import SoundPiece
from nsedge.runtime.graph.session import open_session

LOUDEST = 16
"""Of a pattern's features."""
Floats = NDArray[np.float32]


class SoundEncoderSession:
    """Runs chunks of sound, one after the other."""

    def __init__(
        self,
        graph: Path,
        encoder: SoundEncoder,
        *,
        told: SoundFeatures,
        hidden: int,
        threads: int,
    ) -> None:
        """Open the graph; raises what `open_session` does."""
        self._io, self._told, self._hidden = encoder.io, told, hidden
        self._session = open_session(
            graph, encoder.device, threads, requires=encoder.requires, patterns=False
        )

    def run(self, pieces: Sequence[SoundPiece]) -> list[Floats]:
        """What the model makes of each chunk: float32 [2 n, hidden], the rows for prompts without
        pictures and behind them those for prompts with some."""
        return [self.hear(piece) for piece in pieces]

    def hear(self, piece: SoundPiece) -> Floats:
        """The same of one chunk.

        Raises:
            ValueError: the graph gives something of another shape.
        """
        feeds = {self._io.features: piece.features[None], self._io.kept: piece.kept}
        made = self._session.run([self._io.alone, self._io.beside], feeds)
        wanted = (1, len(piece.kept), self._hidden)
        if any(one.shape != wanted for one in made):
            raise ValueError(f"rows of shape {made[0].shape} came of a sound of {len(piece.kept)}")
        return np.concatenate([np.asarray(one[0], np.float32) for one in made])

    def sample(self, number: int) -> Floats:
        """What the model makes of the pattern of that number, of whichever length: float32 [n,
        hidden]."""
        piece = sound_pattern(number, self._told)
        return self.hear(piece)[: len(piece)]

    def pattern_bytes(self, number: int) -> bytes:
        """What tells that pattern from others."""
        return sound_pattern(number, self._told).features.tobytes()


def sound_pattern(number: int, told: SoundFeatures) -> SoundPiece:
    """The features of that number, by whole numbers alone, so that no bundle carries a sound."""
    n = number + 1
    frames = told.stride * (20 + 7 * n % 60) - n % told.stride
    t, band = np.mgrid[0:frames, 0 : told.bins].astype(np.int64)
    waves = ((t * (3 + n) // 5) ^ (band * (5 + n) // 7)) * (29 + 8 * n) + t * band // (n + 2)
    features = (waves % 1024).astype(np.float32) * np.float32(LOUDEST / 1024)
    return SoundPiece(features, np.arange(-(-frames // told.stride)))


def pieces_of(features: Floats, told: SoundFeatures) -> list[SoundPiece]:
    """The features [T, bins] of a whole sound in chunks, each with the frames before it that its
    first row is made of."""
    stride, most = told.stride, told.chunk_rows
    rows = -(-len(features) // stride)
    if rows <= most:
        return [SoundPiece(features, np.arange(rows))]
    pieces = []
    for begin in range(0, rows, most):
        lead = min(begin, 1)
        part = features[(begin - lead) * stride : (begin + most) * stride]
        count = -(-len(part) // stride)
        kept = np.full(most, count, np.int64)
        kept[: count - lead] = np.arange(lead, count)
        pieces.append(SoundPiece(np.ascontiguousarray(part), kept))
    return pieces


def order_of(pieces: Sequence[SoundPiece], rows: int, *, beside: bool) -> NDArray[np.int64]:
    """Which of the rows that a session makes of chunks stand in a prompt, of a sound of so many;
    `beside` pictures or not."""
    wanted, begin = [], 0
    for piece in pieces:
        own = len(piece)
        wanted.append(begin + own * beside + np.arange(own))
        begin += 2 * own
    return np.concatenate(wanted)[:rows]
