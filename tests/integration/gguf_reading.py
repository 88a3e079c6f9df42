"""A second reading of a GGUF file's tokenizer: from its bytes, with a byte-pair encoder of its own.

Follows the GGUF specification (header, then key, type and value) and, for "smollm", llama.cpp's
rule: digits alone, then GPT-2's pattern, then merges by rank.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, BinaryIO

import regex

NUMBERS = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    4: "<I",
    5: "<i",
    6: "<f",
    7: "<?",
    10: "<Q",
    11: "<q",
    12: "<d",
}
STRING, ARRAY = 8, 9
CONTROL = 3
GPT2 = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")


def read_metadata(file: BinaryIO) -> dict[str, Any]:
    """Every key and value of the header."""
    magic, version, _, count = struct.unpack("<4sIQQ", file.read(24))
    if (magic, version) != (b"GGUF", 3):
        raise ValueError(f"not a GGUF file of version 3: {magic!r} {version}")
    return dict(_entries(file, count))


def _entries(file: BinaryIO, count: int) -> Iterator[tuple[str, Any]]:
    for _ in range(count):
        key = _value(file, STRING)
        yield key, _value(file, _number(file, 4))


def _value(file: BinaryIO, kind: int) -> Any:
    if kind == STRING:
        return file.read(_number(file, 10)).decode()
    if kind == ARRAY:
        inner, length = _number(file, 4), _number(file, 10)
        return [_value(file, inner) for _ in range(length)]
    return _number(file, kind)


def _number(file: BinaryIO, kind: int) -> Any:
    form = NUMBERS[kind]
    (number,) = struct.unpack(form, file.read(struct.calcsize(form)))
    return number


class Reading:
    """Text to token ids, by the metadata alone."""

    def __init__(self, metadata: dict[str, Any]) -> None:
        tokens = metadata["tokenizer.ggml.tokens"]
        types = metadata["tokenizer.ggml.token_type"]
        self.ids = {token: i for i, token in enumerate(tokens)}
        self.special = [t for t, kind in zip(tokens, types, strict=True) if kind == CONTROL]
        self._marks = regex.compile("(" + "|".join(map(regex.escape, self.special)) + ")")
        merges = metadata["tokenizer.ggml.merges"]
        self._ranks = {tuple(pair.split(" ")): rank for rank, pair in enumerate(merges)}
        self._letters = _byte_letters()

    def encode(self, text: str) -> list[int]:
        ids: list[int] = []
        for part in self._marks.split(text):
            if part in self.special:
                ids.append(self.ids[part])
                continue
            for stretch in regex.split(r"(\p{N})", part):
                for word in GPT2.findall(stretch):
                    ids += [self.ids[piece] for piece in self._merge(word)]
        return ids

    def _merge(self, word: str) -> list[str]:
        pieces = [self._letters[byte] for byte in word.encode()]
        while len(pieces) > 1:
            pairs = list(pairwise(pieces))
            rank, at = min((self._ranks.get(pair, 1 << 30), i) for i, pair in enumerate(pairs))
            if rank == 1 << 30:
                break
            pieces[at : at + 2] = [pieces[at] + pieces[at + 1]]
        return pieces


def _byte_letters() -> dict[int, str]:
    """GPT-2's letters for bytes: printable ones stand for themselves, the rest from U+0100 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {
        byte: chr(256 + i) for i, byte in enumerate(others)
    }
