"""What eager PyTorch makes of pictures in the whole model: what encoders are held to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from exporters.model.vision_lm import TILED, VisionSource
from nsedge.bundle.anyres import AnyresPicture
from nsedge.bundle.patched import PatchedPicture
from nsedge.runtime.encode.rows import Picture, Pieces
from nsedge.runtime.graph.image_encoders import PictureSession
from nsedge.runtime.vision.anyres import fit_of, order_of
from nsedge.runtime.vision.levels import level_table, normalised, pattern
from nsedge.runtime.vision.patches import patches_of, size_of

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]
CHECK_PICTURES = range(100, 103)


@dataclass(frozen=True, kw_only=True)
class Truth:
    """Rows [tokens, hidden] of a picture, which an encoder takes in `pieces`."""

    pieces: Pieces
    rows: Floats

    def distance(self, session: PictureSession) -> float:
        """How far off the farthest number of a session's rows is."""
        pieces = [piece for piece in self.pieces.pieces if isinstance(piece, Picture)]
        found = self.pieces.joined(list(session.run(pieces)))
        return float(np.abs(found - self.rows).max())


def truths_of(model: Any, source: VisionSource) -> list[Truth]:
    """Those of a model, of a folder, for its family."""
    make = TRUTHS.get(str(source.whole["model_type"]), _whole)
    with torch.no_grad():
        return make(model, source)


def _whole(model: Any, source: VisionSource) -> list[Truth]:
    """Pictures, or tiles, one by one."""
    pictures, pixels = _patterns(source, len(CHECK_PICTURES))
    several = source.kind in TILED
    found = model.model.get_image_features(pixel_values=pixels[None] if several else pixels)
    return [
        Truth(pieces=Pieces(pieces=[Picture(picture, len(rows))]), rows=rows.numpy())
        for picture, rows in zip(pictures, found, strict=True)
    ]


def _anyres(model: Any, source: VisionSource) -> list[Truth]:
    """Pictures without a margin, with one above and below, and with one at the sides."""
    layout = source.pictures(0)
    if not isinstance(layout, AnyresPicture):
        raise TypeError(f"{source.folder} has no tiles of several sizes")
    high, wide = layout.resolutions[0]
    return [
        _in_tiles(model, source, layout, size)
        for size in ((high, wide), (high, wide * 3 // 2), (high * 3 // 2, wide))
    ]


def _in_tiles(
    model: Any, source: VisionSource, layout: AnyresPicture, size: tuple[int, int]
) -> Truth:
    order, fit = order_of(layout, *size), fit_of(layout, *size)
    pictures, pixels = _patterns(source, 1 + fit.down * fit.across)
    (rows,) = model.model.get_image_features(
        pixel_values=pixels[None], image_sizes=torch.tensor([size])
    )
    pieces = [Picture(picture, layout.rows) for picture in pictures]
    return Truth(pieces=Pieces(pieces=pieces, order=order), rows=rows.numpy())


def _patched(model: Any, source: VisionSource) -> list[Truth]:
    """Pictures of several shapes, of which windows at the edges are full, and are not."""
    layout = source.pictures(0)
    if not isinstance(layout, PatchedPicture):
        raise TypeError(f"{source.folder} takes no patches")
    table, (height, width) = level_table(layout.steps), layout.steps.size
    truths = []
    sizes = (height, width), (width, height // 2), (height * 2, width * 2)
    for number, size in zip(CHECK_PICTURES, sizes, strict=True):
        high, wide = size_of(layout, *size)
        picture = pattern(number, high, wide)
        patches = patches_of(layout, normalised(picture[None], table)[0])
        grid = torch.tensor([[1, high // layout.patch, wide // layout.patch]])
        (rows,) = model.model.get_image_features(
            pixel_values=torch.from_numpy(patches), image_grid_thw=grid
        )
        pieces = Pieces(pieces=[Picture(picture, len(rows))])
        truths.append(Truth(pieces=pieces, rows=rows.numpy()))
    return truths


def _patterns(source: VisionSource, count: int) -> tuple[list[Pixels], torch.Tensor]:
    steps = source.steps()
    pictures = [pattern(CHECK_PICTURES[0] + number, *steps.size) for number in range(count)]
    return pictures, torch.from_numpy(normalised(np.stack(pictures), level_table(steps)))


TRUTHS: dict[str, Callable[[Any, VisionSource], list[Truth]]] = {
    "llava_next": _anyres,
    "qwen2_vl": _patched,
    "qwen2_5_vl": _patched,
}
"""By model_type, of families whose pictures are not taken one by one."""
