"""Weights that lie on 4-bit grids already, kept exactly.

A Q4_1 block is 32 weights d * q + m, q in 0..15, d and m in half precision. Where a model was
dequantised from such blocks, they can be found again from the numbers alone: the least weight of
a block is m, the greatest d * 15 + m. MatMulNBits multiplies by d * (q - 8), and m + 8 d is
multiplied by the sum of a block of x: the former rounds x, which costs the less the smaller its
weights are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import helper

from exporters.errors import Refused
from exporters.graph import MICROSOFT, Graph
from exporters.pack import Projection, projections
from exporters.quantise import (
    kept_fp32,
    matmul_nbits,
    pairs,
    quantise_tables,
    refuse_large,
)
from exporters.schemes import Scheme

BLOCK = 32
LEVELS = 15
ZERO = 8


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
    blocks = weight.reshape(rows, -1, BLOCK)
    low = blocks.min(-1)
    steps = ((blocks.max(-1) - low) / np.float32(LEVELS)).astype(np.float16).astype(np.float32)
    divisor = np.where(steps > 0, steps, np.float32(1))
    q = np.rint((blocks - low[..., None]) / divisor[..., None])
    same = q * steps[..., None] + low[..., None] == blocks
    if not same.all() or q.max() > LEVELS or (low.astype(np.float16) != low).any():
        return None
    return Exact(pairs(q.astype(np.uint8)), steps, low + np.float32(ZERO) * steps)


def quantise_x4(graph: Graph, scheme: Scheme) -> dict[str, int]:
    """Keep every matrix's own 4-bit blocks, in place; what stays fp32, as kind -> bytes.

    Raises:
        Refused: a matrix was not made of such blocks.
    """
    quantise_tables(graph, scheme)
    offsets = []
    for projection in list(projections(graph)):
        weight = np.ascontiguousarray(graph.weights.pop(projection.weight).T)
        exact = find_blocks(weight)
        if exact is None:
            raise Refused(
                f"{projection.multiply.name} is not made of Q4_1 blocks: x4 keeps the 4-bit weights"
                " of a Q4_1 GGUF as they are; another scheme quantises"
            )
        offsets.append(_multiply(graph, projection, exact, weight.shape))
    graph.prune()
    refuse_large(graph, meant=offsets)
    return kept_fp32(graph)


def _multiply(graph: Graph, projection: Projection, exact: Exact, shape: tuple[int, ...]) -> str:
    """Put the product in the place of `projection`; the weight that holds the offsets."""
    rows, width = shape
    name = projection.multiply.name
    blocks = width // BLOCK
    cubed = graph.constant(f"{name}/block_shape", np.array([0, 0, blocks, BLOCK]))
    axes = graph.constant(f"{name}/block_axis", np.array([-1]))
    inputs = [
        projection.source,
        graph.constant(f"{name}/q", exact.q),
        graph.constant(f"{name}/scales", exact.scales),
    ]
    offsets = graph.constant(f"{name}/offsets", exact.offsets)
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
    output = projection.multiply.output[0]
    nodes.append(helper.make_node("Add", [f"{name}/scaled", f"{name}/shift"], [output]))
    graph.replace(projection.multiply, *nodes)
    return offsets
