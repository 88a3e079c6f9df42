"""What an encoder reads, a row an input: token ids, or a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A picture in the size that the graph takes: uint8 [3, H, W]. patches: how many the graph cuts
    it into, which is its length beside texts."""

    pixels: NDArray[np.uint8]
    patches: int

    def __len__(self) -> int:
        return self.patches


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Pieces:
    """A picture in the pieces that an encoder takes. order: which of the rows that come of them,
    one after the other, are wanted: int64 [rows]; None where all are."""

    pieces: Sequence[Picture]
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
