"""The encoder of a model that sees, opened as it takes pictures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nsedge.bundle.patched import PatchedPicture
from nsedge.bundle.vision_lm import CroppedPicture, ImageEncoder, Pictures
from nsedge.runtime.encode.rows import Picture
from nsedge.runtime.graph.crop_encoder import CropEncoderSession
from nsedge.runtime.graph.image_encoder import ImageEncoderSession
from nsedge.runtime.graph.patch_encoder import PatchEncoderSession

Floats = NDArray[np.float32]


class PictureSession(Protocol):
    """Pictures in, rows for the decoder out."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the patterns that golden vectors are made of."""
        ...

    def run(self, rows: Sequence[Picture]) -> Iterable[Floats]:
        """What the model makes of each picture: float32 [rows, hidden]."""
        ...

    def see(self, pictures: Sequence[NDArray[np.uint8]]) -> Floats:
        """The same of pictures uint8 [3, H, W] of that size: [pictures, rows, hidden].

        Raises:
            ValueError: the graph gives something of another shape.
        """
        ...


def open_image_encoder(
    graph: Path, encoder: ImageEncoder, *, pictures: Pictures, hidden: int, threads: int
) -> PictureSession:
    """The encoder of that graph, which is given `pictures` and makes rows of `hidden` numbers;
    raises what `open_session` does."""
    if isinstance(pictures, PatchedPicture):
        return PatchEncoderSession(graph, encoder, layout=pictures, hidden=hidden, threads=threads)
    kind = CropEncoderSession if isinstance(pictures, CroppedPicture) else ImageEncoderSession
    return kind(
        graph,
        encoder,
        steps=pictures.steps,
        rows=pictures.rows,
        hidden=hidden,
        threads=threads,
    )
