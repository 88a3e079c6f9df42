"""Key and value memory, and what of it a run is bound to.

Keys and values of a layer are `[rows, heads, capacity, width]`, bound as past and present alike,
so that attention appends in place. Where a layout has blocks, a row lies otherwise in memory:
block after block of tokens, each with all heads (nsedge/native/src/attention.h). So a row takes the
pages of its tokens and no more, and a prefix is one run of bytes.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nsedge.bundle.causal_lm import KvLayout
from nsedge.runtime.machine.footprint import resident_bytes
from nsedge.runtime.machine.memory import release, reserve

HOST = "cpu"


@dataclass(frozen=True, slots=True)
class View:
    """A contiguous tensor in the memory of a device, as ONNX Runtime's bindings name it."""

    device: str
    dtype: type[Any]
    shape: tuple[int, ...]
    address: int


def host_view(array: NDArray[Any]) -> View:
    """`array` itself: no copy is made of it, and it must outlive every use of the view."""
    return View(HOST, array.dtype.type, array.shape, array.ctypes.data)


class KvMemory(Protocol):
    """The cache of every layer, on some device."""

    def views(self, first: int, rows: int) -> list[tuple[View, View]]:
        """Keys and values of `rows` rows from `first` on, layer by layer."""
        ...

    def copy(self, source: int, target: int, tokens: int, *, shared: int = 0) -> None:
        """Copy a row's first `tokens` tokens to another row; the first `shared` of them are there
        already, and may be copied again."""
        ...

    def swap(self, first: int, second: int, tokens: int) -> None:
        """Exchange the first `tokens` tokens of two rows."""
        ...

    def clear(self, row: int, tokens: int) -> None:
        """Write zeros in the place of a row's first `tokens` tokens."""
        ...

    def held(self) -> KvBytes:
        """What it takes."""
        ...

    def forget(self) -> None:
        """Give back what can be; nothing that was written is kept."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class KvBytes:
    """What a cache takes of host memory now, what it takes when full, and what of a GPU's."""

    resident: int
    reserved: int
    device: int = 0


class HostKv:
    """A cache in host memory, taken page by page as it is written; `layers` are its arrays, [rows,
    heads, tokens, width] or, in blocks, [rows, 1, blocks, bytes of a block].

    The capacity is rounded up to whole blocks of the layout.
    """

    def __init__(self, layout: KvLayout, *, rows: int, capacity: int, dtype: str) -> None:
        self._block, self._layout = layout.block_tokens, layout
        steps = self._steps(capacity)
        shape = (rows, layout.heads, steps, layout.width)
        if self._block > 1:
            shape = (rows, 1, steps, layout.heads * self._block * layout.width)
        self.layers: list[tuple[NDArray[Any], NDArray[Any]]] = [
            (reserve(shape, dtype), reserve(shape, dtype)) for _ in range(layout.layers)
        ]

    def views(self, first: int, rows: int) -> list[tuple[View, View]]:
        """Keys and values of `rows` rows from `first` on, layer by layer."""
        part = slice(first, first + rows)
        return [(self._view(keys[part]), self._view(values[part])) for keys, values in self.layers]

    def _view(self, part: NDArray[Any]) -> View:
        layout, steps = self._layout, part.shape[2]
        shape = (len(part), layout.heads, steps * self._block, layout.width)
        return dataclasses.replace(host_view(part), shape=shape)

    def copy(self, source: int, target: int, tokens: int, *, shared: int = 0) -> None:
        """Copy a row's first `tokens` tokens to another row, but for whole blocks of the `shared`
        ones."""
        part = slice(shared // self._block, self._steps(tokens))
        for memory in self._each():
            memory[target, :, part] = memory[source, :, part]

    def swap(self, first: int, second: int, tokens: int) -> None:
        """Exchange the first `tokens` tokens of two rows."""
        end = self._steps(tokens)
        for memory in self._each():
            kept = memory[first, :, :end].copy()
            memory[first, :, :end] = memory[second, :, :end]
            memory[second, :, :end] = kept

    def clear(self, row: int, tokens: int) -> None:
        """Write zeros in the place of a row's first `tokens` tokens."""
        for memory in self._each():
            memory[row, :, : self._steps(tokens)] = 0

    def held(self) -> KvBytes:
        """The pages written so far, and all there are."""
        each = self._each()
        return KvBytes(
            resident=sum(map(resident_bytes, each)), reserved=sum(one.nbytes for one in each)
        )

    def forget(self) -> None:
        """Give every page back."""
        for memory in self._each():
            release(memory)

    def _steps(self, tokens: int) -> int:
        """Blocks that hold so many tokens; a block has one token where the layout has none."""
        return -(-tokens // self._block)

    def _each(self) -> list[NDArray[Any]]:
        return [memory for pair in self.layers for memory in pair]


def round_to_int8(
    exact: NDArray[np.float32], scales: NDArray[np.float32], out: NDArray[np.int8]
) -> None:
    """Write `exact` [heads, tokens, head_dim] to `out` as attention itself would have cached it.

    scales is [heads, 1, head_dim]; rounds to the nearest, halves to the even one.
    """
    scaled = exact / scales
    np.rint(scaled, out=scaled)
    np.clip(scaled, -128, 127, out=scaled)
    out[...] = scaled
