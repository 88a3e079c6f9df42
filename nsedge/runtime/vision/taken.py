"""What stands in a prompt for a picture, and what an encoder takes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nsedge.runtime.vision.crops import CropPixels


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """text: what stands in a prompt. grid: the rows and columns that its tokens are, line by line,
    where a place in them tells a token's position."""

    text: str
    grid: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """Pieces uint8 [3, H, W], or crops. order: which of the rows that come of them, one after the
    other, stand in the prompt; None where all do."""

    pieces: Sequence[NDArray[np.uint8] | CropPixels]
    order: NDArray[np.int64] | None = None
