"""The encoder of a model that sees pictures in crops, some patches of which are none of the
picture's: in a session."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from nsedge.runtime.encode.rows import Crop, Picture
from nsedge.runtime.graph.image_encoder import Floats, ImageEncoderSession
from nsedge.runtime.vision.levels import normalised

AT_ONCE = 4
"""Crops of one run: what attention keeps between patches is 64 MB of each, of the model's size."""


class CropEncoderSession(ImageEncoderSession):
    """Runs batches of crops."""

    def run(self, rows: Sequence[Picture]) -> Floats:
        """What the model makes of each crop: float32 [len(rows), rows, hidden]."""
        made = [
            self._encoded(rows[begin : begin + AT_ONCE]) for begin in range(0, len(rows), AT_ONCE)
        ]
        return np.concatenate(made)

    def see(self, pictures: Sequence[NDArray[np.uint8]]) -> Floats:
        """The same of crops uint8 [3, H, W] that are all picture."""
        patches = self.patches
        nothing, everywhere = np.zeros(patches, np.float32), np.arange(patches)
        return self.run([Crop(one, patches, nothing, everywhere) for one in pictures])

    @property
    def patches(self) -> int:
        """Of a crop: four make a row, and two rows are none of patches."""
        return 4 * (self._shape[0] - 2)

    def _encoded(self, crops: Sequence[Picture]) -> Floats:
        whole = [crop for crop in crops if isinstance(crop, Crop)]
        if len(whole) != len(crops):
            raise TypeError("a picture that is no crop")
        feeds = {
            self._io.pixel_values: np.concatenate(list(self._numbers(whole))),
            self._io.bias: np.stack([crop.bias for crop in whole]),
            self._io.places: np.stack([crop.places for crop in whole]),
        }
        (embeds,) = self._session.run([self._io.embeds], feeds)
        if embeds.shape != (len(crops), *self._shape):
            raise ValueError(f"rows of shape {embeds.shape} came of {len(crops)} crops")
        return np.asarray(embeds, np.float32)

    def _numbers(self, crops: Sequence[Crop]) -> Iterator[Floats]:
        for dtype, same in groupby(crops, key=lambda crop: crop.pixels.dtype):
            pixels = np.stack([crop.pixels for crop in same])
            if dtype == np.uint8:
                yield normalised(pixels, self._table)
            else:
                yield self._between(pixels)

    def _between(self, levels: Floats) -> Floats:
        """Levels between whole ones, on the line through the first and last of the table."""
        first, last = (self._table[:, at].reshape(3, 1, 1) for at in (0, 255))
        return np.asarray(levels * ((last - first) / np.float32(255)) + first, np.float32)
