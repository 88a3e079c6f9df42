"""The pictures of a batch as the encoder of a model takes them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from exporters.errors import ExportError
from exporters.finetune.examples import PictureFile
from exporters.finetune.pictures import pictures_of
from exporters.model.vision_lm import TILED, VisionSource
from nsedge.api import Media
from nsedge.errors import NsedgeError
from nsedge.runtime.vision.crops import CropPixels
from nsedge.runtime.vision.levels import level_table, normalised

KEPT_BYTES = 512 * 2**20
"""Of pictures that have been brought to size, so that the next epoch need not."""

Pieces = list[NDArray[np.uint8]]


class Pixels:
    """Reads the pictures that a dataset names."""

    def __init__(self, source: VisionSource, folder: Path) -> None:
        """folder: where the dataset lies.

        Raises:
            Refused: the base's pictures have no form here.
        """
        self._folder = folder
        self._reader = pictures_of(source)
        self._table = level_table(source.pictures(source.rows()).steps)
        self._is_tiled = source.kind in TILED
        self._kept: dict[str, Pieces] = {}
        self._room = KEPT_BYTES

    def check(self, pictures: Iterable[PictureFile]) -> None:
        """Find out before any long work whether files are there.

        Raises:
            ExportError: one is not.
        """
        for path in {self._folder / one.path for one in pictures}:
            if not path.is_file():
                raise ExportError(f"{path}: the dataset names this picture, and it is not there")

    def __call__(self, pictures: Sequence[PictureFile]) -> Any:
        """Pixel values of pictures one after the other: a torch tensor float32 [P, 3, H, W], of a
        model of tiles [1, P, 3, H, W].

        Raises:
            ExportError: a file is missing, or another than it was.
        """
        pieces = [piece for one in pictures for piece in self._pieces(one)]
        values = torch.from_numpy(normalised(np.stack(pieces), self._table))
        return values[None] if self._is_tiled else values

    def _pieces(self, picture: PictureFile) -> Pieces:
        if (known := self._kept.get(picture.sha256)) is not None:
            return known
        path = self._folder / picture.path
        try:
            media = Media(type="image/png", data=path.read_bytes())
            if media.sha256 != picture.sha256:
                raise ExportError(
                    f"{path}: the picture is another than when the dataset was made; make that anew"
                )
            pieces = [_whole(piece) for piece in self._reader.read(media).pieces]
        except OSError as error:
            raise ExportError(f"{path}: {error.strerror}") from error
        except NsedgeError as error:
            raise ExportError(f"{path}: {error.message}") from error
        size = sum(piece.nbytes for piece in pieces)
        if size <= self._room:
            self._room -= size
            self._kept[picture.sha256] = pieces
        return pieces


def _whole(piece: NDArray[np.uint8] | CropPixels) -> NDArray[np.uint8]:
    """A piece whose patches are all the picture's.

    Raises:
        ExportError: some are not.
    """
    if isinstance(piece, CropPixels):
        raise ExportError("models that see pictures in crops are not trained here")
    return piece
