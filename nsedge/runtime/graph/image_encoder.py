"""The encoder of a model that sees, in a session: pictures in, rows for its decoder out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nsedge.bundle.pictures import PictureSteps
from nsedge.bundle.vision_lm import ImageEncoder
from nsedge.runtime.encode.rows import Picture
from nsedge.runtime.graph.session import open_session
from nsedge.runtime.vision.levels import level_table, normalised

Floats = NDArray[np.float32]


class ImageEncoderSession:
    """Runs batches of pictures. rows, hidden: the shape of what comes of each."""

    def __init__(
        self,
        graph: Path,
        encoder: ImageEncoder,
        *,
        steps: PictureSteps,
        rows: int,
        hidden: int,
        threads: int,
    ) -> None:
        """Open the graph; raises what `open_session` does."""
        self.size = steps.size
        """Height and width of pictures."""
        self._shape = rows, hidden
        self._io = encoder.io
        self._table = level_table(steps)
        self._session = open_session(
            graph, encoder.device, threads, requires=encoder.requires, patterns=False
        )

    def run(self, rows: Sequence[Picture]) -> Floats:
        """What the model makes of each picture: float32 [len(rows), rows, hidden]."""
        return self.see([row.pixels for row in rows])

    def see(self, pictures: Sequence[NDArray[np.uint8]]) -> Floats:
        """The same of pictures uint8 [3, H, W].

        Raises:
            ValueError: the graph gives something of another shape.
        """
        feeds = {self._io.pixel_values: normalised(np.stack(pictures), self._table)}
        (embeds,) = self._session.run([self._io.embeds], feeds)
        if embeds.shape != (len(pictures), *self._shape):
            raise ValueError(f"rows of shape {embeds.shape} came of {len(pictures)} pictures")
        return np.asarray(embeds, np.float32)
