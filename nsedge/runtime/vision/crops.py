"""Pictures that an encoder takes in crops of a larger one: how many, which of their patches are the
picture's, and how their rows stand in a prompt.

The arithmetic is that of transformers' Phi4MultimodalImageProcessorFast and of its model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nsedge.bundle.vision_lm import CroppedPicture
from nsedge.errors import InvalidMedia

SHORTEST_SIDE = 10
"""Of a picture, once it is brought to size."""
HIDDEN = float(np.finfo(np.float32).min)

Floats = NDArray[np.float32]
Places = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """A picture is brought to `size` (height, width) and filled up to rows x columns crops. patches
    (down, across): those that are the picture's."""

    size: tuple[int, int]
    rows: int
    columns: int
    patches: tuple[int, int]

    @property
    def lines(self) -> tuple[int, int]:
        """Of rows of the encoder's that are the picture's: how many, and how long they are."""
        return -(-self.patches[0] // 2), -(-self.patches[1] // 2)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class CropPixels:
    """A crop as a graph takes it: pixels uint8 [3, H, W], or float32 between whole levels; and what
    `patches_of` gives."""

    pixels: NDArray[Any]
    bias: Floats
    places: Places


def frame_of(layout: CroppedPicture, height: int, width: int) -> Frame:
    """The frame of a picture of this size.

    Raises:
        InvalidMedia: it is too much longer than wide, or the other way.
    """
    side, patch = layout.steps.size[0], layout.patch
    columns, rows = math.ceil(width / side), math.ceil(height / side)
    if columns * rows > layout.most:
        columns, rows = _nearest(layout.most, side, height, width)
    across, down = side * columns / width, side * rows / height
    if across < down:
        size = int(height * across), side * columns
    else:
        size = side * rows, int(width * down)
    if min(size) < SHORTEST_SIDE:
        raise InvalidMedia(f"a picture of {width} x {height} pixels is too long for its width")
    kept = [
        (crops * side) // patch - (crops * side - own) // patch
        for crops, own in zip((rows, columns), size, strict=True)
    ]
    return Frame(size=size, rows=rows, columns=columns, patches=(kept[0], kept[1]))


def _nearest(most: int, side: int, height: int, width: int) -> tuple[int, int]:
    """Columns and rows, as many as may be, whose ratio is the nearest to the picture's; of several
    the larger, where the picture fills half of it."""
    ratios = {
        (i, j)
        for n in range(1, most + 1)
        for i in range(1, n + 1)
        for j in range(1, n + 1)
        if 1 <= i * j <= most
    }
    best, least, ratio = (1, 1), math.inf, width / height
    for columns, rows in sorted(ratios, key=lambda one: one[0] * one[1]):
        off = abs(ratio - columns / rows)
        fills = width * height > 0.5 * side * side * columns * rows
        if off < least or (off == least and fills):
            best, least = (columns, rows), off
    return best


def arrangement(layout: CroppedPicture, frame: Frame) -> Places:
    """Which of the encoder's rows stand in a prompt, in order: the whole picture's, then those of
    each crop, `layout.rows` each."""
    (down, across), side = frame.lines, _side_rows(layout)
    line_end, between = side * side, side * side + 1
    y, x = np.mgrid[0:down, 0:across]
    crop = 1 + (y // side) * frame.columns + x // side
    parts = crop * layout.rows + (y % side) * side + x % side
    whole = np.arange(side * side).reshape(side, side)
    lines = [np.pad(each, ((0, 0), (0, 1)), constant_values=line_end) for each in (parts, whole)]
    return np.concatenate([lines[0].ravel(), [between], lines[1].ravel()]).astype(np.int64)


def patches_of(
    layout: CroppedPicture, frame: Frame, row: int, column: int
) -> tuple[Floats, Places]:
    """What is added to the scores of the patches of a crop, and where these are in the table of
    positions: float32 and int64 [patches]."""
    side = layout.steps.size[0] // layout.patch
    down, across = (
        min(max(kept - at * side, 0), side)
        for kept, at in zip(frame.patches, (row, column), strict=True)
    )
    bias = np.full((side, side), HIDDEN, np.float32)
    places = np.zeros((side, side), np.int64)
    bias[:down, :across] = 0.0
    if down and across:
        places[:down, :across] = _buckets(down, side)[:, None] * side + _buckets(across, side)
    return bias.ravel(), places.ravel()


def _buckets(count: int, side: int) -> Places:
    """Where so many patches are along a side of the table, spread over all of it."""
    step = np.float32(1) / np.float32(count)
    shares = (np.arange(count) * np.float64(step)).astype(np.float32)
    borders = (np.arange(1, side) / side).astype(np.float32)
    return np.searchsorted(borders, shares, side="right").astype(np.int64)


def _side_rows(layout: CroppedPicture) -> int:
    """Rows along a side of a crop."""
    return layout.steps.size[0] // (2 * layout.patch)


def shrunk(levels: NDArray[np.uint8], side: int) -> Floats:
    """A picture [H, W, 3] at side x side, by cubic interpolation between neighbours alone, as
    PyTorch does it without antialiasing: float32 [side, side, 3], in levels."""
    down: Floats = _cubic(levels, side, axis=0)
    return _cubic(down, side, axis=1)


def _cubic(values: NDArray[Any], side: int, *, axis: int) -> Floats:
    length = values.shape[axis]
    if length == side:
        return values.astype(np.float32)
    at = (np.arange(side) + 0.5) * (length / side) - 0.5
    first = np.floor(at).astype(np.int64)
    share = (at - first).astype(np.float32)
    shape = [side if i == axis else 1 for i in range(values.ndim)]
    taps = (
        np.take(values, np.clip(first + tap - 1, 0, length - 1), axis=axis) * weight.reshape(shape)
        for tap, weight in enumerate(_cubic_weights(share))
    )
    return np.asarray(sum(taps), np.float32)


def _cubic_weights(share: Floats, a: float = -0.75) -> tuple[Floats, ...]:
    def near(x: Floats) -> Floats:
        return np.asarray(((a + 2) * x - (a + 3)) * x * x + 1, np.float32)

    def far(x: Floats) -> Floats:
        return np.asarray(((a * x - 5 * a) * x + 8 * a) * x - 4 * a, np.float32)

    return far(share + 1), near(share), near(1 - share), far(2 - share)
