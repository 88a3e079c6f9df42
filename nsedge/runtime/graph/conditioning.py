"""What an encoder left of inputs, in host memory: written by its session, read by the decoder's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nsedge.bundle.conditioning import MemoryIo, MemoryLayout, MemoryOutput
from nsedge.runtime.decode.sequence import Sequence
from nsedge.runtime.graph.binding import Binding
from nsedge.runtime.graph.kv import HostKv, KvBytes, View


class Memory:
    """Rows of a decoder's memory, taken page by page as they are written."""

    def __init__(self, layout: MemoryLayout, *, rows: int) -> None:
        self.rows = rows
        self.frames = layout.frames
        self.hidden = layout.kv.heads * layout.kv.head_dim
        """Numbers that an encoder has of a frame."""
        self._kv = HostKv(layout.kv, rows=rows, capacity=layout.frames, dtype=layout.kv.dtype)

    def views(self) -> list[tuple[View, View]]:
        """Keys and values of all rows, layer by layer."""
        return self._kv.views(0, self.rows)

    def row_views(self, row: int) -> list[tuple[View, View]]:
        """The same of one row."""
        return self._kv.views(row, 1)

    def held(self) -> KvBytes:
        """What it takes."""
        return self._kv.held()

    def forget(self) -> None:
        """Give its pages back; what was written is lost."""
        self._kv.forget()


@dataclass(frozen=True, kw_only=True)
class About:
    """How many tokens of a run are about which sequence's row of the memory."""

    sequence: Sequence
    tokens: int

    @property
    def row(self) -> int:
        """The row; a sequence that is about none, as those that a model is warmed up with, reads
        the first."""
        return self.sequence.memory or 0


@dataclass(frozen=True, kw_only=True)
class Reader:
    """A decoder's way to a memory: its names for it."""

    memory: Memory
    io: MemoryIo

    def place(self, binding: Binding) -> None:
        """Let the decoder read all rows."""
        for layer, (keys, values) in enumerate(self.memory.views()):
            binding.show(self.io.key.format(layer=layer), keys)
            binding.show(self.io.value.format(layer=layer), values)

    def segments(self, abouts: list[About]) -> NDArray[np.int32]:
        """What a graph of segments reads: int32 [S, 3]."""
        frames = self.memory.frames
        return np.array([(about.row, frames, about.tokens) for about in abouts], np.int32)


def write_to(binding: Binding, io: MemoryOutput, memory: Memory, row: int) -> None:
    """Let an encoder write what it gives to a row."""
    if io.segments is None:
        for layer, (keys, values) in enumerate(memory.row_views(row)):
            binding.give(io.present_key.format(layer=layer), keys)
            binding.give(io.present_value.format(layer=layer), values)
        return
    place: NDArray[Any] = np.array([(row, 0, memory.frames)], np.int32)
    binding.feed(io.segments, place)
    for layer, (keys, values) in enumerate(memory.views()):
        past, present = io.past_key.format(layer=layer), io.present_key.format(layer=layer)
        binding.place(past, present, keys)
        past, present = io.past_value.format(layer=layer), io.present_value.format(layer=layer)
        binding.place(past, present, values)
