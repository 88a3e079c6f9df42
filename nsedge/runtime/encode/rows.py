"""What an encoder reads, a row an input: token ids, or a picture."""

from __future__ import annotations

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


Row = tuple[int, ...] | Picture
"""Its length is what a batch's budget counts."""
