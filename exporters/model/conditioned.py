"""Sizes of decoders that attend to an encoder's memory."""

from __future__ import annotations

from dataclasses import dataclass

from nsedge.bundle.causal_lm import KvLayout
from nsedge.bundle.conditioning import MemoryLayout


@dataclass(frozen=True, kw_only=True)
class DecoderShape:
    """Sizes of a decoder: of its context, its logits, and the memory of an input."""

    layers: int
    heads: int
    head_size: int
    positions: int
    vocabulary: int
    frames: int

    @property
    def width(self) -> int:
        """Numbers of a token."""
        return self.heads * self.head_size

    @property
    def kv(self) -> KvLayout:
        """The cache."""
        return KvLayout(layers=self.layers, heads=self.heads, head_dim=self.head_size)

    @property
    def memory(self) -> MemoryLayout:
        """The memory."""
        return MemoryLayout(kv=self.kv, frames=self.frames)
