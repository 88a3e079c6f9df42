"""Pixels as a graph takes them: levels of 8 bits to numbers, by a table a channel."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nsedge.api import Media
from nsedge.api.media import RAW_PICTURE
from nsedge.bundle.pictures import PictureSteps

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]


def level_table(steps: PictureSteps) -> Floats:
    """What each level of each channel becomes, float32 [3, 256]: rescaled in float64, then
    normalised in float32, as transformers does."""
    scaled = (np.arange(256, dtype=np.float64) * steps.rescale).astype(np.float32)
    mean, std = np.array(steps.mean, np.float32), np.array(steps.std, np.float32)
    return np.asarray((scaled[None] - mean[:, None]) / std[:, None], np.float32)


def normalised(pictures: Pixels, table: Floats) -> Floats:
    """Pictures uint8 [B, 3, H, W] through `level_table`: float32 of the same shape."""
    made = np.empty(pictures.shape, np.float32)
    for channel, levels in enumerate(table):
        made[:, channel] = levels[pictures[:, channel]]
    return made


def pattern(number: int, height: int, width: int) -> Pixels:
    """The picture of that number, uint8 [3, height, width], by whole numbers alone: what golden
    vectors of pictures are made of, so that no bundle carries a picture."""
    y, x = np.mgrid[0:height, 0:width].astype(np.int64)
    n = number + 1
    slopes = x * (255 * n // (n + 1)) // max(1, width - 1) + y * (255 // (n + 1)) // max(
        1, height - 1
    )
    tiles = ((x * (3 + n) // 16) ^ (y * (5 + n) // 16)) * (29 + 8 * n)
    rings = ((x - width // 2) ** 2 + (y - height // 2) ** 2) * n // 64
    return np.stack([slopes, tiles, rings]).astype(np.uint8)


def frame_of(pixels: Pixels) -> Media:
    """A picture [3, H, W] as a frame that no step changes but for its levels, where steps bring
    pictures to its size alone."""
    frame = np.ascontiguousarray(pixels.transpose(1, 2, 0))
    return Media(type=RAW_PICTURE, data=frame.tobytes(), shape=frame.shape, dtype="uint8")
