"""Weights that lie on 4-bit grids already, kept exactly.

A Q4_1 block is 32 weights d * q + m, q in 0..15, d and m in half precision; a Q4_0 block is
d * (q - 8), d of either sign. Where a model was dequantised from such blocks, they can be found
again from the numbers alone: in the first the least weight is m, the greatest d * 15 + m; in the
second the one of the greatest magnitude is -8 d. MatMulNBits multiplies by d * (q - 8), and m + 8 d
is multiplied by the sum of a block of x: the former rounds x, which costs the less the smaller its
weights are.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from exporters.errors import Refused
from exporters.graph.graph import Graph
from exporters.graph.pack import projections
from exporters.quantise.blocks import (
    Blocks,
    kept_fp32,
    pairs,
    put_blocks,
    quantise_blocks,
    quantise_tables,
    refuse_large,
)
from exporters.quantise.schemes import Scheme

BLOCK = 32
LEVELS = 15
ZERO = 8

Floats = NDArray[np.float32]


def find_blocks(weight: Floats) -> Blocks | None:
    """The blocks of 32 that `weight` [N, K] was made of; None where any weight is off its grid."""
    rows, width = weight.shape
    if width % BLOCK:
        return None
    blocks = weight.reshape(-1, BLOCK)
    q, steps = _around_zero(blocks)
    offsets = np.zeros_like(steps)
    rest = np.flatnonzero(~_lies_on(blocks, q, steps, offsets, middle=ZERO))
    if rest.size:
        least = blocks[rest].min(-1)
        q[rest], steps[rest] = _from_least(blocks[rest], least)
        if (_half(least) != least).any():
            return None
        if not _lies_on(blocks[rest], q[rest], steps[rest], least, middle=0).all():
            return None
        offsets[rest] = least + np.float32(ZERO) * steps[rest]
    shape = (rows, width // BLOCK)
    packed = pairs(q.astype(np.uint8).reshape(*shape, BLOCK))
    return Blocks(packed, steps.reshape(shape), None, offsets.reshape(shape))


def _around_zero(blocks: Floats) -> tuple[Floats, Floats]:
    """q and d of blocks [n, 32] as Q4_0 would have them."""
    farthest = np.abs(blocks).argmax(-1)
    steps = _half(blocks[np.arange(len(blocks)), farthest] / np.float32(-ZERO))
    divisor = np.where(steps != 0, steps, np.float32(1))
    return np.rint(blocks / divisor[:, None]) + np.float32(ZERO), steps


def _from_least(blocks: Floats, least: Floats) -> tuple[Floats, Floats]:
    """q and d of blocks [n, 32] as Q4_1 would have them, their `least` being m."""
    steps = _half((blocks.max(-1) - least) / np.float32(LEVELS))
    divisor = np.where(steps > 0, steps, np.float32(1))
    return np.rint((blocks - least[:, None]) / divisor[:, None]), steps


def _lies_on(
    blocks: Floats, q: Floats, steps: Floats, low: Floats, *, middle: int
) -> NDArray[np.bool_]:
    """Which blocks are steps * (q - middle) + low, q in 0..15."""
    same = ((q - np.float32(middle)) * steps[:, None] + low[:, None] == blocks).all(-1)
    return same & (q.min(-1) >= 0) & (q.max(-1) <= LEVELS)


def _half(values: Floats) -> Floats:
    with np.errstate(over="ignore"):
        return values.astype(np.float16).astype(np.float32)


def quantise_x4(graph: Graph, scheme: Scheme) -> dict[str, int]:
    """Keep every matrix's own 4-bit blocks, in place; what stays fp32, as kind -> bytes.

    A head that was not made of such blocks is kept in 8 bits, as the embedding is.

    Raises:
        Refused: another matrix was not made of them.
    """
    quantise_tables(graph, scheme)
    offsets = []
    for projection in list(projections(graph)):
        weight = np.ascontiguousarray(graph.weights.pop(projection.weight).T)
        bits, block, blocks = 4, BLOCK, find_blocks(weight)
        if blocks is None and projection.output in graph.output_names():
            bits, block = scheme.table_bits or 8, scheme.table_block
            blocks = quantise_blocks(weight, bits=bits, block=block)
        if blocks is None:
            raise Refused(
                f"{projection.multiply.name} is not made of Q4_0 or Q4_1 blocks: x4 keeps the 4-bit"
                " weights of such a GGUF as they are; another scheme quantises"
            )
        width = weight.shape[1]
        name = put_blocks(graph, projection, blocks, bits=bits, block=block, width=width)
        offsets.append(name)
    graph.prune()
    refuse_large(graph, meant=offsets)
    return kept_fp32(graph)
