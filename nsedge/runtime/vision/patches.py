"""Pictures as patches, for an encoder that takes them in sizes of their own: the size, the patches,
where each is, and the windows that layers attend within.

The arithmetic is that of transformers' Qwen2VLImageProcessor and of the towers of Qwen2-VL and
Qwen2.5-VL. Patches lie row by row of what is merged to one row, and within that row by row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nsedge.bundle.patched import PatchedPicture
from nsedge.errors import InvalidMedia

LONGEST_SHAPE = 200
"""How many times as long as the other one a side may be."""
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """slots: which patch is in each place of each window, int64 [windows, places]; `filled`, int32
    of the same shape: 1 where one is. back: the place of each patch among all, int64 [N]."""

    slots: Ints
    filled: NDArray[np.int32]
    back: Ints


def size_of(layout: PatchedPicture, height: int, width: int) -> tuple[int, int]:
    """What a picture of this size is brought to.

    Raises:
        InvalidMedia: one of its sides is too many times as long as the other.
    """
    if max(height, width) > LONGEST_SHAPE * min(height, width):
        raise InvalidMedia(
            f"a picture of {width} x {height} pixels: this model takes none with a side more than"
            f" {LONGEST_SHAPE} times as long as the other"
        )
    unit = layout.unit
    high, wide = (round(side / unit) * unit for side in (height, width))
    if high * wide > layout.most_pixels:
        by = math.sqrt(height * width / layout.most_pixels)
        return _floor(height / by, unit), _floor(width / by, unit)
    if high * wide < layout.least_pixels:
        by = math.sqrt(layout.least_pixels / (height * width))
        return math.ceil(height * by / unit) * unit, math.ceil(width * by / unit) * unit
    return high, wide


def grid_of(layout: PatchedPicture, height: int, width: int) -> tuple[int, int]:
    """The rows and columns that come of a picture of this size; raises as `size_of`."""
    high, wide = size_of(layout, height, width)
    return high // layout.unit, wide // layout.unit


def patches_of(layout: PatchedPicture, picture: NDArray[np.float32]) -> NDArray[np.float32]:
    """The patches of a picture [3, H, W], float32 [N, 3 * frames * patch * patch]."""
    channels, height, width = picture.shape
    patch, merge, unit = layout.patch, layout.merge, layout.unit
    cut = picture.reshape(
        channels, height // unit, merge, patch, width // unit, merge, patch
    ).transpose(1, 4, 2, 5, 0, 3, 6)
    rows = cut.reshape(-1, channels, 1, patch * patch)
    return np.asarray(np.repeat(rows, layout.frames, axis=2).reshape(len(rows), -1), np.float32)


def places_of(layout: PatchedPicture, rows: int, columns: int) -> Ints:
    """The row and column of each patch of a picture that rows x columns come of: int64 [N, 2]."""
    merge = layout.merge
    units = np.stack(np.divmod(np.arange(rows * columns), columns), axis=1)
    within = np.stack(np.divmod(np.arange(merge**2), merge), axis=1)
    return np.asarray((units[:, None] * merge + within[None]).reshape(-1, 2), np.int64)


def windows_of(layout: PatchedPicture, rows: int, columns: int) -> Windows:
    """The windows of such a picture: those at its right and lower edges may have empty places."""
    side, each = layout.window, layout.merge**2
    row, column = np.divmod(np.arange(rows * columns), columns)
    across = -(-columns // side)
    window = row // side * across + column // side
    order = np.argsort(window, kind="stable")
    counts = np.bincount(window)
    rank = np.empty(len(window), np.int64)
    rank[order] = np.arange(len(window)) - np.repeat(np.cumsum(counts) - counts, counts)
    units = window * side**2 + rank
    back = (units[:, None] * each + np.arange(each)).reshape(-1)
    places = side**2 * each
    slots = np.zeros(len(counts) * places, np.int64)
    filled = np.zeros(len(slots), np.int32)
    slots[back], filled[back] = np.arange(len(back)), 1
    return Windows(slots=slots.reshape(-1, places), filled=filled.reshape(-1, places), back=back)


def _floor(side: float, unit: int) -> int:
    return max(unit, math.floor(side / unit) * unit)
