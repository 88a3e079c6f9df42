"""Pictures that an encoder takes as a whole and in tiles of the best of several sizes: which size,
and which of the rows that come of the pieces stand in a prompt.

The arithmetic is that of transformers' LlavaNextImageProcessor and LlavaNextModel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nsedge.bundle.anyres import AnyresPicture

DIGITS = 7
"""Behind the point, of the sizes that margins are computed from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """A picture is brought to `inner` and put in the middle of `outer`, (height, width) each, which
    is down x across tiles."""

    outer: tuple[int, int]
    inner: tuple[int, int]
    down: int
    across: int


def fit_of(layout: AnyresPicture, height: int, width: int) -> Fit:
    """How a picture of this size is brought into one of its resolutions, where it has some."""
    high, wide = _best(layout, height, width)
    by_height, by_width = high / height, wide / width
    if by_width < by_height:
        inner = min(math.ceil(height * by_width), high), wide
    else:
        inner = high, min(math.ceil(width * by_height), wide)
    down, across = high // layout.tile, wide // layout.tile
    return Fit(outer=(high, wide), inner=inner, down=down, across=across)


def order_of(layout: AnyresPicture, height: int, width: int) -> NDArray[np.int64]:
    """Which of the rows of the whole picture and its tiles, one after the other, stand in a prompt
    for a picture of this size: int64 [tokens]."""
    side, pitch = layout.patches, layout.patches + 1
    whole = (np.arange(side)[:, None] * pitch + np.arange(side)).reshape(-1)
    if not layout.resolutions:
        return whole
    fit = fit_of(layout, height, width)
    high, wide = _inside(fit.down * side, fit.across * side, height, width)
    down, across = np.array(high, np.int64)[:, None], np.array(wide, np.int64)[None]
    tile = 1 + down // side * fit.across + across // side
    patches = tile * layout.rows + down % side * pitch + across % side
    ends = np.full((len(high), 1), side, np.int64)
    return np.concatenate([whole, np.hstack([patches, ends]).reshape(-1)])


def _best(layout: AnyresPicture, height: int, width: int) -> tuple[int, int]:
    """The resolution that keeps most of a picture's pixels, and of these the one with the least
    margin; the first of several."""
    kept, best = (-1, 0), layout.resolutions[0]
    for high, wide in layout.resolutions:
        scale = min(wide / width, high / height)
        pixels = min(int(width * scale) * int(height * scale), width * height)
        found = pixels, pixels - high * wide
        if found > kept:
            kept, best = found, (high, wide)
    return best


def _inside(high: int, wide: int, height: int, width: int) -> tuple[range, range]:
    """The rows and columns of patches, of high x wide, that are no margin of a picture."""
    if width / height > wide / high:
        margin = (high - int(round(height * (wide / width), DIGITS))) // 2
        return range(margin, high - margin), range(wide)
    margin = (wide - int(round(width * (high / height), DIGITS))) // 2
    return range(high), range(margin, wide - margin)
