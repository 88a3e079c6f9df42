"""Decoders that attend to what an encoder left of an input: its memory, filled once a sequence.

Keys and values of every layer are [rows, heads, frames, width], as `KvLayout` has a cache; a row of
the memory is written by one run of the encoder, and read by every step of the sequences that are
about it, of which there may be several.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from nsedge.bundle.causal_lm import GraphIo, KvLayout, Variant
from nsedge.bundle.fields import AnyVariant, Line, Positive, Strict, Variants


class MemoryIo(Strict, frozen=True, kw_only=True):
    """Names of a decoder's inputs; `{layer}` stands for the layer's number from 0.

    - rows: int64 [B], the row of the memory that each row of the batch is about.
    - segments: int32 [S, 3], in its place where the graph takes segments: for each, the row of the
      memory, how many frames of it are attended to, and how many of the tokens are about it.
    - key, value: the memory, all rows of it; read, never written.
    """

    rows: Line | None = None
    segments: Line | None = None
    key: Line = "memory.{layer}.key"
    value: Line = "memory.{layer}.value"

    def __post_init__(self) -> None:
        if (self.rows is None) == (self.segments is None):
            raise ValueError("a decoder's memory is named by rows or by segments, and not by both")


class MemoryOutput(Strict, frozen=True, kw_only=True):
    """Names of what an encoder writes of a row of the memory.

    Without segments the outputs are that row, [1, heads, frames, width]. With them, int32 [1, 3] (a
    row, 0, and the frames), past and present are to be bound to all of the memory.
    """

    segments: Line | None = None
    past_key: Line = "past_memory.{layer}.key"
    past_value: Line = "past_memory.{layer}.value"
    present_key: Line = "memory.{layer}.key"
    present_value: Line = "memory.{layer}.value"


class MemoryLayout(Strict, frozen=True, kw_only=True):
    """How the memory lies, and the frames of a row."""

    kv: KvLayout
    frames: Positive


class ConditionedIo(GraphIo, frozen=True, kw_only=True):
    """Names of a decoder's inputs and outputs, its memory among them."""

    memory: MemoryIo


class ConditionedVariant(Variant, frozen=True, kw_only=True):
    """A decoder's graph for one device and precision, and the memory that it attends to."""

    io: ConditionedIo
    memory: MemoryLayout


class ConditioningIo(Strict, frozen=True, kw_only=True):
    """Names of what an encoder gives; a kind of model adds what it reads.

    - states: float32 [1, frames, hidden], what the encoder makes of an input.
    - memory: keys and values of these for every layer of the decoder.
    """

    states: Line = "states"
    memory: MemoryOutput


class ConditioningVariant(AnyVariant, frozen=True, kw_only=True):
    """An encoder's graph for one device and precision."""

    io: ConditioningIo


class ConditionedFidelity(Strict, frozen=True, kw_only=True):
    """How near a variant is to fp32 of the same weights, from an input to the tokens that fp32
    writes of it: kl is the mean over positions of KL(fp32 || variant) in nats, top1 the share of
    positions whose most probable token agrees."""

    positions: Positive
    kl: float
    top1: float


E = TypeVar("E", bound=ConditioningVariant)
D = TypeVar("D", bound=ConditionedVariant)


class EncoderDecoder(Strict, Generic[E, D], frozen=True, kw_only=True):
    """The graphs. A variant of the decoder goes with the variant of the encoder of its name."""

    encoder: Variants[E]
    decoder: Variants[D]

    def __post_init__(self) -> None:
        names = [tuple(v.name for v in part.variants) for part in (self.encoder, self.decoder)]
        if names[0] != names[1]:
            raise ValueError("encoder and decoder have not the same variants")

    @property
    def variants(self) -> tuple[AnyVariant, ...]:
        """The decoder's, and then the encoder's."""
        return (*self.decoder.variants, *self.encoder.variants)

    def encoder_of(self, name: str) -> E:
        """The encoder's variant of a name; raises StopIteration where there is none."""
        return next(one for one in self.encoder.variants if one.name == name)
