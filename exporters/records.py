"""What is known of a graph in the cache; read without the libraries that made it."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import msgspec

from exporters.errors import ExportError
from nsedge.bundle import GraphIo, KvLayout
from nsedge.native import BLOCK_TOKENS

GRAPH_FILE = "model.onnx"
DATA_FILE = "model.onnx.data"
NATIVE_FILE = "native.onnx"
RECORD_FILE = "record.json"
SEGMENTS = "segments"
"""What `GraphIo.segments` is called in graphs on the daemon's own operators."""


class _Record(msgspec.Struct, frozen=True, kw_only=True):
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


class ReferenceRecord(_Record, frozen=True, kw_only=True):
    """An fp32 graph. `difference` is the greatest one from PyTorch in log-probability, in nats.

    It is None where the graph was made without PyTorch, and so not compared.
    """

    io: GraphIo
    kv: KvLayout
    context_length: int
    vocab_size: int
    nodes: dict[str, int]
    difference: float | None


class VariantRecord(_Record, frozen=True, kw_only=True):
    """A quantised graph: its nodes by kind, and the bytes of what is not quantised, by purpose.

    io and kv are given where they are not those of the fp32 graph. `native` says whether the graph
    is there on the daemon's own operators, too.
    """

    nodes: dict[str, int]
    kept_fp32: dict[str, int]
    io: GraphIo | None = None
    kv: KvLayout | None = None
    native: bool = False


def native_layout(kv: KvLayout) -> KvLayout:
    """The cache of the native form of a graph whose cache is `kv`: int8, in blocks of tokens."""
    return msgspec.structs.replace(kv, dtype="int8", token_scales=True, block_tokens=BLOCK_TOKENS)


def native_record(record: ReferenceRecord) -> ReferenceRecord:
    """The record of the native form of a graph: a run of it takes tokens of several sequences."""
    io = msgspec.structs.replace(record.io, segments=SEGMENTS)
    return msgspec.structs.replace(record, io=io, kv=native_layout(record.kv))
