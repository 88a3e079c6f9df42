"""Vectors of an answer, row by row."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Iterator

from nsedge.api import Result, Vectors

_FLOAT_BYTES = 4


def rows(results: Iterable[Result]) -> Iterator[bytes]:
    """The vector of each input in turn: float32, little-endian."""
    for event in results:
        if isinstance(event, Vectors):
            count, dimensions = event.shape
            size = _FLOAT_BYTES * dimensions
            yield from (event.data[at * size : (at + 1) * size] for at in range(count))


def floats(data: bytes) -> list[float]:
    """A row as numbers."""
    numbers = array("f", data)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tolist()
