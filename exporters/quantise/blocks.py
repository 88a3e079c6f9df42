"""Weights in blocks of small integers, in the layout of ONNX Runtime's MatMulNBits.

A matrix [N, K] becomes q [N, blocks, bytes] and scales [N, blocks]; weight = scale * (q - zero).
8-bit blocks are symmetric around 128, 4-bit ones have a zero point each. What a source kept itself
may have an offset a block instead, which is multiplied by the sum of a block of x.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, helper

from exporters.errors import Refused
from exporters.graph.graph import MICROSOFT, Graph, attribute
from exporters.graph.pack import Projection, projections
from exporters.quantise.schemes import Scheme

INT8_ACTIVATIONS = 4
"""MatMulNBits' accuracy_level: multiply in int8, activations quantised a block at a time."""
LARGE = 1 << 15
"""Elements from which a matrix left in fp32 is an error."""
SMALLEST_BLOCK = 16
SYMMETRIC_ZERO = 128
TABLE_BITS = 8
"""Of a table that is looked up in blocks."""


@dataclass(frozen=True)
class Blocks:
    """A matrix [N, K] in blocks: q uint8 [N, blocks, bytes], scales, packed zero points or None.

    Where there are no zero points, the zero is 8 or 128, and there may be offsets [N, blocks]: a
    weight is scale * (q - zero) + offset then.
    """

    q: NDArray[np.uint8]
    scales: NDArray[np.float32]
    zeros: NDArray[np.uint8] | None
    offsets: NDArray[np.float32] | None = None

    @property
    def nbytes(self) -> int:
        arrays = (self.q, self.scales, self.zeros, self.offsets)
        return sum(array.nbytes for array in arrays if array is not None)


OwnTable = Callable[[str], Blocks | None]


def quantise_blocks(weight: NDArray[np.float32], *, bits: int, block: int) -> Blocks:
    """Round `weight` [N, K] to the nearest of each block's levels; K is padded with zeros."""
    rows, width = weight.shape
    padded = np.zeros((rows, -(-width // block) * block), np.float32)
    padded[:, :width] = weight
    blocks = padded.reshape(rows, -1, block)
    return _symmetric_8(blocks) if bits == 8 else _asymmetric_4(blocks)


def _symmetric_8(blocks: NDArray[np.float32]) -> Blocks:
    scales = _halves(np.abs(blocks).max(-1) / np.float32(127))
    q = np.clip(np.rint(blocks / scales[..., None]), -127, 127) + SYMMETRIC_ZERO
    return Blocks(q.astype(np.uint8), scales, None)


def _asymmetric_4(blocks: NDArray[np.float32]) -> Blocks:
    low, high = np.minimum(blocks.min(-1), 0), np.maximum(blocks.max(-1), 0)
    scales = _halves((high - low) / np.float32(15))
    zeros = np.clip(np.rint(-low / scales), 0, 15).astype(np.uint8)
    q = np.clip(np.rint(blocks / scales[..., None]) + zeros[..., None], 0, 15).astype(np.uint8)
    return Blocks(pairs(q), scales, pairs(zeros))


def _halves(scales: NDArray[np.float32]) -> NDArray[np.float32]:
    """The nearest half-precision numbers above zero: the native operators keep scales in halves."""
    least = np.finfo(np.float16).smallest_subnormal
    return np.maximum(scales.astype(np.float16), least).astype(np.float32)


def pairs(nibbles: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Two 4-bit numbers a byte along the last axis, the earlier one low."""
    odd = nibbles.shape[-1] % 2
    even = np.pad(nibbles, [*[(0, 0)] * (nibbles.ndim - 1), (0, odd)])
    return np.ascontiguousarray(even[..., 0::2] | (even[..., 1::2] << 4))


def quantise(graph: Graph, scheme: Scheme, *, meant: Collection[str] = ()) -> dict[str, int]:
    """Quantise every matrix of `graph` in place, but for those that are `meant` to stay; what stays
    fp32, as kind -> bytes.

    Raises:
        Refused: a large matrix is multiplied in a way that has no quantised form.
    """
    if scheme.bits is None or scheme.table_bits is None:
        return kept_fp32(graph)
    quantise_tables(graph, scheme)
    for projection in list(projections(graph)):
        weight = np.ascontiguousarray(graph.weights[projection.weight].T)
        head = projection.output in graph.output_names()
        bits = scheme.table_bits if head else scheme.bits
        block = scheme.table_block if head else scheme.block
        blocks = quantise_blocks(weight, bits=bits, block=block)
        put_blocks(graph, projection, blocks, bits=bits, block=block, width=weight.shape[1])
    graph.prune()
    refuse_large(graph, meant=meant)
    return kept_fp32(graph)


def put_blocks(
    graph: Graph, projection: Projection, blocks: Blocks, *, bits: int, block: int, width: int
) -> str:
    """MatMulNBits by a matrix [N, width] in the place of a projection, its bias included.

    The name of the weight that holds the offsets: it is there unless all of them are 0.
    """
    name, shape = projection.multiply.name, (len(blocks.q), width)
    inputs = [projection.source, *_keep(graph, name, blocks)]
    if projection.bias is not None:
        inputs += [""] * (5 - len(inputs))  # group indices are not used; the bias is input 5
        inputs.append(projection.bias)
    offsets, output = f"{name}/offsets", projection.output
    if blocks.offsets is None or not blocks.offsets.any():
        nodes = [matmul_nbits(inputs, output, name, shape, bits, block)]
    else:
        graph.constant(offsets, blocks.offsets)
        scaled = f"{name}/scaled"
        nodes = [
            matmul_nbits(inputs, scaled, name, shape, bits, block),
            *_shift(graph, projection.source, f"{name}/shift", offsets, block=block),
            helper.make_node("Add", [scaled, f"{name}/shift"], [output]),
        ]
    graph.replace(projection.multiply, *nodes)
    graph.nodes = [n for n in graph.nodes if n is not projection.add]
    return offsets


def _shift(graph: Graph, source: str, output: str, offsets: str, *, block: int) -> list[NodeProto]:
    """`offsets` [N, blocks] times the sums of blocks of `source`."""
    blocks = graph.weights[offsets].shape[1]
    cubed = graph.constant(f"{output}/block_shape", np.array([0, 0, blocks, block]))
    axes = graph.constant(f"{output}/block_axis", np.array([-1]))
    sums = f"{output}/sums"
    return [
        helper.make_node("Reshape", [source, cubed], [f"{output}/blocks"]),
        helper.make_node("ReduceSum", [f"{output}/blocks", axes], [sums], keepdims=0),
        helper.make_node("FusedMatMul", [sums, offsets], [output], domain=MICROSOFT, transB=1),
    ]


def matmul_nbits(
    inputs: list[str], output: str, name: str, shape: tuple[int, int], bits: int, block: int
) -> NodeProto:
    """A product with weights [N, K] = shape in blocks, activations rounded to 8 bits."""
    return helper.make_node(
        "MatMulNBits",
        inputs,
        [output],
        name=name,
        domain=MICROSOFT,
        N=shape[0],
        K=shape[1],
        bits=bits,
        block_size=block,
        accuracy_level=INT8_ACTIVATIONS,
    )


def _keep(graph: Graph, name: str, blocks: Blocks) -> list[str]:
    names = [
        graph.constant(f"{name}/q", blocks.q),
        graph.constant(f"{name}/scales", blocks.scales),
    ]
    if blocks.zeros is not None:
        names.append(graph.constant(f"{name}/zeros", blocks.zeros))
    return names


def quantise_tables(graph: Graph, scheme: Scheme, own: OwnTable = lambda _: None) -> None:
    """Embedding tables [V, H]: looked up in blocks, and multiplied by if the head is tied.

    `own` gives the 8-bit blocks that a table is kept in already, where it is.
    """
    for lookup in [n for n in graph.nodes if n.op_type == "Gather" and n.input[0] in graph.weights]:
        table = graph.weights[lookup.input[0]]
        if table.ndim != 2 or table.size < LARGE:
            continue
        blocks = own(lookup.input[0]) or _table_blocks(np.ascontiguousarray(table), scheme)
        _put_table(graph, lookup, blocks, table.shape)


def _table_blocks(table: NDArray[np.float32], scheme: Scheme) -> Blocks:
    bits, width = scheme.table_bits or 8, table.shape[1]
    block = next((b for b in (scheme.table_block, 32, SMALLEST_BLOCK) if width % b == 0), None)
    if block is None:
        raise Refused(f"hidden size {width} is no multiple of {SMALLEST_BLOCK}")
    return quantise_blocks(table, bits=bits, block=block)


def _put_table(graph: Graph, lookup: NodeProto, blocks: Blocks, shape: tuple[int, ...]) -> None:
    (rows, width), source = shape, lookup.input[0]
    block = width // blocks.scales.shape[1]
    q, scales = _keep(graph, source, blocks)
    _look_up(graph, lookup, q, scales, block=block, shape=(rows, width))
    for node in [n for n in graph.nodes if n.op_type == "FusedMatMul" and n.input[1] == source]:
        inputs = [node.input[0], q, scales]
        tied = matmul_nbits(inputs, node.output[0], node.name, (rows, width), TABLE_BITS, block)
        graph.replace(node, tied)


def _look_up(
    graph: Graph, lookup: NodeProto, q: str, scales: str, *, block: int, shape: tuple[int, int]
) -> None:
    """Gather whole rows of blocks [V, blocks, block] and join them to [.., H].

    The lookup wants scales of its table's rank; the head, which shares them, wants two axes.
    """
    name, (rows, width) = lookup.name, shape
    cubed = graph.constant(f"{name}/scales_shape", np.array([rows, width // block, 1]))
    joined = graph.constant(f"{name}/row_shape", np.array([0, 0, width]))
    graph.replace(
        lookup,
        helper.make_node("Reshape", [scales, cubed], [f"{name}/scales"], name=f"{name}/cube"),
        helper.make_node(
            "GatherBlockQuantized",
            [q, lookup.input[1], f"{name}/scales"],
            [f"{name}/blocks"],
            name=name,
            domain=MICROSOFT,
            gather_axis=0,
            quantize_axis=2,
            block_size=block,
            bits=8,
        ),
        helper.make_node("Reshape", [f"{name}/blocks", joined], lookup.output, name=f"{name}/join"),
    )


def refuse_large(graph: Graph, *, meant: Collection[str] = ()) -> None:
    """Hold that no large matrix is left as it was, but those that are `meant` to be.

    Raises:
        Refused: one is; the message names it.
    """
    for node in graph.nodes:
        if node.op_type not in ("MatMul", "FusedMatMul", "Gemm", "Gather", "Conv"):
            continue
        for name in node.input:
            weight = graph.weights.get(name)
            if weight is None or name in meant:
                continue
            if weight.dtype == np.float32 and weight.size >= LARGE:
                raise Refused(
                    f"{node.name} ({node.op_type} by {list(weight.shape)}) cannot be quantised;"
                    " --scheme fp32 exports it as it is"
                )


def kept_fp32(graph: Graph) -> dict[str, int]:
    """Bytes of fp32 weights left, by what they are for."""
    sizes: dict[str, int] = {}
    counted: set[str] = set()
    for node in graph.nodes:
        for position, name in enumerate(node.input):
            weight = graph.weights.get(name)
            if weight is None or weight.dtype != np.float32 or name in counted:
                continue
            counted.add(name)
            kind = _purpose(node, position)
            sizes[kind] = sizes.get(kind, 0) + weight.nbytes
    return sizes


def _purpose(node: NodeProto, position: int) -> str:
    quantised = attribute(node, "bits") is not None or node.op_type == "Reshape"
    if node.op_type == "GroupQueryAttention":
        return "rotary tables"
    if "LayerNormalization" in node.op_type:
        return "norms"
    if node.op_type in ("Gather", "Slice"):
        return "small tables"
    if node.op_type in ("BiasGelu", "Add"):
        return "biases"
    if quantised:
        return "biases" if position == 5 else "scales"
    if node.op_type == "MatMulIntegerToFloat":
        return "biases" if position == 6 else "scales"
    if node.op_type in ("QuantizeLinear", "Max"):
        return "scales"
    return node.op_type
