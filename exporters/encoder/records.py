"""What is known of an encoder's graphs; read without the libraries that made them."""

from __future__ import annotations

from pathlib import Path

import msgspec

from exporters.graph.records import GRAPH_FILE, Record
from nsedge.bundle.encoder import EncoderIo, EncoderVariant, VectorFidelity
from nsedge.bundle.headed import AnyHead, HeadIo, HeadVariant, ScoreFidelity
from nsedge.runtime.graph.dual_encoder import DualEncoderSession
from nsedge.runtime.graph.encoder import EncoderSession
from nsedge.runtime.graph.headed import HeadSession

AnyFidelity = VectorFidelity | ScoreFidelity
AnySession = EncoderSession | HeadSession | DualEncoderSession


class VectorSpec(msgspec.Struct, frozen=True, kw_only=True, tag="vectors"):
    """A graph that gives vectors."""

    io: EncoderIo
    dimensions: int
    pooling: str
    normalised: bool


class HeadSpec(msgspec.Struct, frozen=True, kw_only=True, tag="head"):
    """A graph that ends in a head."""

    io: HeadIo
    head: AnyHead


class EncoderRecord(Record, frozen=True, kw_only=True):
    """An fp32 graph.

    - gives: vectors, or what a head does.
    - difference: the greatest one from PyTorch: in any number of a vector of length 1, or in any
      logit by the greatest of its text, or by 1 where all are less.
    """

    gives: VectorSpec | HeadSpec
    context_length: int
    vocab_size: int
    pad_token_id: int
    nodes: dict[str, int]
    difference: float


class EncoderVariantRecord(Record, frozen=True, kw_only=True):
    """A quantised graph: its nodes by kind, and the bytes of what is not quantised, by purpose."""

    nodes: dict[str, int]
    kept_fp32: dict[str, int]


class ExportedGraph(msgspec.Struct, frozen=True, kw_only=True):
    """A graph of an export. `golden`: how near it comes to the golden samples."""

    name: str
    device: str
    scheme: str
    fidelity: AnyFidelity
    golden: float
    nodes: int
    kept_fp32: dict[str, int]


class ExportedEncoder(msgspec.Struct, frozen=True, kw_only=True):
    """All that a bundle says of a model and its graphs, but for files and the bundle's name.

    `golden`: the golden samples, encoded. `notes` say what was chosen otherwise than is usual.
    """

    parameters: int
    record: EncoderRecord
    libraries: dict[str, str]
    golden: bytes
    variants: tuple[ExportedGraph, ...]
    notes: tuple[str, ...] = ()


def session_of(folder: Path, record: EncoderRecord, *, threads: int = 0) -> AnySession:
    """The graph in a stage's directory, opened as the daemon opens it.

    Raises:
        BundleInvalid: it does not load.
    """
    graph, gives = folder / GRAPH_FILE, record.gives
    if isinstance(gives, VectorSpec):
        variant = EncoderVariant(name="", device="cpu", scheme="", graph=GRAPH_FILE, io=gives.io)
        return EncoderSession(
            graph,
            variant,
            threads=threads,
            pad_id=record.pad_token_id,
            dimensions=gives.dimensions,
        )
    headed = HeadVariant(name="", device="cpu", scheme="", graph=GRAPH_FILE, io=gives.io)
    return HeadSession(
        graph,
        headed,
        threads=threads,
        pad_id=record.pad_token_id,
        head=gives.head,
        vocab_size=record.vocab_size,
    )
