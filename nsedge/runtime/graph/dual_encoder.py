"""The two graphs of a dual encoder in sessions: token ids or pictures in, a vector each out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nsedge.bundle.dual_encoder import DualEncoder, ImageTower, TextTower
from nsedge.bundle.pictures import PictureSteps
from nsedge.runtime.encode.rows import Picture, Row
from nsedge.runtime.graph.session import open_session
from nsedge.runtime.vision.levels import level_table, normalised

Floats = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class TowerFacts:
    """What is to be known of both towers beside their graphs. padded_to: tokens of every text; None
    is as many as the longest of a batch has."""

    pad_id: int
    padded_to: int | None
    dimensions: int
    steps: PictureSteps

    @classmethod
    def of(cls, manifest: DualEncoder) -> TowerFacts:
        """What a manifest says."""
        return cls(
            pad_id=manifest.pad_token_id,
            padded_to=manifest.context_length if manifest.is_padded else None,
            dimensions=manifest.dimensions,
            steps=manifest.steps,
        )


class DualEncoderSession:
    """Runs batches of texts, and batches of pictures."""

    def __init__(
        self,
        folder: Path,
        text: TextTower,
        image: ImageTower,
        *,
        facts: TowerFacts,
        threads: int,
    ) -> None:
        """Open both graphs, which are named below `folder`; raises what `open_session` does."""
        self.size = facts.steps.size
        """Height and width of pictures."""
        self._facts = facts
        self._text_io, self._image_io = text.io, image.io
        self._table = level_table(facts.steps)
        self._texts, self._pictures = (
            open_session(
                folder / tower.graph,
                tower.device,
                threads,
                requires=tower.requires,
                patterns=False,
            )
            for tower in (text, image)
        )

    @property
    def provider(self) -> str:
        """The execution provider in use."""
        return str(self._texts.get_providers()[0])

    def run(self, rows: Sequence[Row]) -> Floats:
        """Vectors float32 [len(rows), dimensions] of rows that are all texts, or all pictures."""
        pictures = [row.pixels for row in rows if isinstance(row, Picture)]
        if pictures:
            return self.see(pictures)
        return self.read([row for row in rows if not isinstance(row, Picture)])

    def read(self, rows: Sequence[Sequence[int]]) -> Floats:
        """Vectors float32 [len(rows), dimensions] of texts as token ids, none of them empty.

        Raises:
            ValueError: the graph gives something of another shape.
        """
        width = self._facts.padded_to or max(map(len, rows))
        ids = np.full((len(rows), width), self._facts.pad_id, np.int64)
        for at, row in enumerate(rows):
            ids[at, : len(row)] = row
        io = self._text_io
        return self._vectors(self._texts, io.embedding, {io.input_ids: ids}, len(rows))

    def see(self, pictures: Sequence[NDArray[np.uint8]]) -> Floats:
        """Vectors float32 [len(pictures), dimensions] of pictures uint8 [3, H, W].

        Raises:
            ValueError: the graph gives something of another shape.
        """
        pixels, io = normalised(np.stack(pictures), self._table), self._image_io
        feeds = {io.pixel_values: pixels}
        return self._vectors(self._pictures, io.embedding, feeds, len(pictures))

    def _vectors(
        self, session: Any, output: str, feeds: dict[str, NDArray[Any]], rows: int
    ) -> Floats:
        (vectors,) = session.run([output], feeds)
        if vectors.shape != (rows, self._facts.dimensions):
            raise ValueError(f"vectors of shape {vectors.shape} came of {rows} inputs")
        return np.asarray(vectors, np.float32)
