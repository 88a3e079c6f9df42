"""Events that tell what was found of inputs: vectors, scores, labels, and tokens for masks."""

from __future__ import annotations

from dataclasses import dataclass

from nsedge.api.labels import Filling, Label

MAX_ARRAY_BYTES = 256 << 10
"""The most data of one `Vectors` or `Scores`, unless a single row is longer: what is more comes as
several, so that a reader's credit bounds what it holds."""
MAX_ENTRIES = 1024
"""The same of one `Labels` or `Fillings`, in labels or tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vectors:
    """Embeddings of some inputs, in their order, from input `first` on.

    data: float32, little-endian, of `shape` [inputs, dimensions], at most MAX_ARRAY_BYTES or one
    row; rows have length 1 where the model's vectors have.
    """

    request_id: str
    first: int
    shape: tuple[int, int]
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Scores of some inputs, in their order, from input `first` on.

    data: float32, little-endian, of `shape` [inputs, labels], at most MAX_ARRAY_BYTES or one row.
    """

    request_id: str
    first: int
    shape: tuple[int, int]
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """Labels of some inputs, in their order, from input `first` on: those of a whole text from the
    surest on, those of spans and tokens as they stand in the text. At most MAX_ENTRIES or one
    input."""

    request_id: str
    first: int
    labels: tuple[tuple[Label, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fillings:
    """Tokens for the masks of some inputs, in their order, from input `first` on.

    masks: of each input, of each mask in it, the tokens from the likeliest on; at most MAX_ENTRIES
    or one input.
    """

    request_id: str
    first: int
    masks: tuple[tuple[tuple[Filling, ...], ...], ...]
