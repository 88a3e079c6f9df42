"""What is known of the encoders of a model that sees, or hears; read without the libraries that
made them."""

from __future__ import annotations

from pathlib import Path

import msgspec

from exporters.graph.records import Record
from nsedge.bundle.causal_lm import Fidelity
from nsedge.bundle.encoder import VectorFidelity
from nsedge.bundle.hearing import SoundEncoder, SoundEncoderIo, SoundFeatures
from nsedge.bundle.vision_lm import GoldenPicture, ImageEncoder, ImageEncoderIo, Pictures
from nsedge.runtime.graph.image_encoders import PictureSession, open_image_encoder
from nsedge.runtime.graph.sound_encoder import SoundEncoderSession

IMAGE_FILE = "image.onnx"
SOUND_FILE = "sound.onnx"
FILTERS_FILE = "mel_filters.bin"


class ImageRecord(Record, frozen=True, kw_only=True):
    """The fp32 graph: rows of `hidden` numbers of pictures that are given to it as `pictures` says.
    difference: the greatest one from PyTorch in any number, as a share of the greatest."""

    io: ImageEncoderIo
    pictures: Pictures
    hidden: int
    difference: float


class SoundRecord(Record, frozen=True, kw_only=True):
    """The fp32 graph for sound, whose features are `told` of. difference: as an ImageRecord's, over
    sounds of several lengths."""

    io: SoundEncoderIo
    told: SoundFeatures
    hidden: int
    difference: float


class QuantisedRecord(Record, frozen=True, kw_only=True):
    """A quantised graph: the bytes of what is not quantised, by purpose."""

    kept_fp32: dict[str, int]


class ImageTrial(msgspec.Struct, frozen=True, kw_only=True):
    """How near an encoder is to fp32: its rows over patterns, the least cosine to golden pictures,
    and by decoder what both together say after patterns."""

    fidelity: VectorFidelity
    golden: float
    seen: dict[str, Fidelity]


Golden = tuple[GoldenPicture, ...]


def sound_session(folder: Path, record: SoundRecord, *, threads: int = 0) -> SoundEncoderSession:
    """The graph for sound in a stage's directory; raises as `session_of`."""
    encoder = SoundEncoder(name="", device="cpu", scheme="", graph=SOUND_FILE, io=record.io)
    return SoundEncoderSession(
        folder / SOUND_FILE, encoder, told=record.told, hidden=record.hidden, threads=threads
    )


def session_of(folder: Path, record: ImageRecord, *, threads: int = 0) -> PictureSession:
    """The graph in a stage's directory, opened as the daemon opens it.

    Raises:
        BundleInvalid: it does not load.
    """
    encoder = ImageEncoder(name="", device="cpu", scheme="", graph=IMAGE_FILE, io=record.io)
    return open_image_encoder(
        folder / IMAGE_FILE,
        encoder,
        pictures=record.pictures,
        hidden=record.hidden,
        threads=threads,
    )
