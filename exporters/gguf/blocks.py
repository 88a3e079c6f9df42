"""A tensor's own blocks, as they lie in a GGUF file.

Layouts as in ggml's `ggml-common.h`. Types of 256 weights have a scale (and a least value) for each
16 or 32 of them, as multiples of one half-precision number.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from numpy.typing import NDArray

from exporters.gguf.file import GgufFile
from exporters.model.own_blocks import OwnBlocks

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
Unpacked = tuple[Bytes, Floats, Floats | None]
"""q [n, parts, block], scales [n, parts], and least values of the same shape or none: a weight is
scale * (q - middle) where there are none, else scale * q + least."""

SUB_BLOCKS = 8
"""Of 32 weights, in 256."""
SIX_BIT_SCALES = slice(4, 16)
TO_HALF = np.float32(2**-11)
"""Of a row's greatest scale: how far rounding to half precision may move any of it."""
_Kind = GGMLQuantizationType


def read_blocks(file: GgufFile, name: str) -> OwnBlocks | None:
    """The blocks of a matrix [N, K]; None where its type has none.

    Scales of 256 weights' parts, products of a half and an integer, are rounded to halves, as are
    least values: the operators read those at half the cost, and each moves by 2^-12 at most. Where
    a row is beyond what halves hold, nothing of the matrix is rounded.

    Raises:
        ExportError: the file is cut short.
    """
    tensor = file.tensors[name]
    if tensor.kind not in _TYPES:
        return None
    bits, unpack = _TYPES[tensor.kind]
    of_a_row = tensor.shape[-1] // GGML_QUANT_SIZES[tensor.kind][0]
    unpacked = [unpack(raw.reshape(len(raw) * of_a_row, -1)) for _, raw in file.raw_parts(name)]
    q = np.concatenate([part[0] for part in unpacked])
    scales = _by_row([part[1] for part in unpacked], tensor.rows)
    leasts = [part[2] for part in unpacked if part[2] is not None]
    least = _by_row(leasts, tensor.rows) if leasts else None
    if q.shape[1] > 1:
        scales, least = _halved(scales, least)
    middle = np.float32(1 << (bits - 1))
    return OwnBlocks(
        bits=bits,
        block=q.shape[-1],
        q=q.reshape(tensor.rows, -1, q.shape[-1]),
        scales=scales,
        offsets=None if least is None else least + middle * scales,
    )


def _by_row(parts: list[Floats], rows: int) -> Floats:
    return np.concatenate(parts).reshape(rows, -1)


def _halved(scales: Floats, least: Floats | None) -> tuple[Floats, Floats | None]:
    numbers = [scales] if least is None else [scales, least]
    with np.errstate(over="ignore"):
        halves = [each.astype(np.float16).astype(np.float32) for each in numbers]
    for exact, half in zip(numbers, halves, strict=True):
        if (np.abs(half - exact).max(-1) > TO_HALF * np.abs(exact).max(-1)).any():
            return scales, least
    return halves[0], halves[1] if least is not None else None


def _numbers(blocks: Bytes) -> Floats:
    """Half-precision numbers [n] of two bytes each, [n, 2]."""
    return np.ascontiguousarray(blocks).view(np.float16).astype(np.float32)


def _plain(blocks: Bytes, *, bits: int, has_least: bool) -> Unpacked:
    """32 weights: a scale, a least value if there is one, their fifth bits, their nibbles."""
    nibbles = blocks[:, -16:]
    q = np.concatenate([nibbles & 15, nibbles >> 4], -1)
    if bits == 5:
        q |= np.unpackbits(blocks[:, -20:-16], axis=-1, bitorder="little") << 4
    least = _numbers(blocks[:, 2:4]) if has_least else None
    return q[:, None], _numbers(blocks[:, :2]), least


def _eight_bits(blocks: Bytes) -> Unpacked:
    """32 weights: a scale, and signed bytes."""
    return (blocks[:, 2:] ^ np.uint8(128))[:, None], _numbers(blocks[:, :2]), None


def _with_six_bit_scales(blocks: Bytes, *, bits: int) -> Unpacked:
    """256 weights in parts of 32: what scales and least values are multiples of, those in 6 bits,
    fifth bits, nibbles."""
    packed = blocks[:, SIX_BIT_SCALES].reshape(-1, 3, 4)
    low, high, rest = packed[:, 0], packed[:, 1], packed[:, 2]
    scales = np.concatenate([low & 63, rest & 15 | low >> 2 & 48], -1)
    leasts = np.concatenate([high & 63, rest >> 4 | high >> 2 & 48], -1)
    nibbles = blocks[:, -128:].reshape(-1, SUB_BLOCKS // 2, 1, 32)
    q = np.concatenate([nibbles & 15, nibbles >> 4], 2).reshape(-1, SUB_BLOCKS, 32)
    if bits == 5:
        turns = np.arange(SUB_BLOCKS, dtype=np.uint8)[:, None]
        q |= (blocks[:, None, 16:48] >> turns & 1) << 4
    return q, _numbers(blocks[:, :2]) * scales, -_numbers(blocks[:, 2:4]) * leasts


def _six_bits(blocks: Bytes) -> Unpacked:
    """256 weights in parts of 16: nibbles, the bits above them, scales in 8 bits, and what those
    are multiples of."""
    nibbles = blocks[:, :128].reshape(-1, 2, 1, 64)
    low = np.concatenate([nibbles & 15, nibbles >> 4], 2).reshape(-1, 2, 4, 32)
    turns = np.arange(0, 8, 2, dtype=np.uint8)[:, None]
    above = blocks[:, 128:192].reshape(-1, 2, 1, 32) >> turns & 3
    scales = blocks[:, 192:208].view(np.int8)
    q = (low | above << 4).reshape(-1, 16, 16)
    return q, _numbers(blocks[:, 208:]) * scales, None


_TYPES: dict[GGMLQuantizationType, tuple[int, Callable[[Bytes], Unpacked]]] = {
    _Kind.Q4_0: (4, partial(_plain, bits=4, has_least=False)),
    _Kind.Q4_1: (4, partial(_plain, bits=4, has_least=True)),
    _Kind.Q5_0: (5, partial(_plain, bits=5, has_least=False)),
    _Kind.Q5_1: (5, partial(_plain, bits=5, has_least=True)),
    _Kind.Q8_0: (8, _eight_bits),
    _Kind.Q4_K: (4, partial(_with_six_bit_scales, bits=4)),
    _Kind.Q5_K: (5, partial(_with_six_bit_scales, bits=5)),
    _Kind.Q6_K: (6, _six_bits),
}
BLOCKED = frozenset(_TYPES)
"""The types that come in blocks."""
