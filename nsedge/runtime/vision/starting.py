"""Pictures that others go on from, and masks of them, as arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nsedge.api import Media
from nsedge.bundle.pictures import PictureSteps, Resize
from nsedge.errors import NsedgeError
from nsedge.runtime.vision.levels import Pixels
from nsedge.runtime.vision.reader import PictureReader

LUMA = (0.299, 0.587, 0.114)
"""What red, green and blue add to how light a pixel is (ITU-R BT.601)."""


def pixels_of(media: Media, size: tuple[int, int], *, max_pixels: int) -> NDArray[np.float32]:
    """A picture, brought to `size` (height, width) as diffusers does it: float32 [3, H, W], from -1
    to 1.

    Raises:
        InvalidMedia: it is no picture, or damaged.
        MessageTooLarge: it has too many pixels.
    """
    levels = _read(media, size, "image", max_pixels=max_pixels)
    return levels.astype(np.float32) / np.float32(127.5) - np.float32(1)


def mask_of(media: Media, size: tuple[int, int], *, max_pixels: int) -> NDArray[np.bool_]:
    """Where a picture, brought to `size` (height, width), is light: bool [H, W]; raises as
    `pixels_of` does."""
    levels = _read(media, size, "mask", max_pixels=max_pixels)
    light = np.tensordot(np.array(LUMA), levels.astype(np.float64), axes=1)
    return np.asarray(light >= 127.5)


def _read(media: Media, size: tuple[int, int], param: str, *, max_pixels: int) -> Pixels:
    height, width = size
    resize = Resize(height=height, width=width, filter="lanczos")
    steps = PictureSteps(resize=resize, rescale=1 / 255)
    try:
        return PictureReader(steps, max_pixels=max_pixels).read(media)
    except NsedgeError as error:
        raise type(error)(f"{param}: {error.message}", param=param) from error
