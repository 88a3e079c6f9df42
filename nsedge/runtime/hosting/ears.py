"""How a model hears: its encoder of sound, and how sounds stand in prompts."""

from __future__ import annotations

import importlib
import threading
from collections import OrderedDict
from typing import Any

import numpy as np

from nsedge.api import Media
from nsedge.bundle.causal_lm import Variant
from nsedge.bundle.hearing import GOLDEN_SOUNDS, Hearing
from nsedge.bundle.manifest import Bundle
from nsedge.bundle.vision_lm import GoldenPicture, VisionLm
from nsedge.errors import InvalidMedia, MessageTooLarge
from nsedge.runtime.audio.fbank import FilterBank
from nsedge.runtime.audio.samples import RATE, Samples
from nsedge.runtime.encode.rows import Pieces
from nsedge.runtime.graph.sound_encoder import SoundEncoderSession, order_of, pieces_of
from nsedge.runtime.hosting.golden_vectors import judge
from nsedge.runtime.machine.cores import usable_cores
from nsedge.runtime.settings import EngineSettings
from nsedge.runtime.text.sight import Stand
from nsedge.runtime.vision.taken import Written

LENGTHS_KEPT = 1024
"""Sounds whose length is remembered."""


class PromptSounds:
    """Reads the sounds of one model's prompts. Thread-safe."""

    def __init__(self, bundle: Bundle[VisionLm], hearing: Hearing) -> None:
        """Raises ValueError where the filters are not as the manifest says."""
        told = hearing.features
        filters = np.fromfile(bundle.file(told.filters), "<f4").reshape(-1, told.bins)
        self._told, self._prompt = told, hearing.prompt
        self._bank = FilterBank(told, filters)
        self._lengths: OrderedDict[str, int] = OrderedDict()
        self._lock = threading.Lock()

    def stand(self) -> Stand:
        """How sounds stand in prompts."""
        prompt = self._prompt
        return Stand(
            marker=prompt.marker,
            token=prompt.token,
            token_id=prompt.token_id,
            written=lambda media: Written(text=prompt.token * self._bank.rows(self._length(media))),
        )

    def seconds(self, media: Media) -> float:
        """How long a sound is; raises as `read` does."""
        return self._length(media) / RATE

    def read(self, media: Media, *, beside: bool) -> Pieces:
        """What the encoder takes of a sound; `beside` pictures its rows are others.

        Raises:
            InvalidMedia: it is no sound, damaged, or too short.
            MessageTooLarge: it is too long.
        """
        samples = self._samples(media)
        pieces = pieces_of(self._bank.features(samples), self._told)
        order = order_of(pieces, self._bank.rows(len(samples)), beside=beside)
        return Pieces(pieces=pieces, order=order)

    def _length(self, media: Media) -> int:
        """Samples of a sound, which is decoded where that is not known."""
        with self._lock:
            known = self._lengths.get(media.sha256)
        return len(self._samples(media)) if known is None else known

    def _samples(self, media: Media) -> Samples:
        sound: Any = importlib.import_module("nsedge.runtime.audio.sound")
        most, blocks, count = self._told.most_s * RATE, [], 0
        for block in sound.Sound(media.data).blocks():
            blocks.append(block)
            count += len(block)
            if count > most:
                raise MessageTooLarge(
                    f"it is longer than {self._told.most_s} s, the most that this model hears"
                )
        if count < self._told.window:
            raise InvalidMedia(f"{count} samples are too short to be heard")
        with self._lock:
            self._lengths[media.sha256] = count
            while len(self._lengths) > LENGTHS_KEPT:
                self._lengths.popitem(last=False)
        return np.concatenate(blocks)


def open_ears(
    bundle: Bundle[VisionLm], variant: Variant, settings: EngineSettings
) -> SoundEncoderSession | None:
    """The encoder of sound beside a decoder's variant, with its golden sounds checked; None where
    the model does not hear.

    Raises:
        BundleInvalid: it cannot be loaded, or does not make what it should.
    """
    manifest = bundle.manifest
    hearing, encoder = manifest.hearing, manifest.sound_encoder(variant)
    if hearing is None or encoder is None:
        return None
    session = SoundEncoderSession(
        bundle.file(encoder.graph),
        encoder,
        told=hearing.features,
        hidden=manifest.hidden_size,
        threads=settings.threads or usable_cores(),
    )
    golden = bundle.golden(GOLDEN_SOUNDS, GoldenPicture)
    heard = np.stack([session.sample(one.pattern).mean(axis=0) for one in golden])
    judge(heard, [one.vector for one in golden], variant=encoder, name=bundle.name, what="sounds")
    return session
