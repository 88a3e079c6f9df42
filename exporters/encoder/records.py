"""What is known of an encoder's graphs; read without the libraries that made them."""

from __future__ import annotations

from pathlib import Path

import msgspec

from exporters.graph.records import GRAPH_FILE, Record
from nsedge.bundle.encoder import EncoderIo, EncoderVariant, GoldenVector, VectorFidelity
from nsedge.runtime.graph.encoder import EncoderSession


class EncoderRecord(Record, frozen=True, kw_only=True):
    """An fp32 graph. `difference`: the greatest one from PyTorch in any number of a vector, where
    vectors have length 1."""

    io: EncoderIo
    context_length: int
    vocab_size: int
    pad_token_id: int
    dimensions: int
    pooling: str
    normalised: bool
    nodes: dict[str, int]
    difference: float


class EncoderVariantRecord(Record, frozen=True, kw_only=True):
    """A quantised graph: its nodes by kind, and the bytes of what is not quantised, by purpose."""

    nodes: dict[str, int]
    kept_fp32: dict[str, int]


class ExportedVectors(msgspec.Struct, frozen=True, kw_only=True):
    """A graph of an export. `golden`: the least cosine to the golden vectors."""

    name: str
    device: str
    scheme: str
    fidelity: VectorFidelity
    golden: float
    nodes: int
    kept_fp32: dict[str, int]


class ExportedEncoder(msgspec.Struct, frozen=True, kw_only=True):
    """All that a bundle says of a model and its graphs, but for files and the bundle's name.

    `notes` say what was chosen otherwise than is usual.
    """

    parameters: int
    record: EncoderRecord
    libraries: dict[str, str]
    golden: tuple[GoldenVector, ...]
    variants: tuple[ExportedVectors, ...]
    notes: tuple[str, ...] = ()


def session_of(folder: Path, record: EncoderRecord, *, threads: int = 0) -> EncoderSession:
    """The graph in a stage's directory, opened as the daemon opens it.

    Raises:
        BundleInvalid: it does not load.
    """
    variant = EncoderVariant(name="", device="cpu", scheme="", graph=GRAPH_FILE, io=record.io)
    return EncoderSession(
        folder / GRAPH_FILE,
        variant,
        threads=threads,
        pad_id=record.pad_token_id,
        dimensions=record.dimensions,
    )
