"""The graphs of a model of pictures in sessions: prompts to states, noise out of latents, latents
to pixels and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nsedge.bundle.diffusion import (
    DecoderVariant,
    DenoiserVariant,
    EncoderVariant,
    TextEncoderVariant,
)
from nsedge.bundle.fields import AnyVariant
from nsedge.errors import ComputationFailure
from nsedge.runtime.graph.session import open_session

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]
Chunk = tuple[tuple[int, ...], ...]
"""A piece of a prompt: its tokens for each text encoder."""


@dataclass(frozen=True, kw_only=True)
class DiffusionGraphs:
    """Which graphs are run."""

    text_encoders: tuple[TextEncoderVariant, ...]
    denoiser: DenoiserVariant
    decoder: DecoderVariant
    encoder: EncoderVariant | None

    @property
    def names(self) -> tuple[str, ...]:
        """Of their files, the denoiser's first."""
        encoder = () if self.encoder is None else (self.encoder.graph,)
        texts = (variant.graph for variant in self.text_encoders)
        return (self.denoiser.graph, *texts, self.decoder.graph, *encoder)


@dataclass(frozen=True, kw_only=True)
class LatentForm:
    """How latents lie: their channels, pixels to a side of a place, and what they are scaled by
    beside what the autoencoder has."""

    channels: int
    factor: int
    scaling: float
    shift: float


@dataclass(frozen=True, eq=False, kw_only=True)
class Prompted:
    """What the text encoders made of a prompt: states float32 [T, width]; pooled float32 [width],
    None where the denoiser takes none."""

    states: Floats
    pooled: Floats | None

    def nothing(self) -> Prompted:
        """Zeros of the same shape."""
        pooled = None if self.pooled is None else np.zeros_like(self.pooled)
        return Prompted(states=np.zeros_like(self.states), pooled=pooled)


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Encoded:
    """What the encoder made of a picture: mean and deviation, float32 [channels, H, W], and the
    form of latents that these become."""

    mean: Floats
    deviation: Floats
    form: LatentForm

    def latents(self, noise: Floats) -> Floats:
        """Latents that are drawn by noise, as they are denoised."""
        drawn = self.mean + self.deviation * noise - np.float32(self.form.shift)
        return np.asarray(drawn * np.float32(self.form.scaling), np.float32)


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Row:
    """What the denoiser is asked about: a sample float32 [channels, H, W] at a timestep."""

    sample: Floats
    timestep: float
    prompted: Prompted


class DiffusionSession:
    """Runs the graphs."""

    def __init__(
        self, folder: Path, graphs: DiffusionGraphs, form: LatentForm, *, threads: int
    ) -> None:
        """Open all graphs, which are named below `folder`; raises what `open_session` does."""
        self.form = form
        self._graphs = graphs

        def opened(variant: AnyVariant) -> Any:
            return open_session(
                folder / variant.graph,
                variant.device,
                threads,
                requires=variant.requires,
                patterns=False,
            )

        self._texts = [opened(variant) for variant in graphs.text_encoders]
        self._denoiser = opened(graphs.denoiser)
        self._decoder = opened(graphs.decoder)
        self._encoder = None if graphs.encoder is None else opened(graphs.encoder)

    @property
    def provider(self) -> str:
        """The execution provider in use."""
        return str(self._denoiser.get_providers()[0])

    def read(self, chunks: Sequence[Chunk]) -> Prompted:
        """What a prompt means: the states of its pieces one after the other, pooled from the first
        of them."""
        return joined([self._read(chunk) for chunk in chunks])

    def _read(self, ids: Chunk) -> Prompted:
        states, pooled = [], None
        for session, variant, tokens in zip(
            self._texts, self._graphs.text_encoders, ids, strict=True
        ):
            io = variant.io
            outputs = [io.states] if io.pooled is None else [io.states, io.pooled]
            made = session.run(outputs, {io.input_ids: np.array([tokens], np.int64)})
            states.append(made[0][0])
            if io.pooled is not None:
                pooled = np.asarray(made[1][0], np.float32)
        return Prompted(states=np.concatenate(states, axis=-1, dtype=np.float32), pooled=pooled)

    def denoise(self, rows: Sequence[Row]) -> Floats:
        """What the model gives of rows of one size: float32 [len(rows), latent channels, H, W].

        Raises:
            ValueError: the graph gives something of another shape.
        """
        io = self._graphs.denoiser.io
        samples = np.stack([row.sample for row in rows])
        feeds: dict[str, NDArray[Any]] = {
            io.sample: samples,
            io.timestep: np.array([row.timestep for row in rows], np.float32),
            io.states: np.stack([row.prompted.states for row in rows]),
        }
        if io.pooled is not None:
            pooled = [row.prompted.pooled for row in rows]
            feeds[io.pooled] = np.stack([one for one in pooled if one is not None])
        if io.sizes is not None:
            height, width = (side * self.form.factor for side in samples.shape[2:])
            told = np.array([height, width, 0, 0, height, width], np.float32)
            feeds[io.sizes] = np.repeat(told[None], len(rows), axis=0)
        (made,) = self._denoiser.run([io.output], feeds)
        wanted = len(rows), self.form.channels, *samples.shape[2:]
        if made.shape != wanted:
            raise ValueError(f"the denoiser gave {made.shape}, not {wanted}")
        return np.asarray(made, np.float32)

    @property
    def encodes(self) -> bool:
        """Whether pictures can become latents."""
        return self._encoder is not None

    def encode(self, pixels: Floats) -> Encoded:
        """The latents of a picture float32 [3, height, width], from -1 to 1.

        Raises:
            ValueError: there is no encoder.
        """
        variant = self._graphs.encoder
        if variant is None or self._encoder is None:
            raise ValueError("there is no encoder")
        io = variant.io
        mean, deviation = self._encoder.run([io.mean, io.deviation], {io.pixels: pixels[None]})
        return Encoded(mean=mean[0], deviation=deviation[0], form=self.form)

    def decoded(self, latents: Floats) -> Floats:
        """The picture of latents float32 [channels, H, W], from -1 to 1: float32 [3, height,
        width]."""
        io, form = self._graphs.decoder.io, self.form
        given = latents / np.float32(form.scaling) + np.float32(form.shift)
        (pixels,) = self._decoder.run([io.pixels], {io.latents: given[None]})
        return np.asarray(pixels[0], np.float32)

    def decode(self, latents: Floats) -> Pixels:
        """The same in levels; raises as `levels_of` does."""
        return levels_of(self.decoded(latents))


def joined(pieces: Sequence[Prompted]) -> Prompted:
    """What pieces of a prompt mean, one after the other; pooled is the first one's."""
    return Prompted(states=np.concatenate([one.states for one in pieces]), pooled=pieces[0].pooled)


def levels_of(pixels: Floats) -> Pixels:
    """A picture float32 [3, height, width], from -1 to 1, in levels: uint8 [height, width, 3].

    Raises:
        ComputationFailure: it holds what is no number, which would be black.
    """
    if not np.isfinite(pixels).all():
        raise ComputationFailure("the decoder gave what is no number")
    levels = np.clip(pixels / 2 + np.float32(0.5), 0, 1) * 255
    return np.ascontiguousarray(levels.round().astype(np.uint8).transpose(1, 2, 0))
