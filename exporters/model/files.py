"""Files of a model folder, which may hold anything: what they are not is told in a line."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any, TypeGuard, TypeVar

from exporters.errors import ExportError

Json = dict[str, Any]
J = TypeVar("J", dict[str, Any], list[Any])

MAX_HEADER = 100 << 20
"""Bytes of the table of a safetensors file, as its own library has it."""
SHOWN = 60
"""Characters of a value from a file that a message repeats."""


def read_text(path: Path) -> str:
    """A file's text.

    Raises:
        ExportError: it cannot be read, or is no UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ExportError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ExportError(f"{path}: not UTF-8: {error.reason} at byte {error.start}") from error


def read_object(path: Path) -> Json:
    """A JSON object.

    Raises:
        ExportError: it cannot be read, or is another thing.
    """
    return _parsed(read_text(path), f"{path}: ", dict)


def read_list(path: Path) -> list[Any]:
    """A JSON list.

    Raises:
        ExportError: it cannot be read, or is another thing.
    """
    return _parsed(read_text(path), f"{path}: ", list)


def _parsed(text: str | bytes, begin: str, kind: type[J]) -> J:
    """The JSON object or list that `text` is; messages `begin` so."""
    try:
        content = json.loads(text)
    except ValueError as error:
        raise ExportError(f"{begin}no JSON: {error}") from error
    except RecursionError as error:
        raise ExportError(f"{begin}it nests too deep") from error
    if not isinstance(content, kind):
        raise ExportError(f"{begin}not a JSON {'object' if kind is dict else 'list'}")
    return content


def read_safetensors_header(path: Path) -> Json:
    """Names, types and shapes of the tensors in a file; checks that all its bytes are there.

    Raises:
        ExportError: it is cut short or not a safetensors file.
    """
    begin = f"{path} is no safetensors file: "
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(path.stat().st_size, MAX_HEADER):
                raise ExportError(f"{path} is cut short or no safetensors file; fetch it again")
            header = _parsed(file.read(length), begin, dict)
    except (OSError, struct.error) as error:
        raise ExportError(f"{begin}{error}") from error
    end = max((_end(begin, *entry) for entry in tensors_of(header)), default=0)
    if path.stat().st_size != 8 + length + end:
        raise ExportError(f"{path} is cut short; fetch it again")
    return header


def tensors_of(header: Json) -> list[tuple[str, Any]]:
    """Its entries, but for what is said of the file."""
    return [(name, entry) for name, entry in header.items() if name != "__metadata__"]


def _end(begin: str, name: str, entry: Any) -> int:
    """Where a tensor ends, once its entry is known to be one."""
    if isinstance(entry, dict):
        offsets, shape = entry.get("data_offsets"), entry.get("shape")
        if _are_counts(offsets) and _are_counts(shape) and len(offsets) == 2:
            return offsets[1]
    raise ExportError(f"{begin}the entry of {shown(name)} is none of a tensor")


def _are_counts(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(is_count(number) for number in value)


def is_count(value: Any) -> TypeGuard[int]:
    """Whether it is a whole number from 0 on."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def shown(value: object) -> str:
    """A value from a file as a message may hold it: escaped, and not too long."""
    text = ascii(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
