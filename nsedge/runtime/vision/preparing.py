"""A picture to the size that a graph takes, by Pillow's own filters."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nsedge.api import Media
from nsedge.bundle.pictures import Crop, PictureSteps
from nsedge.bundle.vision_lm import TiledPicture
from nsedge.runtime.vision.decoding import check_pixels, decode, measure
from nsedge.runtime.vision.tiles import grid_of

FILTERS = {each.name.lower(): each for each in Image.Resampling}


def prepare(media: Media, steps: PictureSteps, *, max_pixels: int) -> NDArray[np.uint8]:
    """What `steps` make of a picture, but for its levels: uint8 [3, H, W].

    Raises:
        InvalidMedia: it is no picture, or damaged.
        MessageTooLarge: it has more than `max_pixels`, or would once it is resized.
    """
    image = decode(media, max_pixels=max_pixels)
    if steps.resize is not None:
        height, width = steps.resize.target(image.height, image.width)
        check_pixels(width, height, max_pixels=max_pixels)
        image = image.resize((width, height), FILTERS[steps.resize.filter])
    if steps.crop is not None:
        image = _cropped(image, steps.crop)
    levels = np.asarray(image, np.uint8)
    if levels.shape[:2] != steps.size:  # no step brings it to one
        raise RuntimeError(f"a picture came out as {levels.shape}, not {steps.size}")
    return np.ascontiguousarray(levels.transpose(2, 0, 1))


def prepare_tiles(
    media: Media, layout: TiledPicture, *, max_pixels: int
) -> list[NDArray[np.uint8]]:
    """The tiles of a picture, row by row, and the whole of it behind them: uint8 [3, tile, tile].

    Raises as `prepare` does.
    """
    resize = layout.steps.resize
    if resize is None:  # tiles come out in one size
        raise RuntimeError("tiles are not resized")
    grid = grid_of(layout, *measure(media, max_pixels=max_pixels))
    for size in (grid.first, grid.second):
        check_pixels(*size[::-1], max_pixels=max_pixels)
    image, side, method = decode(media, max_pixels=max_pixels), layout.tile, FILTERS[resize.filter]
    image = image.resize(grid.first[::-1], method).resize(grid.second[::-1], method)
    tiles = [
        image.crop((left, top, left + side, top + side))
        for top in range(0, grid.rows * side, side)
        for left in range(0, grid.columns * side, side)
    ]
    whole = image if grid.second == (side, side) else image.resize((side, side), method)
    return [
        np.ascontiguousarray(np.asarray(tile, np.uint8).transpose(2, 0, 1))
        for tile in (*tiles, whole)
    ]


def _cropped(image: Image.Image, crop: Crop) -> Image.Image:
    """The middle; of an odd remainder, the larger half is cut off below and at the right, and the
    larger margin is added above and at the left, as transformers does."""
    top, left = (image.height - crop.height) // 2, (image.width - crop.width) // 2
    return image.crop((left, top, left + crop.width, top + crop.height))
