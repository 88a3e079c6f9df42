"""The rows of a data file, one by one, each with its number: JSON, JSON Lines or CSV.

JSON Lines and CSV are streamed, so that a file of any length takes little memory. A row that cannot
be read is a row too, with the reason for it.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from exporters.errors import ExportError

MAX_ROW_BYTES = 16 * 2**20
UTF8_BOM = b"\xef\xbb\xbf"
UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")
LIST_KEYS = ("data", "train", "examples", "rows", "items")
"""Under which of its keys a JSON object holds the list of rows."""
DELIMITERS = ",;\t"


class Container(Enum):
    """How a file holds its rows."""

    JSON = "json"
    LINES = "jsonl"
    CSV = "csv"


SUFFIXES = {
    ".jsonl": Container.LINES,
    ".ndjson": Container.LINES,
    ".csv": Container.CSV,
    ".tsv": Container.CSV,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row: what it holds, or the problem why that cannot be told."""

    number: int
    """From 1: the line of JSON Lines, the place in a JSON list, the record below a CSV's header."""
    size: int
    """Bytes of the file that it and the blanks before it take."""
    value: Any = None
    problem: str | None = None


class _Line(msgspec.Struct, frozen=True):
    number: int
    size: int
    content: bytes
    """Empty where the line is longer than MAX_ROW_BYTES."""


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of `path`. What kind of file it is, its name tells, else its beginning.

    Raises:
        ExportError: the file as a whole cannot be read as rows.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        _skip_bom(file, path)
        container = SUFFIXES.get(path.suffix.lower()) or _guess(file)
        if container is Container.LINES:
            yield from _json_lines(file)
        elif container is Container.CSV:
            yield from _csv_records(file, path)
        else:
            yield from _json_list(file, path)


def _skip_bom(file: BinaryIO, path: Path) -> None:
    head = file.read(len(UTF8_BOM))
    if head.startswith(UTF16_BOMS):
        raise ExportError(f"{path} is in UTF-16; convert it: iconv -f UTF-16 -t UTF-8")
    file.seek(len(UTF8_BOM) if head == UTF8_BOM else 0)


def _guess(file: BinaryIO) -> Container:
    """JSON Lines where the first line is a whole object and another follows; else JSON."""
    start = file.tell()
    lines = (line for line in _lines(file) if line.size and (line.content.strip() or line.size > 1))
    first, second = next(lines, None), next(lines, None)
    file.seek(start)
    if first is None or second is None or not first.content.lstrip().startswith(b"{"):
        return Container.JSON
    try:
        msgspec.json.decode(first.content)
    except (msgspec.DecodeError, RecursionError):
        return Container.JSON
    return Container.LINES


def _lines(file: BinaryIO) -> Iterator[_Line]:
    number = 0
    while piece := file.readline(MAX_ROW_BYTES):
        number += 1
        size = len(piece)
        content = piece
        while not piece.endswith(b"\n") and (piece := file.readline(MAX_ROW_BYTES)):
            size += len(piece)
            content = b""
        yield _Line(number, size, content)


def _json_lines(file: BinaryIO) -> Iterator[Row]:
    blank = 0
    for line in _lines(file):
        content = line.content.strip()
        if not content and line.size <= MAX_ROW_BYTES:
            blank += line.size
            continue
        size, blank = line.size + blank, 0
        if not content:
            yield Row(number=line.number, size=size, problem=_too_long())
        else:
            yield _decoded(content, line.number, size)


def _json_list(file: BinaryIO, path: Path) -> Iterator[Row]:
    content = file.read()
    if not content.strip():
        return
    number = 0
    for number, raw in enumerate(_raw_rows(content, path), 1):
        bytes_of_row = bytes(raw)
        if len(bytes_of_row) > MAX_ROW_BYTES:
            yield Row(number=number, size=len(bytes_of_row), problem=_too_long())
        else:
            yield _decoded(bytes_of_row, number, len(bytes_of_row))


def _raw_rows(content: bytes, path: Path) -> list[msgspec.Raw]:
    """The elements of the list that `content` is or holds; else the one object that it is."""
    if not content.lstrip().startswith((b"[", b"{")):
        raise ExportError(f"{path}: neither a list of rows nor an object that holds one")
    try:
        if content.lstrip().startswith(b"["):
            return msgspec.json.decode(content, type=list[msgspec.Raw])
        outer = msgspec.json.decode(content, type=dict[str, msgspec.Raw])
        for key in LIST_KEYS:
            if key in outer and bytes(outer[key]).startswith(b"["):
                return msgspec.json.decode(outer[key], type=list[msgspec.Raw])
    except (msgspec.DecodeError, RecursionError) as error:
        raise ExportError(f"{path} is no JSON file: {error}") from error
    return [msgspec.Raw(content)]


def _decoded(content: bytes, number: int, size: int) -> Row:
    try:
        return Row(number=number, size=size, value=msgspec.json.decode(content.decode()))
    except UnicodeDecodeError as error:
        problem = f"not UTF-8: {error.reason} at byte {error.start}"
    except msgspec.DecodeError as error:
        problem = f"no JSON: {error}"
    except RecursionError:
        problem = "no row: it nests too deep"
    return Row(number=number, size=size, problem=problem)


def _csv_records(file: BinaryIO, path: Path) -> Iterator[Row]:
    csv.field_size_limit(MAX_ROW_BYTES)
    text = _CsvLines(file, path)
    header = _csv_header(text, path)
    if header is None:
        return
    names, delimiter = header
    records = csv.reader(text, delimiter=delimiter, strict=True)
    number = 0
    while True:
        try:
            fields = next(records)
        except StopIteration:
            return
        except csv.Error as error:
            number += 1
            problem = f"no CSV up to line {text.number}: {error}"
            yield Row(number=number, size=text.taken(), problem=problem)
            continue
        if fields:
            number += 1
            yield _record(names, fields, number, text.taken())


class _CsvLines:
    """Lines as the csv module takes them; bytes that are no UTF-8 become lone surrogates."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._lines = _lines(file)
        self._path = path
        self._taken = 0
        self.number = 0

    def __iter__(self) -> _CsvLines:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        if not line.content:
            raise ExportError(f"{self._path}, line {line.number}: {_too_long()}; is it a CSV?")
        self._taken += line.size
        self.number = line.number
        return line.content.decode("utf-8", "surrogateescape")

    def taken(self) -> int:
        """Bytes since the last call."""
        taken, self._taken = self._taken, 0
        return taken


def _csv_header(text: _CsvLines, path: Path) -> tuple[list[str], str] | None:
    """The names of the columns, and the delimiter that finds most of them."""
    for line in text:
        if not _is_unicode(line):
            raise ExportError(f"{path}: the header is not UTF-8; convert the file with iconv")
        if line.strip():
            delimiter = max(DELIMITERS, key=line.count)
            try:
                names = next(csv.reader([line], delimiter=delimiter))
            except csv.Error as error:
                raise ExportError(f"{path}: the header is no CSV: {error}") from error
            return [name.strip().lower() for name in names], delimiter
    return None


def _record(names: list[str], fields: list[str], number: int, size: int) -> Row:
    if len(fields) != len(names):
        problem = f"{len(fields)} fields where the header has {len(names)}"
        return Row(number=number, size=size, problem=problem)
    if not all(_is_unicode(field) for field in fields):
        return Row(number=number, size=size, problem="not UTF-8")
    return Row(number=number, size=size, value=dict(zip(names, fields, strict=True)))


def _is_unicode(text: str) -> bool:
    """Whether `text` has no lone surrogate."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _too_long() -> str:
    return f"longer than {MAX_ROW_BYTES // 2**20} MiB"
