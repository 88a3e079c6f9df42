"""Weights in the blocks of 4, 5, 6 or 8 bits that their source keeps them in, exactly.

A product has one kind of blocks. Where its parts (query, key and value) have different ones, it
takes what holds all of them: 8 bits, and the smallest block. The operators pack such weights in as
few bits as they need.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from exporters.graph.graph import Graph
from exporters.graph.pack import projections
from exporters.model.own_blocks import OwnBlocks
from exporters.model.source import Source
from exporters.quantise.blocks import (
    SYMMETRIC_ZERO,
    Blocks,
    kept_fp32,
    pairs,
    put_blocks,
    quantise_blocks,
    quantise_tables,
    refuse_large,
)
from exporters.quantise.schemes import Scheme

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]

WIDE = 8
"""Bits of what has not 4 alone."""


def quantise_own(graph: Graph, scheme: Scheme, source: Source) -> dict[str, int]:
    """Keep every matrix in its source's blocks, in place; what stays fp32, as kind -> bytes.

    A matrix that comes in none is rounded to 8 bits, as is a table whose blocks have offsets.

    Raises:
        Refused: a large matrix is multiplied in a way that has no quantised form.
    """
    quantise_tables(graph, scheme, own=lambda name: own_table(source.own_blocks(name)))
    offsets = []
    for projection in list(projections(graph)):
        parts = source.own_blocks(projection.weight)
        weight = graph.weights.pop(projection.weight)
        width = weight.shape[0]
        if parts:
            bits, block, blocks = joined(parts)
        else:
            bits, block = scheme.bits or WIDE, scheme.block
            rows = np.ascontiguousarray(weight.T)
            blocks = quantise_blocks(rows, bits=bits, block=block)
        name = put_blocks(graph, projection, blocks, bits=bits, block=block, width=width)
        offsets.append(name)
    graph.prune()
    refuse_large(graph, meant=offsets)
    return kept_fp32(graph)


def own_table(parts: Sequence[OwnBlocks]) -> Blocks | None:
    """A table's blocks in 8 bits; None where there are none, or they have offsets."""
    if len(parts) != 1 or parts[0].offsets is not None:
        return None
    return Blocks(_eight_bits(parts[0]), parts[0].scales, None)


def joined(parts: Sequence[OwnBlocks]) -> tuple[int, int, Blocks]:
    """Bits, block, and the blocks of matrices [N, K] one after the other along N."""
    block = min(part.block for part in parts)
    bits = max(part.bits for part in parts)
    if bits == 4:
        q = pairs(np.concatenate([part.q for part in parts]))
    else:
        bits = WIDE
        q = np.concatenate([_in_blocks(_eight_bits(part), block) for part in parts])
    scales = np.concatenate([_spread(part.scales, part.block // block) for part in parts])
    offsets = None
    if any(part.offsets is not None for part in parts):
        given = [
            np.zeros_like(part.scales) if part.offsets is None else part.offsets for part in parts
        ]
        offsets = np.concatenate(
            [_spread(each, part.block // block) for each, part in zip(given, parts, strict=True)]
        )
    return bits, block, Blocks(q, scales, None, offsets)


def _eight_bits(part: OwnBlocks) -> Bytes:
    return part.q + np.uint8(SYMMETRIC_ZERO - part.middle)


def _in_blocks(q: Bytes, block: int) -> Bytes:
    return q.reshape(len(q), -1, block)


def _spread(sides: Floats, times: int) -> Floats:
    return np.repeat(sides, times, axis=1)
