"""What an encoder reads, a row an input: token ids, or a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A picture in the size that the graph takes: uint8 [3, H, W]. patches: how many the graph cuts
    it into, which is its length beside texts."""

    pixels: NDArray[Any]
    patches: int

    def __len__(self) -> int:
        return self.patches


@dataclass(frozen=True, slots=True, eq=False)
class Crop(Picture):
    """A crop of a picture, of whose patches some may be none of the picture's: as a graph takes it
    (nsedge.bundle.vision_lm.ImageEncoderIo). The whole picture comes in levels between whole ones,
    float32, in the place of pixels."""

    bias: NDArray[np.float32]
    places: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class SoundPiece:
    """A chunk of sound: features float32 [T, bins], and which of the frames that come of them go
    on, int64 [n]: as a graph takes it (nsedge.bundle.hearing.SoundEncoderIo)."""

    features: NDArray[np.float32]
    kept: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.kept)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Pieces:
    """A medium in the pieces that an encoder takes. order: which of the rows that come of them,
    one after the other, are wanted: int64 [rows]; None where all are."""

    pieces: Sequence[Picture | SoundPiece]
    order: NDArray[np.int64] | None = None

    def joined(self, rows: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """The wanted ones of the rows [rows, hidden] of each piece.

        Raises:
            ValueError: the pieces have fewer rows.
        """
        made = rows[0] if len(rows) == 1 else np.concatenate(rows)
        if self.order is None:
            return made
        if self.order.max(initial=-1) >= len(made):
            raise ValueError(f"{len(made)} rows came of its {len(rows)} pieces")
        return made[self.order]


Row = tuple[int, ...] | Picture
"""Its length is what a batch's budget counts."""
