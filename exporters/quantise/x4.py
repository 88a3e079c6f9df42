"""Weights that lie on 4-bit grids already, kept exactly.

A Q4_1 block is 32 weights d * q + m, q in 0..15, d and m in half precision; a Q4_0 block is
d * (q - 8), d of either sign. Where a model was dequantised from such blocks, they can be found
again from the numbers alone: in the first the least weight is m, the greatest d * 15 + m; in the
second the one of the greatest magnitude is -8 d. MatMulNBits multiplies by d * (q - 8), and m + 8 d
is multiplied by the sum of a block of x: the former rounds x, which costs the less the smaller its
weights are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import helper

from exporters.errors import Refused
from exporters.graph.graph import MICROSOFT, Graph
from exporters.graph.pack import Projection, projections
from exporters.quantise.blocks import (
    kept_fp32,
    matmul_nbits,
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


@dataclass(frozen=True)
class Exact:
    """q uint8 [N, blocks, 16], two weights a byte; scales and offsets float32 [N, blocks].

    A weight is scale * (q - 8) + offset.
    """

    q: NDArray[np.uint8]
    scales: NDArray[np.float32]
    offsets: NDArray[np.float32]


def find_blocks(weight: NDArray[np.float32]) -> Exact | None:
    """The blocks that `weight` [N, K] was made of; None where any weight is off its grid."""
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
    return Exact(packed, steps.reshape(shape), offsets.reshape(shape))


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
        exact = find_blocks(weight)
        if exact is not None:
            offsets.append(_multiply(graph, projection, exact, weight.shape))
        elif projection.output in graph.output_names():
            _quantise_head(graph, projection, weight, scheme)
        else:
            raise Refused(
                f"{projection.multiply.name} is not made of Q4_0 or Q4_1 blocks: x4 keeps the 4-bit"
                " weights of such a GGUF as they are; another scheme quantises"
            )
    graph.prune()
    refuse_large(graph, meant=offsets)
    return kept_fp32(graph)


def _quantise_head(graph: Graph, projection: Projection, weight: Floats, scheme: Scheme) -> None:
    bits, block = scheme.table_bits or 8, scheme.table_block
    blocks = quantise_blocks(weight, bits=bits, block=block)
    put_blocks(graph, projection, blocks, bits=bits, block=block, width=weight.shape[1])


def _multiply(graph: Graph, projection: Projection, exact: Exact, shape: tuple[int, ...]) -> str:
    """Put the product in the place of `projection`; the name of the offsets' weight.

    It is not there where all offsets are 0.
    """
    rows, width = shape
    name = projection.multiply.name
    blocks = width // BLOCK
    offsets, output = f"{name}/offsets", projection.multiply.output[0]
    inputs = [
        projection.source,
        graph.constant(f"{name}/q", exact.q),
        graph.constant(f"{name}/scales", exact.scales),
    ]
    if not exact.offsets.any():
        product = matmul_nbits(inputs, output, name, (rows, width), 4, BLOCK)
        graph.replace(projection.multiply, product)
        return offsets
    graph.constant(offsets, exact.offsets)
    cubed = graph.constant(f"{name}/block_shape", np.array([0, 0, blocks, BLOCK]))
    axes = graph.constant(f"{name}/block_axis", np.array([-1]))
    nodes = [
        matmul_nbits(inputs, f"{name}/scaled", name, (rows, width), 4, BLOCK),
        helper.make_node("Reshape", [projection.source, cubed], [f"{name}/blocks"]),
        helper.make_node("ReduceSum", [f"{name}/blocks", axes], [f"{name}/sums"], keepdims=0),
        helper.make_node(
            "FusedMatMul",
            [f"{name}/sums", offsets],
            [f"{name}/shift"],
            domain=MICROSOFT,
            transB=1,
        ),
    ]
    nodes.append(helper.make_node("Add", [f"{name}/scaled", f"{name}/shift"], [output]))
    graph.replace(projection.multiply, *nodes)
    return offsets
