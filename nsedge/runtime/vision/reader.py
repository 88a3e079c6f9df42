"""Reads pictures for one model. What decodes them is imported with the first."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import numpy as np
from numpy.typing import NDArray

from nsedge.api import Media
from nsedge.bundle.pictures import PictureSteps
from nsedge.errors import NsedgeError
from nsedge.runtime.vision import apart

Prepare = Callable[..., NDArray[np.uint8]]


class PictureReader:
    """Turns media into what a model's graph takes, but for its levels. Thread-safe."""

    def __init__(self, steps: PictureSteps, *, max_pixels: int) -> None:
        """`max_pixels`: of one picture, before and after it is resized."""
        self._steps = steps
        self._max_pixels = max_pixels

    def read(self, media: Media, number: int | None = None) -> NDArray[np.uint8]:
        """The picture, of input `number` where there are several, uint8 [3, H, W].

        Raises:
            InvalidMedia: it is no picture, or damaged.
            MessageTooLarge: it has too many pixels.
        """
        prepare = cast(Prepare, apart.module("preparing").prepare)
        try:
            return prepare(media, self._steps, max_pixels=self._max_pixels)
        except NsedgeError as error:
            if number is None:
                raise type(error)(error.message, param="media") from error
            raise type(error)(f"input {number}: {error.message}", param="inputs") from error
