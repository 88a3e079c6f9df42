"""What is run once as a model of pictures loads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from nsedge.runtime.graph.diffusion import (
    Chunk,
    DiffusionSession,
    Encoded,
    LatentForm,
    Prompted,
    Row,
)
from nsedge.runtime.hosting import golden_images

Floats = NDArray[np.float32]
SHAPE = (4, 6, 10)


class Graphs:
    """Tells what shapes were run."""

    form = LatentForm(channels=4, factor=8, scaling=1.0, shift=0.0)

    def __init__(self, *, encodes: bool) -> None:
        self.encodes = encodes
        self.ran: list[tuple[str, Any]] = []

    def read(self, chunks: Sequence[Chunk]) -> Prompted:
        self.ran.append(("read", len(chunks)))
        return Prompted(states=np.zeros((77, 8), np.float32), pooled=None)

    def denoise(self, rows: Sequence[Row]) -> Floats:
        self.ran.append(("denoise", (len(rows), *rows[0].sample.shape)))
        return np.stack([row.sample for row in rows])

    def decoded(self, latents: Floats) -> Floats:
        self.ran.append(("decoded", latents.shape))
        return np.zeros((3, latents.shape[1] * 8, latents.shape[2] * 8), np.float32)

    def encode(self, pixels: Floats) -> Encoded:
        self.ran.append(("encode", pixels.shape))
        mean = np.zeros(SHAPE, np.float32)
        return Encoded(mean=mean, deviation=mean, form=self.form)


@pytest.mark.parametrize("encodes", [False, True])
def test_the_largest_runs_of_all_graphs_are_made(encodes: bool) -> None:
    graphs = Graphs(encodes=encodes)
    session = cast(DiffusionSession, graphs)
    golden_images.rehearse(session, [((1, 2),)], rows=3, shape=SHAPE)
    wanted = [("read", 1), ("denoise", (3, *SHAPE)), ("decoded", SHAPE)]
    assert graphs.ran == [*wanted, *([("encode", (3, 48, 80))] if encodes else [])]
