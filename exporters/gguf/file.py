"""A GGUF file, read with suspicion: every count and offset is held against the file's own size.

Layout as in the GGUF specification: magic, version, counts, metadata, tensor table, and from an
aligned offset on the tensors. The format's own package turns blocks into numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize
from numpy.typing import NDArray

from exporters.errors import ExportError, Refused

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MAX_HEADER = 1 << 27
"""Bytes of metadata and tensor table; large vocabularies need a tenth of it."""
MAX_AXES = 4
MAX_ALIGNMENT = 1 << 16
CHUNK_BYTES = 1 << 24
"""Of fp32, at a time, while a tensor is turned into it."""
LARGEST = (1 << 32) - 1
LEAST_REAL, MOST_REAL = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)
SHOWN = 60
"""Characters of a name from the file that a message repeats."""

U32, STRING, ARRAY, U64 = 4, 8, 9, 10
SCALARS = {
    0: "<u1",
    1: "<i1",
    2: "<u2",
    3: "<i2",
    4: "<u4",
    5: "<i4",
    6: "<f4",
    7: "?",
    10: "<u8",
    11: "<i8",
    12: "<f8",
}
_Kind = GGMLQuantizationType
KINDS = frozenset(
    {_Kind.F32, _Kind.F16, _Kind.BF16, _Kind.Q8_0}
    | {_Kind.Q4_0, _Kind.Q4_1, _Kind.Q5_0, _Kind.Q5_1}
    | {_Kind.Q4_K, _Kind.Q5_K, _Kind.Q6_K}
)


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """Where a tensor lies; `shape` is outermost first, as NumPy has it."""

    name: str
    kind: GGMLQuantizationType
    shape: tuple[int, ...]
    offset: int
    row_bytes: int

    @property
    def rows(self) -> int:
        """All axes but the last."""
        return prod(self.shape[:-1])


class Metadata:
    """The file's keys and values, each asked for by what it has to be."""

    def __init__(self, values: dict[str, Any], where: str) -> None:
        self._values = values
        self.where = where

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def plain(self, key: str) -> Any:
        """The value of a key, an array as a list; None where there is none."""
        value = self._values.get(key)
        return value.tolist() if isinstance(value, np.ndarray) else value

    def whole(self, key: str, default: int | None = None) -> int:
        """A number of 0 or more, in 32 bits.

        Raises:
            ExportError: it is missing, or something else.
        """
        value = self._get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise ExportError(f"{self.where}: {key} is no whole number")
        if value > LARGEST:
            raise ExportError(f"{self.where}: {key} is {value}, which no 32 bits hold")
        return value

    def positive(self, key: str, default: int | None = None) -> int:
        """A number of 1 or more.

        Raises:
            ExportError: it is missing, or something else.
        """
        value = self.whole(key, default)
        if value == 0:
            raise ExportError(f"{self.where}: {key} is 0")
        return value

    def real(self, key: str, default: float | None = None, *, zero: bool = False) -> float:
        """A finite number above zero in 32 bits, or zero where that may be.

        Raises:
            ExportError: it is missing, or something else.
        """
        value = self._get(key, default)
        if isinstance(value, float) and (LEAST_REAL <= value <= MOST_REAL or (zero and value == 0)):
            return value
        least = "from zero on" if zero else "above zero"
        raise ExportError(f"{self.where}: {key} is no number {least}")

    def flag(self, key: str, default: bool) -> bool:
        """Yes or no.

        Raises:
            ExportError: it is something else.
        """
        value = self._get(key, default)
        if not isinstance(value, bool):
            raise ExportError(f"{self.where}: {key} is neither true nor false")
        return value

    def text(self, key: str, default: str | None = None) -> str:
        """A text.

        Raises:
            ExportError: it is missing, or something else.
        """
        value = self._get(key, default)
        if not isinstance(value, str):
            raise ExportError(f"{self.where}: {key} is no text")
        return value

    def texts(self, key: str) -> list[str]:
        """Several texts.

        Raises:
            ExportError: they are missing, or something else.
        """
        value = self._get(key, None)
        if not isinstance(value, list):
            raise ExportError(f"{self.where}: {key} are no texts")
        return value

    def numbers(self, key: str, length: int) -> NDArray[Any]:
        """An array [length].

        Raises:
            ExportError: it is missing, of another length, or something else.
        """
        value = self._get(key, None)
        if not isinstance(value, np.ndarray) or len(value) != length:
            raise ExportError(f"{self.where}: {key} are not {length} numbers")
        return value

    def _get(self, key: str, default: Any) -> Any:
        value = self._values.get(key, default)
        if value is None:
            raise ExportError(f"{self.where}: {key} is missing")
        return value


class GgufFile:
    """A file's metadata and tensor table; tensors are read when asked for.

    Raises:
        ExportError: it is cut short or no GGUF file.
        Refused: it is of a kind that is not read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._size = path.stat().st_size
        with path.open("rb") as file:
            header = _Header(file, path, self._size)
            values, entries = header.read()
        self.metadata = Metadata(values, path.name)
        alignment = self.metadata.positive("general.alignment", 32)
        if alignment & (alignment - 1) or alignment > MAX_ALIGNMENT:
            raise ExportError(f"{path}: an alignment of {alignment}")
        start = -(-header.position // alignment) * alignment
        self.tensors = {e.name: self._place(e, start) for e in entries}
        if len(self.tensors) != len(entries):
            raise ExportError(f"{path}: two tensors of one name")

    def parameters(self) -> int:
        """Numbers in all tensors."""
        return sum(prod(tensor.shape) for tensor in self.tensors.values())

    def read(self, name: str) -> NDArray[np.float32]:
        """A whole tensor.

        Raises:
            ExportError: the file is cut short, or holds what is no number.
        """
        tensor = self.tensors[name]
        whole = np.empty((tensor.rows, tensor.shape[-1]), np.float32)
        for begin, rows in self.parts(name):
            whole[begin : begin + len(rows)] = rows
        return whole.reshape(tensor.shape)

    def parts(self, name: str) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """A tensor's rows [n, width] in turns, each with the number of its first.

        Raises:
            ExportError: the file is cut short, or holds what is no number.
        """
        tensor = self.tensors[name]
        for begin, raw in self.raw_parts(name):
            yield begin, self._numbers(tensor, raw)

    def raw_parts(self, name: str) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """A tensor's rows as they lie in the file, [n, row_bytes], in turns.

        Raises:
            ExportError: the file is cut short.
        """
        tensor = self.tensors[name]
        step = max(1, CHUNK_BYTES // (4 * tensor.shape[-1]))
        with self.path.open("rb") as file:
            file.seek(tensor.offset)
            for begin in range(0, tensor.rows, step):
                count = min(step, tensor.rows - begin)
                raw = file.read(count * tensor.row_bytes)
                if len(raw) != count * tensor.row_bytes:
                    raise ExportError(f"{self.path} is cut short; fetch it again")
                yield begin, np.frombuffer(raw, np.uint8).reshape(count, tensor.row_bytes)

    def _numbers(self, tensor: Tensor, blocks: NDArray[np.uint8]) -> NDArray[np.float32]:
        with np.errstate(all="ignore"):
            rows = dequantize(blocks, tensor.kind).astype(np.float32, copy=False)
        if not np.isfinite(rows).all():
            raise ExportError(f"{self.path}: {shown(tensor.name)} holds what is no finite number")
        return np.asarray(rows.reshape(len(blocks), tensor.shape[-1]))

    def _place(self, entry: _Entry, start: int) -> Tensor:
        name = f"{self.path}: {shown(entry.name)}"
        try:
            kind = GGMLQuantizationType(entry.kind)
        except ValueError:
            raise Refused(f"{name} is of type {entry.kind}, which is not known") from None
        if kind not in KINDS:
            known = ", ".join(sorted(kind.name for kind in KINDS))
            raise Refused(f"{name} is {kind.name}; what can be read is {known}")
        block, size = GGML_QUANT_SIZES[kind]
        if not all(entry.shape) or entry.shape[-1] % block:
            raise ExportError(f"{name} is {list(entry.shape)}, which {kind.name} cannot be")
        row_bytes = entry.shape[-1] // block * size
        offset, length = start + entry.offset, prod(entry.shape[:-1]) * row_bytes
        if offset + length > self._size:
            raise ExportError(f"{name} lies beyond the file's end: it is cut short; fetch it again")
        return Tensor(
            name=entry.name, kind=kind, shape=entry.shape, offset=offset, row_bytes=row_bytes
        )


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """A line of the tensor table; `offset` counts from where the tensors begin."""

    name: str
    kind: int
    shape: tuple[int, ...]
    offset: int


class _Header:
    """Reads from the beginning of a file, never past its end nor past `MAX_HEADER`."""

    def __init__(self, file: BinaryIO, path: Path, size: int) -> None:
        self._file = file
        self._path = path
        self._end = min(size, MAX_HEADER)
        self._size = size
        self.position = 0

    def read(self) -> tuple[dict[str, Any], list[_Entry]]:
        """All metadata, and the tensor table."""
        if self._take(4) != MAGIC:
            raise ExportError(f"{self._path} is no GGUF file")
        if (version := self._number(U32)) not in VERSIONS:
            raise Refused(f"{self._path} is GGUF of version {version}; 2 and 3 are read")
        tensors, keys = self._number(U64), self._number(U64)
        values: dict[str, Any] = {}
        for _ in range(keys):
            key = self._text()
            if key in values:
                raise ExportError(f"{self._path}: {shown(key)} stands there twice")
            values[key] = self._value(self._number(U32))
        return values, [self._entry() for _ in range(tensors)]

    def _entry(self) -> _Entry:
        name, axes = self._text(), self._number(U32)
        if not 1 <= axes <= MAX_AXES:
            raise ExportError(f"{self._path}: {shown(name)} has {axes} axes")
        shape = tuple(self._number(U64) for _ in range(axes))[::-1]
        return _Entry(name=name, shape=shape, kind=self._number(U32), offset=self._number(U64))

    def _value(self, kind: int) -> Any:
        if kind == STRING:
            return self._text()
        if kind != ARRAY:
            return self._scalar(kind)
        inner, length = self._number(U32), self._number(U64)
        if inner == STRING:
            self._hold(8 * length)
            return [self._text() for _ in range(length)]
        form = self._form(inner)
        return np.frombuffer(self._take(form.itemsize * length), form)

    def _scalar(self, kind: int) -> Any:
        form = self._form(kind)
        return np.frombuffer(self._take(form.itemsize), form)[0].item()

    def _number(self, kind: int) -> int:
        return int(self._scalar(kind))

    def _form(self, kind: int) -> np.dtype[Any]:
        if kind not in SCALARS:
            raise ExportError(f"{self._path}: a value of type {kind}, which GGUF has not")
        return np.dtype(SCALARS[kind])

    def _text(self) -> str:
        raw = self._take(self._number(U64))
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise ExportError(f"{self._path}: a text in its header is no UTF-8") from None

    def _take(self, count: int) -> bytes:
        self._hold(count)
        self.position += count
        raw = self._file.read(count)
        if len(raw) != count:
            raise ExportError(f"{self._path} is cut short; fetch it again")
        return raw

    def _hold(self, count: int) -> None:
        """Refuse to read on for `count` bytes where there are not as many.

        Raises:
            ExportError: there are not.
        """
        if self.position + count <= self._end:
            return
        if self._end < self._size:
            raise ExportError(f"{self._path}: its header is longer than {MAX_HEADER >> 20} MiB")
        raise ExportError(f"{self._path} is cut short or no GGUF file; fetch it again")


def shown(name: str) -> str:
    """A name from the file as a message may hold it: escaped, and not too long."""
    return ascii(name if len(name) <= SHOWN else f"{name[:SHOWN]}...")
