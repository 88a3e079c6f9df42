"""Pictures of a prompt: what stands there for one, and what the encoder takes of it. What decodes
them is imported with the first."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nsedge.api import Media
from nsedge.bundle.vision_lm import PicturePrompt, Pictures, WholePicture
from nsedge.errors import NsedgeError
from nsedge.runtime.vision.tiles import grid_of, written

Pixels = NDArray[np.uint8]


class PromptPictures:
    """Reads the pictures of one model's prompts. Thread-safe."""

    def __init__(self, layout: Pictures, prompt: PicturePrompt, *, max_pixels: int) -> None:
        """`max_pixels`: of one picture, before and after it is resized."""
        self._layout = layout
        self._prompt = prompt
        self._most = {"max_pixels": max_pixels}
        self._whole = f"{prompt.before}{prompt.token * layout.rows}{prompt.after}"

    def written(self, media: Media) -> str:
        """What stands in a prompt for a picture; of one that may be cut, its size is looked at.

        Raises:
            InvalidMedia: it is no picture, or damaged.
            MessageTooLarge: it has too many pixels.
        """
        layout = self._layout
        if isinstance(layout, WholePicture):
            return self._whole
        size = _told(lambda: _module("decoding").measure(media, **self._most))
        return written(layout, self._prompt.token, grid_of(layout, *size))

    def read(self, media: Media) -> list[Pixels]:
        """What the encoder takes of a picture, in the order of its rows: uint8 [3, H, W] each.

        Raises as `written`.
        """
        layout, preparing = self._layout, _module("preparing")
        if isinstance(layout, WholePicture):
            return [_told(lambda: preparing.prepare(media, layout.steps, **self._most))]
        return list(_told(lambda: preparing.prepare_tiles(media, layout, **self._most)))


def _module(name: str) -> Any:
    return importlib.import_module(f"nsedge.runtime.vision.{name}")


def _told(look: Callable[[], Any]) -> Any:
    try:
        return look()
    except NsedgeError as error:
        raise type(error)(f"a picture: {error.message}", param="messages") from error
