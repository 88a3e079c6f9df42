"""What is known of a dual encoder's graphs; read without the libraries that made them."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from exporters.graph.records import Record
from nsedge.bundle.dual_encoder import (
    GoldenPicture,
    ImageTower,
    ImageTowerIo,
    Likelihood,
    TextTower,
    TextTowerIo,
)
from nsedge.bundle.encoder import GoldenVector, VectorFidelity
from nsedge.bundle.pictures import PictureSteps
from nsedge.runtime.graph.dual_encoder import DualEncoderSession, TowerFacts

TEXT_FILE, IMAGE_FILE = "text.onnx", "image.onnx"

Floats = NDArray[np.float32]


class DualRecord(Record, frozen=True, kw_only=True):
    """The two fp32 graphs. `difference`: the greatest one from PyTorch in any number of a vector,
    which has length 1."""

    text_io: TextTowerIo
    image_io: ImageTowerIo
    steps: PictureSteps
    likelihood: Likelihood
    context_length: int
    vocab_size: int
    pad_token_id: int
    is_padded: bool
    dimensions: int
    patches: int
    difference: float


class TowersRecord(Record, frozen=True, kw_only=True):
    """Two quantised graphs: the bytes of what is not quantised, by purpose."""

    kept_fp32: dict[str, int]


class TowerTrial(msgspec.Struct, frozen=True, kw_only=True):
    """How near the graphs of a variant are to fp32's. golden_...: the least cosine to golden
    vectors."""

    texts: VectorFidelity
    pictures: VectorFidelity
    golden_texts: float
    golden_pictures: float


class Golden(msgspec.Struct, frozen=True, kw_only=True):
    """What the fp32 graphs make of golden texts and patterns."""

    texts: tuple[GoldenVector, ...]
    pictures: tuple[GoldenPicture, ...]


def session_of(folder: Path, record: DualRecord, *, threads: int = 0) -> DualEncoderSession:
    """The graphs in a stage's directory, opened as the daemon opens them.

    Raises:
        BundleInvalid: one does not load.
    """
    facts = TowerFacts(
        pad_id=record.pad_token_id,
        padded_to=record.context_length if record.is_padded else None,
        dimensions=record.dimensions,
        steps=record.steps,
    )
    text = TextTower(name="", device="cpu", scheme="", graph=TEXT_FILE, io=record.text_io)
    image = ImageTower(name="", device="cpu", scheme="", graph=IMAGE_FILE, io=record.image_io)
    return DualEncoderSession(folder, text, image, facts=facts, threads=threads)
