"""What is known of a graph in the cache; read without the libraries that made it."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import msgspec

from exporters.errors import ExportError
from nsedge.bundle.causal_lm import Fidelity, GoldenPrompt, GraphIo, KvLayout
from nsedge.native import BLOCK_TOKENS

GRAPH_FILE = "model.onnx"
DATA_SUFFIX = ".data"
DATA_FILE = f"{GRAPH_FILE}{DATA_SUFFIX}"
NATIVE_FILE = "native.onnx"
RECORD_FILE = "record.json"
NATIVE_SUFFIX = "-native"
"""What the native form's name has behind its variant's."""
SEGMENTS = "segments"
"""What `GraphIo.segments` is called in graphs on the daemon's own operators."""
GOLDEN_MIN_TOP1 = 0.85
"""Share of golden tokens that must stay most probable. Kernels round activations differently on
other instruction sets, which moves near-ties; the default scheme shows 0.97 for the starter."""
GOLDEN_MAX_DIFFERENCE = 0.2
"""Mean absolute difference of log-probability (nats) allowed; the starter shows 0.075."""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a graph, kept beside it."""

    def write(self, folder: Path) -> None:
        """Keep the record in `folder`."""
        (folder / RECORD_FILE).write_bytes(msgspec.json.encode(self))

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The record in `folder`.

        Raises:
            ExportError: the cache is damaged there.
        """
        path = folder / RECORD_FILE
        try:
            return msgspec.json.decode(path.read_bytes(), type=cls)
        except (OSError, msgspec.DecodeError) as error:
            raise ExportError(f"{path}: {error}; delete {folder} to make it anew") from error


class ReferenceRecord(Record, frozen=True, kw_only=True):
    """An fp32 graph. `difference` is the greatest one from PyTorch in log-probability, in nats:
    None where the graph was made without PyTorch, and so not compared.

    `recorded_difference` is the same from the logits that came with the model, where some did.
    """

    io: GraphIo
    kv: KvLayout
    context_length: int
    vocab_size: int
    nodes: dict[str, int]
    difference: float | None
    recorded_difference: float | None = None


class VariantRecord(Record, frozen=True, kw_only=True):
    """A quantised graph: its nodes by kind, and the bytes of what is not quantised, by purpose.

    io and kv are given where they are not those of the fp32 graph. `native_lacks` says why the
    graph is not there on the daemon's own operators, too; None where it is. `evened` are the layers
    whose keys are evened out there, each with how many times its head's median a channel was.
    """

    nodes: dict[str, int]
    kept_fp32: dict[str, int]
    io: GraphIo | None = None
    kv: KvLayout | None = None
    native_lacks: str | None
    evened: dict[int, float] = {}


class GoldenResult(msgspec.Struct, frozen=True, kw_only=True):
    """How the golden prompts came out, teacher-forced.

    `difference` is the mean absolute one of the continuation tokens' log-probabilities, in nats.
    """

    tokens: int
    top1: float
    difference: float

    @property
    def passed(self) -> bool:
        """Within the stated tolerances."""
        return self.top1 >= GOLDEN_MIN_TOP1 and self.difference <= GOLDEN_MAX_DIFFERENCE


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """What was found of a graph when it was made: its answers go with the prompts of its export."""

    fidelity: Fidelity
    golden: GoldenResult
    answers: tuple[str, ...]


class ExportedVariant(msgspec.Struct, frozen=True, kw_only=True):
    """A graph of an export, in the folder of its name; scales are named as they lie there.

    `native` is the trial of its form on the daemon's own operators, else `native_lacks` says why
    that is not there. `evened` are layers whose keys the native form evens out.
    """

    name: str
    device: str
    scheme: str
    io: GraphIo
    kv: KvLayout
    trial: Trial
    native: Trial | None
    native_lacks: str | None
    nodes: int
    kept_fp32: dict[str, int]
    evened: dict[int, float] = {}


class Exported(msgspec.Struct, frozen=True, kw_only=True):
    """All that a bundle says of a model and its graphs, but for files and the bundle's name.

    `reference` names the fp32 graph in the cache where it was made. `answers` are fp32's to
    `prompts`. `notes` say what was chosen otherwise than is usual, or left aside of the source.
    """

    origin: str
    revision: str | None
    parameters: int
    context_length: int
    vocab_size: int
    difference: float | None
    recorded_difference: float | None
    libraries: dict[str, str]
    reference: str
    golden: tuple[GoldenPrompt, ...]
    prompts: tuple[str, ...]
    answers: tuple[str, ...]
    variants: tuple[ExportedVariant, ...]
    notes: tuple[str, ...] = ()


def native_layout(kv: KvLayout) -> KvLayout:
    """The cache of the native form of a graph whose cache is `kv`: int8, in blocks of tokens."""
    return msgspec.structs.replace(kv, dtype="int8", token_scales=True, block_tokens=BLOCK_TOKENS)


def native_record(record: ReferenceRecord) -> ReferenceRecord:
    """The record of the native form of a graph."""
    io, kv = native_form(record.io, record.kv)
    return msgspec.structs.replace(record, io=io, kv=kv)


def native_form(io: GraphIo, kv: KvLayout) -> tuple[GraphIo, KvLayout]:
    """Names and cache of the native form of a graph: a run takes tokens of several sequences."""
    return msgspec.structs.replace(io, segments=SEGMENTS), native_layout(kv)
