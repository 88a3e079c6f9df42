"""What a decoder is told of its tokens' positions, where it does not count them itself."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nsedge.runtime.decode.positions import text
from nsedge.runtime.decode.sequence import Sequence

Ints = NDArray[np.int64]


def positions_of(sequence: Sequence | None, start: int, end: int, *, axes: int) -> Ints:
    """Those of tokens `start` to `end` of a sequence, or of a text: int64 [n], or on several axes
    [axes, n]."""
    if axes == 1:
        return np.arange(start, end)
    media = None if sequence is None else sequence.media
    if media is None or media.positions is None:
        return text(start, end)
    return media.positions.between(start, end)


def one_row(positions: list[Ints]) -> Ints:
    """Positions of tokens in a row, one after the other, as a graph reads them: [1, Q], or
    [axes, 1, Q]."""
    joined = np.concatenate(positions, axis=-1)
    return np.ascontiguousarray(joined[..., None, :])
