"""From a GGUF file to a bundle without PyTorch: its description in a folder, its graph built."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from exporters.cache import Cache
from exporters.code import code_digest
from exporters.errors import ExportError
from exporters.gguf.blocks import BLOCKED
from exporters.gguf.file import GgufFile, Metadata
from exporters.gguf.folder import write_source
from exporters.gguf.graph import OwnWeights, make_reference
from exporters.gguf.keys import notes_on
from exporters.model.own_blocks import OwnBlocks
from exporters.model.route import Route
from exporters.model.source import Source
from exporters.quantise.schemes import DEFAULT_SCHEME, SCHEMES, Scheme
from exporters.quantise.x4 import find_blocks
from nsedge.bundle.files import sha256_of
from nsedge.printable import escaped

LIBRARIES = ("gguf", "onnx", "onnxruntime-gpu", "tokenizers")
LONGEST_ORIGIN = 200
ORIGINS = ("general.source.repo_url", "general.source.url", "general.name")
FOUR_BITS, EIGHT_BITS = frozenset({"Q4_0", "Q4_1"}), frozenset({"Q8_0"})
EXACT_4, EXACT_8, OWN = "x4", "int8-b32", "gguf"


@dataclass(frozen=True, kw_only=True)
class GgufSource(Source):
    """A model folder whose weights are in a GGUF file elsewhere."""

    file: GgufFile

    def parameters(self) -> int:
        """Numbers in the file's tensors."""
        return self.file.parameters()

    @property
    def keeps_blocks(self) -> bool:
        """Whether any matrix of the file comes in blocks."""
        return any(tensor.kind in BLOCKED for tensor in self.file.tensors.values())

    def own_blocks(self, weight: str) -> tuple[OwnBlocks, ...]:
        """Those of the file, where it has some."""
        return self._own_weights.blocks(weight)

    @cached_property
    def _own_weights(self) -> OwnWeights:
        return OwnWeights(self.file)

    def notes(self) -> tuple[str, ...]:
        """The parts of the file that are left aside, a line each."""
        return (*super().notes(), *notes_on(self.file.metadata))


def gguf_source(path: Path, cache: Cache) -> GgufSource:
    """The file's description, made if it is not in the cache.

    Raises:
        Refused: it holds a kind of model that is not imported.
        ExportError: it is no GGUF file, or damaged.
    """
    if not path.is_file():
        raise ExportError(f"{path}: there is no such file")
    file = GgufFile(path)
    digest = sha256_of(path)
    inputs = {"file": digest, "code": code_digest(write_source.__module__)}

    def make(folder: Path) -> None:
        write_source(file, folder, sha256=digest)

    folder = cache.get("gguf", inputs, title=f"Reading {path.name}", make=make)
    origin = _origin(file.metadata, path)
    return GgufSource(
        folder=folder, origin=origin, revision=f"{escaped(path.name)}, SHA-256 {digest}", file=file
    )


def built(file: GgufFile) -> Route:
    """The way to the fp32 graph that needs no PyTorch."""

    def make(source: Source, folder: Path, max_context: int) -> None:
        make_reference(file, folder, max_context=max_context)

    return Route(make=make, module=make_reference.__module__, libraries=LIBRARIES)


def exact_scheme(file: GgufFile) -> Scheme:
    """The scheme that keeps the file's own integers, else the default one.

    `x4` and `int8-b32` do where all have 4 or 8 bits: their numbers alone tell the integers.
    """
    layers = {file.tensors[name].kind.name for name in _matrices(file)}
    whole = {tensor.kind for tensor in file.tensors.values() if len(tensor.shape) == 2}
    names = {kind.name for kind in whole}
    if names <= EIGHT_BITS:
        return SCHEMES[EXACT_8]
    plain = layers <= FOUR_BITS and names <= FOUR_BITS | EIGHT_BITS
    if plain and all(map(partial(_is_found, file), _matrices(file))):
        return SCHEMES[EXACT_4]
    return SCHEMES[OWN if whole & BLOCKED else DEFAULT_SCHEME]


def _matrices(file: GgufFile) -> list[str]:
    """The layers' projections."""
    tensors = file.tensors.values()
    return [t.name for t in tensors if t.name.startswith("blk.") and len(t.shape) == 2]


def _is_found(file: GgufFile, name: str) -> bool:
    """Whether the tensor's blocks can be found again from its numbers."""
    return all(find_blocks(rows) is not None for _, rows in file.parts(name))


def _origin(metadata: Metadata, path: Path) -> str:
    stated = next((metadata.text(key) for key in ORIGINS if key in metadata), "")
    return escaped(" ".join(stated.split())[:LONGEST_ORIGIN] or path.name)
