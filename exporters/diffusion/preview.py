"""What channels of latents add to red, green and blue, found by least squares over patterns: a
small picture without the decoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from exporters.diffusion.records import ENCODER_FILE
from nsedge.bundle.diffusion import EncoderIo, PreviewRow
from nsedge.runtime.graph.session import open_session
from nsedge.runtime.vision.levels import pattern

PATTERNS = range(12)
SIDES = 4
"""Of the least size that a model takes, in a pattern."""


def preview_of(
    folder: Path, *, factor: int, step: int, scaling: float, shift: float
) -> tuple[PreviewRow, PreviewRow, PreviewRow]:
    """The three rows, by the encoder in `folder`; `step` is the least side in pixels."""
    session, io = open_session(folder / ENCODER_FILE, "cpu", 0), EncoderIo()
    side = SIDES * step
    given, wanted = [], []
    for number in PATTERNS:
        pixels = pattern(number, side, side).astype(np.float32) / 127.5 - 1
        (mean,) = session.run([io.mean], {io.pixels: pixels[None].astype(np.float32)})
        latents = ((mean[0] - shift) * scaling).reshape(len(mean[0]), -1)
        blocks = pixels.reshape(3, side // factor, factor, side // factor, factor)
        given.append(np.vstack([latents, np.ones(latents.shape[1])]))
        wanted.append(blocks.mean(axis=(2, 4)).reshape(3, -1))
    found, *_ = np.linalg.lstsq(np.hstack(given).T, np.hstack(wanted).T, rcond=None)
    red, green, blue = (tuple(round(float(one), 6) for one in row) for row in found.T)
    return red, green, blue
