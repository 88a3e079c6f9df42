"""How pictures become what a graph takes: the steps, as data of a manifest."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from nsedge.bundle.fields import Positive, Strict

CHANNELS = 3
Levels = tuple[float, float, float]


class Resize(Strict, frozen=True, kw_only=True):
    """The first step: to `height` x `width`, or the shorter side to `shortest_edge` and the longer
    one in proportion, rounded down. filter: how pixels are weighed, by Pillow's name of it."""

    shortest_edge: Positive | None = None
    height: Positive | None = None
    width: Positive | None = None
    filter: Annotated[str, Meta(pattern=r"^(nearest|box|bilinear|hamming|bicubic|lanczos)\Z")]

    def __post_init__(self) -> None:
        sides = self.height is not None, self.width is not None
        if sides != ((self.shortest_edge is None),) * 2:
            raise ValueError("a resize has shortest_edge, or height and width")

    def target(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of a picture of these, resized."""
        if self.shortest_edge is None:
            return self.height or height, self.width or width
        short, long = min(height, width), max(height, width)
        longer = int(self.shortest_edge * long / short)
        return (longer, self.shortest_edge) if width <= height else (self.shortest_edge, longer)


class Crop(Strict, frozen=True, kw_only=True):
    """The second step: the middle of the picture; what lies beyond its edges is black."""

    height: Positive
    width: Positive


class PictureSteps(Strict, frozen=True, kw_only=True):
    """From a picture in RGB, 8 bits a channel, to float32 [3, height, width].

    Resize, crop, then each level v of a channel becomes (v * rescale - mean) / std.
    """

    resize: Resize | None = None
    crop: Crop | None = None
    rescale: float
    mean: Levels = (0.0, 0.0, 0.0)
    std: Levels = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        if self.crop is None and (self.resize is None or self.resize.height is None):
            raise ValueError("pictures come out in one size: by crop, or by height and width")
        if not all(level > 0 for level in self.std):
            raise ValueError("std must be above 0")

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of what comes out."""
        if self.crop is not None:
            return self.crop.height, self.crop.width
        resize = self.resize or Resize(height=1, width=1, filter="box")
        return resize.height or 1, resize.width or 1
