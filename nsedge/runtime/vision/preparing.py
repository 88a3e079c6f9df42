"""A picture to the size that a graph takes, by Pillow's own filters."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nsedge.api import Media
from nsedge.bundle.anyres import AnyresPicture
from nsedge.bundle.patched import PatchedPicture
from nsedge.bundle.pictures import Crop, PictureSteps
from nsedge.bundle.vision_lm import CroppedPicture, TiledPicture
from nsedge.runtime.vision.anyres import fit_of, order_of
from nsedge.runtime.vision.crops import CropPixels, arrangement, frame_of, patches_of, shrunk
from nsedge.runtime.vision.decoding import check_pixels, decode, measure
from nsedge.runtime.vision.patches import size_of
from nsedge.runtime.vision.taken import Taken
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
    if (image.height, image.width) != steps.size:  # no step brings it to one
        raise RuntimeError(f"a picture came out as {image.size}, not {steps.size}")
    return _channels_first(image)


def prepare_tiles(
    media: Media, layout: TiledPicture, *, max_pixels: int
) -> list[NDArray[np.uint8]]:
    """The tiles of a picture, row by row, and the whole of it behind them: uint8 [3, tile, tile].

    Raises as `prepare` does.
    """
    grid = grid_of(layout, *measure(media, max_pixels=max_pixels))
    for size in (grid.first, grid.second):
        check_pixels(*size[::-1], max_pixels=max_pixels)
    image, side = decode(media, max_pixels=max_pixels), layout.tile
    method = _filter(layout.steps)
    image = image.resize(grid.first[::-1], method).resize(grid.second[::-1], method)
    tiles = _cut(image, side, down=grid.rows, across=grid.columns)
    whole = image if grid.second == (side, side) else image.resize((side, side), method)
    return [_channels_first(tile) for tile in (*tiles, whole)]


def prepare_anyres(media: Media, layout: AnyresPicture, *, max_pixels: int) -> Taken:
    """The whole picture, and behind it its tiles, row by row, [3, tile, tile] each.

    Raises as `prepare` does.
    """
    image = decode(media, max_pixels=max_pixels)
    side, method = layout.tile, _filter(layout.steps)
    pieces = [image.resize((side, side), method)]
    if layout.resolutions:
        fit = fit_of(layout, image.height, image.width)
        check_pixels(*fit.outer[::-1], max_pixels=max_pixels)
        framed = Image.new("RGB", fit.outer[::-1])
        top, left = ((out - own) // 2 for out, own in zip(fit.outer, fit.inner, strict=True))
        framed.paste(image.resize(fit.inner[::-1], method), (left, top))
        pieces += _cut(framed, side, down=fit.down, across=fit.across)
    return Taken(
        pieces=[_channels_first(one) for one in pieces],
        order=order_of(layout, image.height, image.width),
    )


def prepare_patched(media: Media, layout: PatchedPicture, *, max_pixels: int) -> NDArray[np.uint8]:
    """The picture in the size that its patches fill: uint8 [3, H, W].

    Raises as `prepare` does, and

    Raises:
        InvalidMedia: it is too long for its width, or too wide for its height.
    """
    image = decode(media, max_pixels=max_pixels)
    height, width = size_of(layout, image.height, image.width)
    check_pixels(width, height, max_pixels=max_pixels)
    return _channels_first(image.resize((width, height), _filter(layout.steps)))


def _filter(steps: PictureSteps) -> Image.Resampling:
    """How pictures and tiles are resized."""
    if steps.resize is None:  # layouts see to it
        raise RuntimeError("pictures are not resized")
    return FILTERS[steps.resize.filter]


def _cut(image: Image.Image, side: int, *, down: int, across: int) -> list[Image.Image]:
    """The tiles of a picture, row by row."""
    return [
        image.crop((left, top, left + side, top + side))
        for top in range(0, down * side, side)
        for left in range(0, across * side, side)
    ]


def _channels_first(image: Image.Image) -> NDArray[np.uint8]:
    return np.ascontiguousarray(np.asarray(image, np.uint8).transpose(2, 0, 1))


def prepare_crops(media: Media, layout: CroppedPicture, *, max_pixels: int) -> Taken:
    """The whole of a picture, and its crops behind it, row by row.

    Raises as `prepare` does.
    """
    side = layout.steps.size[0]
    image = decode(media, max_pixels=max_pixels)
    frame = frame_of(layout, image.height, image.width)
    height, width = frame.rows * side, frame.columns * side
    check_pixels(width, height, max_pixels=max_pixels)
    image = image.resize(frame.size[::-1], _filter(layout.steps))
    canvas = np.full((height, width, 3), 255, np.uint8)
    canvas[: frame.size[0], : frame.size[1]] = np.asarray(image, np.uint8)
    patches = (side // layout.patch) ** 2
    everywhere = np.zeros(patches, np.float32), np.arange(patches)
    whole = np.ascontiguousarray(shrunk(canvas, side).transpose(2, 0, 1))
    pieces = [CropPixels(pixels=whole, bias=everywhere[0], places=everywhere[1])]
    for row in range(frame.rows):
        for column in range(frame.columns):
            part = canvas[row * side : (row + 1) * side, column * side : (column + 1) * side]
            pixels = np.ascontiguousarray(part.transpose(2, 0, 1))
            bias, places = patches_of(layout, frame, row, column)
            pieces.append(CropPixels(pixels=pixels, bias=bias, places=places))
    return Taken(pieces=pieces, order=arrangement(layout, frame))


def _cropped(image: Image.Image, crop: Crop) -> Image.Image:
    """The middle; of an odd remainder, the larger half is cut off below and at the right, and the
    larger margin is added above and at the left, as transformers does."""
    top, left = (image.height - crop.height) // 2, (image.width - crop.width) // 2
    return image.crop((left, top, left + crop.width, top + crop.height))
