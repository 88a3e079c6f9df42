"""What a result came from: kept in its folder, without a path or a secret."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from exporters.errors import ExportError
from exporters.finetune.settings import Settings
from exporters.model.source import Source
from nsedge.bundle.files import sha256_of

LINEAGE_FILE = "lineage.json"


class Base(msgspec.Struct, frozen=True, kw_only=True):
    """A base model: what people know it by, and what tells it from every other."""

    origin: str
    revision: str | None
    licence: str
    architecture: str
    vocabulary: int
    weights_sha256: str
    """Of the weight file, or where there are several of their SHA-256 in the files' order."""
    tokenizer_sha256: str


class Dataset(msgspec.Struct, frozen=True, kw_only=True):
    """The lines that were learnt from, and those that were only measured by."""

    sha256: str
    examples: int
    validation_sha256: str | None
    validation_examples: int


class AdapterLineage(msgspec.Struct, frozen=True, kw_only=True):
    """lineage.json of an adapter."""

    base: Base
    dataset: Dataset
    settings: Settings
    device: str
    precision: str
    steps: int
    best_step: int
    validation_loss: float | None
    """Nats a token, of the step that was kept."""
    software: dict[str, str]


class MergedAdapter(msgspec.Struct, frozen=True, kw_only=True):
    """One adapter in a merged model."""

    name: str
    sha256: str
    weight: float
    dataset_sha256: str | None


class MergedLineage(msgspec.Struct, frozen=True, kw_only=True):
    """lineage.json of a merged model."""

    base: Base
    adapters: tuple[MergedAdapter, ...]
    dtype: str
    software: dict[str, str]


def base_of(source: Source) -> Base:
    """The record of a base; reads all its weights once.

    Raises:
        ExportError: a file is missing or damaged.
    """
    return Base(
        origin=source.origin,
        revision=source.revision,
        licence=source.licence(),
        architecture=source.architecture(),
        vocabulary=int(source.config.get("vocab_size", 0)),
        weights_sha256=_weights_digest(source),
        tokenizer_sha256=sha256_of(source.tokenizer_file),
    )


def write_lineage(folder: Path, lineage: AdapterLineage | MergedLineage) -> None:
    """Write lineage.json."""
    text = msgspec.json.format(msgspec.json.encode(lineage), indent=2)
    (folder / LINEAGE_FILE).write_bytes(text + b"\n")


def read_adapter_lineage(folder: Path) -> AdapterLineage | None:
    """What an adapter says of itself; None where it was trained by another program.

    Raises:
        ExportError: the file is damaged.
    """
    path = folder / LINEAGE_FILE
    if not path.is_file():
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=AdapterLineage)
    except (OSError, ValueError, RecursionError) as error:
        raise ExportError(f"{path}: {error}") from error


def _weights_digest(source: Source) -> str:
    digests = [sha256_of(file) for file in source.weight_files]
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()
