"""The lines of train.jsonl: what `dataset` writes and `train` reads.

Positions are counted in Unicode code points, as Python and the `tokenizers` library count them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from exporters.errors import ExportError

VALIDATION_SUFFIX = ".validation.jsonl"
REPORT_SUFFIX = ".report.json"


class Turn(msgspec.Struct, frozen=True):
    """What one side said. role: system, user or assistant."""

    role: str
    content: str


class Example(msgspec.Struct, frozen=True, kw_only=True):
    """One conversation, and where in it there is something to learn."""

    row: int
    """Of the source, from 1."""
    messages: tuple[Turn, ...]
    text: str
    """The conversation as the base model's template renders it, special tokens and all."""
    learn: tuple[tuple[int, int], ...]
    """[begin, end) in `text`: the assistant's words with the token that ends its turn."""


def validation_path(train: Path) -> Path:
    """Where the examples lie that training only measures itself by: train.validation.jsonl."""
    return train.with_name(train.stem + VALIDATION_SUFFIX)


def report_path(train: Path) -> Path:
    """Where it is told what became of every row: train.report.json."""
    return train.with_name(train.stem + REPORT_SUFFIX)


def read_examples(path: Path) -> Iterator[Example]:
    """The examples of a file that `dataset` wrote, one by one.

    Raises:
        ExportError: a line is no example; its number is told.
        OSError: the file cannot be read.
    """
    decoder = msgspec.json.Decoder(Example)
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            yield _checked(_decoded(decoder, line, path, number), path, number)


def write_examples(file: BinaryIO, examples: Iterable[Example]) -> None:
    """Append a line for each example."""
    encoder = msgspec.json.Encoder()
    for example in examples:
        file.write(encoder.encode(example) + b"\n")


def _decoded(
    decoder: msgspec.json.Decoder[Example], line: bytes, path: Path, number: int
) -> Example:
    try:
        return decoder.decode(line)
    except msgspec.DecodeError as error:
        raise ExportError(
            f"{path}, line {number}: {error}; make the file with nsedge-export dataset"
        ) from error


def _checked(example: Example, path: Path, number: int) -> Example:
    end = 0
    for span in example.learn:
        if not end <= span[0] < span[1] <= len(example.text):
            raise ExportError(f"{path}, line {number}: learn {list(span)} is no part of the text")
        end = span[1]
    return example
