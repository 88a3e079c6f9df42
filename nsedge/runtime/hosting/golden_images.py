"""Whether a model of pictures makes its golden samples here, before it is ready."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nsedge.bundle.diffusion import GoldenImage
from nsedge.errors import BundleInvalid
from nsedge.runtime.graph.diffusion import Chunk, DiffusionSession, Row

Floats = NDArray[np.float32]

NUMBERS = 96
"""Of an output that a golden sample has."""
LEAST_COSINE = 0.98
"""To those of fp32; exports refuse less, with a margin for kernels of other processors."""


def noise_of(seed: int, channels: int, side: int) -> Floats:
    """The noise of a golden sample, float32 [channels, side, side]."""
    return np.random.default_rng(seed).standard_normal((channels, side, side), np.float32)


def chosen(output: Floats) -> Floats:
    """Numbers of an output, evenly spaced: float32 [NUMBERS], or as many as there are."""
    flat = output.reshape(-1)
    count = min(NUMBERS, flat.size)
    return np.asarray(flat[np.linspace(0, flat.size - 1, count).round().astype(np.int64)])


def made(session: DiffusionSession, sample: GoldenImage) -> tuple[Floats, Floats]:
    """What the graphs give of a sample: the denoiser's numbers, and the decoder's."""
    noise = noise_of(sample.seed, session.form.channels, sample.side)
    row = Row(sample=noise, timestep=sample.timestep, prompted=session.read([sample.ids]))
    return chosen(session.denoise([row])[0]), chosen(session.decoded(noise))


def cosines(session: DiffusionSession, samples: Sequence[GoldenImage]) -> list[float]:
    """How near what the graphs give is to what fp32 gave: of each sample, the lesser of its two
    cosines."""
    found = []
    for sample in samples:
        denoised, decoded = made(session, sample)
        found.append(min(_cosine(denoised, sample.denoised), _cosine(decoded, sample.decoded)))
    return found


def check(
    session: DiffusionSession, samples: Sequence[GoldenImage], *, variant: str, name: str
) -> None:
    """Hold `variant` of the bundle `name` to golden samples.

    Raises:
        BundleInvalid: one does not come out near enough.
    """
    least = min(cosines(session, samples))
    if not least >= LEAST_COSINE:  # false for NaN, too
        raise BundleInvalid(
            f"{name}: variant {variant} makes golden samples with a cosine of {least:.4f} to those"
            f" of fp32; {LEAST_COSINE:.4f} at least was to be expected"
        )


def _cosine(found: Floats, wanted: Sequence[float]) -> float:
    other = np.array(wanted, np.float64)
    length = float(np.linalg.norm(found.astype(np.float64)) * np.linalg.norm(other))
    return float(found @ other) / max(length, 1e-12)


def rehearse(
    session: DiffusionSession, chunks: Sequence[Chunk], *, rows: int, shape: tuple[int, int, int]
) -> None:
    """Run everything once, on zeros: prompts in `chunks`, and `rows` latents of `shape`."""
    prompted = session.read(chunks)
    nothing = np.zeros(shape, np.float32)
    session.denoise([Row(sample=nothing, timestep=1.0, prompted=prompted)] * rows)
    session.decoded(nothing)
    if session.encodes:
        _, height, width = shape
        factor = session.form.factor
        session.encode(np.zeros((3, height * factor, width * factor), np.float32))
