"""Turn a decoder's residual stream by an orthogonal matrix that its weights take in.

A norm without a gain has the same length before and after a turn, so x R / |x R| is (x / |x|) R:
whatever writes to the stream is multiplied by R, whatever reads a norm of it by R transposed, and
the model computes what it did. What changes is that no few channels stand out any more, so that a
row of activations fits 8 bits with one scale (QuaRot, arXiv 2404.00456). Values of a head are
turned alike between their projection and the next.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, helper

from exporters.errors import Refused
from exporters.graph.graph import Graph, attribute
from exporters.graph.pack import ATTENTION, Projection, projections

NORM = "SimplifiedLayerNormalization"
SKIP_NORM = "SkipSimplifiedLayerNormalization"
UNIT_GAIN = "unit_gain"
SEED = 20

Matrix = NDArray[np.float64]


@dataclass
class Stream:
    """Where the residual stream runs.

    `values` have its coordinates; `normed` maps each norm's output to the norm's gain.
    """

    tables: list[NodeProto] = field(default_factory=list)
    values: set[str] = field(default_factory=set)
    normed: dict[str, str] = field(default_factory=dict)
    norms: list[NodeProto] = field(default_factory=list)
    readers: list[Projection] = field(default_factory=list)
    heads: list[NodeProto] = field(default_factory=list)
    """Multiplications by the embedding table as it lies, [V, H]."""
    writers: list[Projection] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Rotation:
    """Which values of a rotated graph no longer have outlying channels."""

    normed: frozenset[str]
    """Norms of the stream: each row's mean square is 1."""
    attended: frozenset[str]
    """What attention makes of turned values."""


def rotate(graph: Graph) -> Rotation:
    """Turn the stream and the values of every head, in place.

    Raises:
        Refused: something in the graph does not commute with a turn; the message names it.
    """
    stream = find_stream(graph)
    width = graph.weights[stream.norms[0].input[-1]].size
    turn = orthogonal(width, np.random.default_rng(SEED))
    attended = [_turn_values(graph, n) for n in graph.nodes if n.op_type == ATTENTION]
    _untie_heads(graph, stream)
    for projection in stream.readers:
        gain = graph.weights[stream.normed[projection.source]].astype(np.float64)
        graph.weights[projection.weight] = _product(turn.T * gain, graph.weights[projection.weight])
    for projection in stream.writers:
        _turn_output(graph, projection, turn)
    for lookup in stream.tables:
        graph.weights[lookup.input[0]] = _product(graph.weights[lookup.input[0]], turn)
    graph.constant(UNIT_GAIN, np.ones(width, np.float32))
    for norm in stream.norms:
        norm.input[2 if norm.op_type == SKIP_NORM else 1] = UNIT_GAIN
    graph.prune()
    return Rotation(normed=frozenset(stream.normed), attended=frozenset(attended))


def orthogonal(size: int, random: np.random.Generator) -> Matrix:
    """A random orthogonal matrix [size, size]; a Hadamard one, signs drawn, for powers of two."""
    if size & (size - 1) == 0:
        made = np.ones((1, 1))
        while len(made) < size:
            made = np.block([[made, made], [made, -made]])
        return made * random.choice([-1.0, 1.0], (size, 1)) / np.sqrt(size)
    factor, triangle = np.linalg.qr(random.standard_normal((size, size)))
    return np.asarray(factor * np.sign(np.diag(triangle)))


def find_stream(graph: Graph) -> Stream:
    """Follow the residual stream from the embedding to the head.

    Raises:
        Refused: it is read or written by something that does not commute with a turn.
    """
    stream = Stream()
    made_by = {projection.output: projection for projection in projections(graph)}
    by_node = {id(projection.multiply): projection for projection in made_by.values()}
    for node in graph.nodes:
        touched = [name for name in node.input if name in stream.values or name in stream.normed]
        if _is_lookup(graph, node):
            stream.tables.append(node)
            stream.values.add(node.output[0])
        elif touched:
            _follow(graph, stream, node, by_node, made_by)
    if not stream.norms:
        raise Refused("no RMS norm reads the embedding: there is no stream to turn")
    return stream


def _is_lookup(graph: Graph, node: NodeProto) -> bool:
    table = graph.weights.get(node.input[0]) if node.op_type == "Gather" else None
    return table is not None and table.ndim == 2


def _follow(
    graph: Graph,
    stream: Stream,
    node: NodeProto,
    by_node: dict[int, Projection],
    made_by: dict[str, Projection],
) -> None:
    """Note what `node`, which reads the stream or a norm of it, does with it."""
    source = node.input[0]
    if node.op_type == NORM and source in stream.values:
        stream.norms.append(node)
        stream.normed[node.output[0]] = node.input[1]
    elif node.op_type in (SKIP_NORM, "Add") and _is_sum(graph, node):
        _add_writers(stream, node, made_by)
        if node.op_type == "Add":
            stream.values.add(node.output[0])
            return
        stream.norms.append(node)
        stream.normed[node.output[0]] = node.input[2]
        if len(node.output) > 3:
            stream.values.add(node.output[3])
    elif node.op_type == "Gather" and source in stream.values:
        stream.values.add(node.output[0])
    elif node.op_type == "Gather" and source in stream.normed:
        stream.normed[node.output[0]] = stream.normed[source]
    elif id(node) in by_node and source in stream.normed:
        stream.readers.append(by_node[id(node)])
    elif node.op_type == "FusedMatMul" and source in stream.normed:
        stream.heads.append(node)
    elif _is_scaling(graph, node):
        stream.values.add(node.output[0])
    else:
        raise Refused(f"{node.name} ({node.op_type}) does not commute with a rotation")


def _is_sum(graph: Graph, node: NodeProto) -> bool:
    return not any(name in graph.weights for name in node.input[:2])


def _is_scaling(graph: Graph, node: NodeProto) -> bool:
    constants = [graph.weights[name] for name in node.input if name in graph.weights]
    return node.op_type == "Mul" and len(constants) == 1 and constants[0].size == 1


def _add_writers(stream: Stream, node: NodeProto, made_by: dict[str, Projection]) -> None:
    for name in node.input[:2]:
        if name in stream.values:
            continue
        if name not in made_by:
            raise Refused(
                f"{node.name} adds what is no projection (a norm after it, say) to the residual"
                " stream, which does not commute with a rotation"
            )
        stream.writers.append(made_by[name])


def _untie_heads(graph: Graph, stream: Stream) -> None:
    """Give the head a matrix [H, V] of its own: it takes in the last norm's gain."""
    for node in stream.heads:
        table = graph.weights[node.input[1]]
        weight = graph.constant(f"{node.name}/weight", np.ascontiguousarray(table.T))
        own = helper.make_node("MatMul", [node.input[0], weight], node.output, name=node.name)
        graph.replace(node, own)
        stream.readers.append(Projection(multiply=own, add=None, weight=weight, bias=None))


def _turn_output(graph: Graph, projection: Projection, turn: Matrix) -> None:
    graph.weights[projection.weight] = _product(graph.weights[projection.weight], turn)
    if projection.bias is not None:
        graph.weights[projection.bias] = _product(graph.weights[projection.bias], turn)


def _turn_values(graph: Graph, attention: NodeProto) -> str:
    """Turn a layer's values head by head, and back in the projection that reads them: its input."""
    after = _output_projection(graph, attention)
    heads, groups = attribute(attention, "num_heads"), attribute(attention, "kv_num_heads")
    weight = graph.weights[after.weight]
    size = weight.shape[0] // heads
    turn = orthogonal(size, np.random.default_rng(SEED + 1))
    before, start = _value_projection(graph, attention, groups * size)
    for name in filter(None, (before.weight, before.bias)):
        whole = np.array(graph.weights[name])
        values = whole[..., start : start + groups * size]
        whole[..., start : start + groups * size] = _product(
            values.reshape(*values.shape[:-1], groups, size), turn
        ).reshape(values.shape)
        graph.weights[name] = whole
    rows = weight.reshape(heads, size, -1)
    graph.weights[after.weight] = _product(turn.T, rows).reshape(weight.shape)
    return after.source


def _output_projection(graph: Graph, attention: NodeProto) -> Projection:
    readers, value = graph.consumers(), attention.output[0]
    while [node.op_type for node in readers[value]] == ["Gather"]:
        value = readers[value][0].output[0]
    found = [p for p in projections(graph) if p.source == value]
    if len(found) != 1 or len(readers[value]) != 1:
        raise Refused(f"{attention.name}: its output is read by more than one projection")
    return found[0]


def _value_projection(graph: Graph, attention: NodeProto, width: int) -> tuple[Projection, int]:
    """The projection that makes a layer's values, and the first of their columns in it."""
    made_by = {projection.output: projection for projection in projections(graph)}
    value = attention.input[2]
    if not value:
        packed = made_by.get(attention.input[0])
        if packed is not None:
            return packed, graph.weights[packed.weight].shape[1] - width
    if value in made_by:
        return made_by[value], 0
    for projection, start in _split_from(graph, value, made_by):
        return projection, start
    raise Refused(f"{attention.name}: its values come from no projection")


def _split_from(
    graph: Graph, value: str, made_by: dict[str, Projection]
) -> Iterator[tuple[Projection, int]]:
    made = graph.producers().get(value)
    if made is None or made.op_type != "Split" or made.input[0] not in made_by:
        return
    sizes = graph.weights[made.input[1]].tolist()
    yield made_by[made.input[0]], sum(sizes[: list(made.output).index(value)])


def _product(first: NDArray[Any], second: NDArray[Any]) -> NDArray[np.float32]:
    """In single precision: a turn adds up K terms of like size, and is not repeated."""
    product: NDArray[np.float32] = first.astype(np.float32) @ second.astype(np.float32)
    return product
