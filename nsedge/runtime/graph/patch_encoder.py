"""The encoder of a model that sees pictures in sizes of their own, in a session."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nsedge.bundle.patched import PatchedPicture
from nsedge.bundle.vision_lm import ImageEncoder, PatchIo
from nsedge.errors import BundleInvalid
from nsedge.runtime.encode.rows import Picture
from nsedge.runtime.graph.session import open_session
from nsedge.runtime.vision.levels import level_table, normalised
from nsedge.runtime.vision.patches import patches_of, places_of, windows_of

Floats = NDArray[np.float32]


class PatchEncoderSession:
    """Runs pictures one by one: each has patches of its own number."""

    def __init__(
        self,
        graph: Path,
        encoder: ImageEncoder,
        *,
        layout: PatchedPicture,
        hidden: int,
        threads: int,
    ) -> None:
        """Open the graph, whose rows have `hidden` numbers; raises what `open_session` does, and

        Raises:
            BundleInvalid: the encoder takes no patches.
        """
        if encoder.io.patches is None:
            raise BundleInvalid(f"encoder {encoder.name} does not take pictures in patches")
        self.size = layout.steps.size
        """Height and width of the patterns that golden vectors are made of."""
        self._layout, self._hidden = layout, hidden
        self._io, self._patches = encoder.io, encoder.io.patches
        self._table = level_table(layout.steps)
        self._session = open_session(
            graph, encoder.device, threads, requires=encoder.requires, patterns=False
        )

    def run(self, rows: Sequence[Picture]) -> list[Floats]:
        """What the model makes of each picture: float32 [rows, hidden]."""
        return [self._made(row.pixels) for row in rows]

    def see(self, pictures: Sequence[NDArray[np.uint8]]) -> Floats:
        """The same of pictures uint8 [3, H, W] of one size: [pictures, rows, hidden].

        Raises:
            ValueError: the graph gives something of another shape.
        """
        return np.stack([self._made(picture) for picture in pictures])

    def _made(self, picture: NDArray[np.uint8]) -> Floats:
        unit = self._layout.unit
        rows, columns = picture.shape[1] // unit, picture.shape[2] // unit
        values = patches_of(self._layout, normalised(picture[None], self._table)[0])
        feeds = {
            self._io.pixel_values: values,
            **patch_feeds(self._patches, self._layout, rows, columns),
        }
        (embeds,) = self._session.run([self._io.embeds], feeds)
        if embeds.shape != (rows * columns, self._hidden):
            raise ValueError(f"rows of shape {embeds.shape} came of {rows} x {columns}")
        return np.asarray(embeds, np.float32)


def patch_feeds(io: PatchIo, layout: PatchedPicture, rows: int, columns: int) -> dict[str, Any]:
    """What a graph is told of the patches of a picture that rows x columns come of."""
    feeds: dict[str, Any] = {io.places: places_of(layout, rows, columns)}
    if io.windows is not None:
        found = windows_of(layout, rows, columns)
        feeds |= {
            io.windows.slots: found.slots,
            io.windows.filled: found.filled,
            io.windows.back: found.back,
        }
    return feeds
