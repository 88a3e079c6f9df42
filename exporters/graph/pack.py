"""Projections of the same value become one: fewer and larger multiplications."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from onnx import NodeProto, helper

from exporters.graph.fold import slice_bounds
from exporters.graph.graph import Graph

ATTENTION = "GroupQueryAttention"


@dataclass(frozen=True)
class Projection:
    """x @ weight [K, N], and a bias [N] if there is one."""

    multiply: NodeProto
    add: NodeProto | None
    weight: str
    bias: str | None

    @property
    def source(self) -> str:
        """The value projected."""
        return self.multiply.input[0]

    @property
    def output(self) -> str:
        """The value made."""
        return (self.add or self.multiply).output[0]


def pack_projections(graph: Graph) -> None:
    """Join query, key and value, gate and up, and whatever else reads the same value."""
    for attention in [n for n in graph.nodes if n.op_type == ATTENTION]:
        _pack_attention(graph, attention)
    siblings: dict[str, list[Projection]] = defaultdict(list)
    for projection in projections(graph):
        siblings[projection.source].append(projection)
    for group in siblings.values():
        if len(group) > 1:
            _split(graph, group, _pack(graph, group))


def projections(graph: Graph) -> Iterator[Projection]:
    """Every multiplication by a constant matrix, with its bias."""
    readers = graph.consumers()
    for node in graph.nodes:
        weight = graph.weights.get(node.input[1]) if node.op_type == "MatMul" else None
        if weight is None or weight.ndim != 2:
            continue
        add, bias = _bias_after(graph, readers, node, weight.shape[1])
        yield Projection(multiply=node, add=add, weight=node.input[1], bias=bias)


def _bias_after(
    graph: Graph, readers: dict[str, list[NodeProto]], node: NodeProto, width: int
) -> tuple[NodeProto | None, str | None]:
    after = readers[node.output[0]]
    if len(after) != 1 or after[0].op_type != "Add":
        return None, None
    other = next((name for name in after[0].input if name in graph.weights), None)
    if other is None or graph.weights[other].shape != (width,):
        return None, None
    return after[0], other


def _pack_attention(graph: Graph, attention: NodeProto) -> None:
    """Attention takes query, key and value as one value, where they lie in one."""
    by_output = {p.output: p for p in projections(graph)}
    parts = [by_output.get(name) for name in attention.input[:3]]
    group = [part for part in parts if part is not None]
    if len(group) == 3 and len({part.source for part in group}) == 1:
        packed = _pack(graph, group)
        graph.nodes = [n for n in graph.nodes if not any(n is p.multiply for p in group)]
    elif (whole := _sliced_from(graph, list(attention.input[:3]))) is not None:
        packed = whole
    else:
        return
    attention.input[0], attention.input[1], attention.input[2] = packed, "", ""


def _sliced_from(graph: Graph, names: list[str]) -> str | None:
    """The value whose last axis `names` cut into three, in order and without gaps."""
    made = graph.producers()
    cuts = [made.get(name) for name in names]
    nodes = [cut for cut in cuts if cut is not None and cut.op_type == "Slice"]
    if len(nodes) != 3 or len({node.input[0] for node in nodes}) != 1:
        return None
    end = 0
    for node in nodes:
        bounds = slice_bounds(graph, node)
        if bounds is None or bounds[0] != end:
            return None
        end = bounds[1]
    return nodes[0].input[0]


def _pack(graph: Graph, group: list[Projection]) -> str:
    """Add the joint projection before the first of `group`; the value it makes."""
    first = group[0]
    name = f"{first.multiply.name.rsplit('/', 1)[0]}+{len(group) - 1}"
    weights = [graph.weights[part.weight] for part in group]
    weight = graph.constant(f"{name}/weight", np.concatenate(weights, axis=1))
    nodes = [helper.make_node("MatMul", [first.source, weight], [f"{name}/out"], name=name)]
    if any(part.bias is not None for part in group):
        biases = [
            np.zeros(w.shape[1], w.dtype) if part.bias is None else graph.weights[part.bias]
            for part, w in zip(group, weights, strict=True)
        ]
        bias = graph.constant(f"{name}/bias", np.concatenate(biases))
        inputs, output = [nodes[0].output[0], bias], [f"{name}/biased"]
        nodes.append(helper.make_node("Add", inputs, output, name=f"{name}/add"))
    graph.insert_before(first.multiply, *nodes)
    return nodes[-1].output[0]


def _split(graph: Graph, group: list[Projection], packed: str) -> None:
    """Cut the joint value into the parts that are read."""
    widths = [graph.weights[part.weight].shape[1] for part in group]
    sizes = graph.constant(f"{packed}/sizes", np.array(widths))
    outputs = [part.output for part in group]
    old = [node for part in group for node in (part.multiply, part.add) if node is not None]
    split = helper.make_node("Split", [packed, sizes], outputs, name=f"{packed}/split", axis=-1)
    graph.insert_before(group[0].multiply, split)
    graph.nodes = [node for node in graph.nodes if not any(node is gone for gone in old)]
