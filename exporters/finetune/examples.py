"""The lines of train.jsonl: what `dataset` writes and `train` reads.

Positions are counted in Unicode code points, as Python and the `tokenizers` library count them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from exporters.errors import ExportError
from nsedge.runtime.text.control import Rendered

VALIDATION_SUFFIX = ".validation.jsonl"
REPORT_SUFFIX = ".report.json"


class Turn(msgspec.Struct, frozen=True):
    """What one side said. role: system, user or assistant."""

    role: str
    content: str


class PictureFile(msgspec.Struct, frozen=True, kw_only=True):
    """A picture: its path from the folder of train.jsonl on, and what it was when that was made."""

    path: str
    sha256: str


class Example(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One conversation, and where in it there is something to learn."""

    row: int
    """Of the source, from 1."""
    messages: tuple[Turn, ...]
    text: str
    """The conversation as the base model's template renders it, special tokens and all."""
    learn: tuple[tuple[int, int], ...]
    """[begin, end) in `text`: the assistant's words with the token that ends its turn."""
    literal: tuple[tuple[int, int], ...] = ()
    """[begin, end) in `text`: said, so that no control token of the template reaches into it."""
    pictures: tuple[PictureFile, ...] = ()
    """Those that the conversation shows, in order."""

    @property
    def rendered(self) -> Rendered:
        """The text, for encoding."""
        return Rendered(self.text, self.literal)


def beginning(example: Example, end: int) -> Example:
    """Its text up to `end`, with what is learnt and what is literal in that."""

    def within(spans: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
        return tuple((first, min(last, end)) for first, last in spans if first < end)

    return msgspec.structs.replace(
        example,
        text=example.text[:end],
        learn=within(example.learn),
        literal=within(example.literal),
    )


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
    for name, least, spans in (("learn", 1, example.learn), ("literal", 0, example.literal)):
        reached = 0
        for begin, end in spans:
            if not reached <= begin <= end - least or end > len(example.text):
                raise ExportError(
                    f"{path}, line {number}: {name} {[begin, end]} is no part of the text"
                )
            reached = end
    return example
