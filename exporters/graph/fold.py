"""Sizes that the trace works out anew at each run, though the weights fix them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import numpy as np
from onnx import NodeProto, helper

from exporters.graph.graph import Array, Graph

LAST_AXES = (2, -1)
"""The last axis of a projected value [B, S, N]."""
ARITHMETIC: dict[str, Callable[[Array, Array], Array]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.floor_divide,
}


def fold_widths(graph: Graph) -> None:
    """Work out now what is computed of the widths of projections alone."""
    made = graph.producers()
    for node in graph.nodes:
        value = _width(graph, made, node)
        if value is None and node.op_type in ARITHMETIC:
            sizes = [graph.weights.get(name) for name in node.input]
            if all(size is not None and size.dtype == np.int64 for size in sizes):
                first, second = (size for size in sizes if size is not None)
                value = ARITHMETIC[node.op_type](first, second)
        if value is not None:
            graph.constant(node.output[0], np.asarray(value, np.int64))
    graph.nodes = [node for node in graph.nodes if node.output[0] not in graph.weights]


def _width(graph: Graph, made: dict[str, NodeProto], node: NodeProto) -> Array | None:
    """The size that `node` takes from the last axis of a projection's shape, if it does."""
    shape = made.get(node.input[0]) if node.op_type == "Gather" else None
    index = graph.weights.get(node.input[1]) if shape is not None else None
    if shape is None or shape.op_type != "Shape" or index is None or index.size != 1:
        return None
    width = _projected_width(graph, made.get(shape.input[0]))
    if width is None or int(index.item()) not in LAST_AXES:
        return None
    return np.full(index.shape, width, np.int64)


def _projected_width(graph: Graph, node: NodeProto | None) -> int | None:
    """N, if `node` multiplies by a constant matrix [K, N]."""
    weight = graph.weights.get(node.input[1]) if node and node.op_type == "MatMul" else None
    return weight.shape[1] if weight is not None and weight.ndim == 2 else None


def join_slices(graph: Graph) -> None:
    """Slices that cut a projection into consecutive parts are one Split."""
    cuts: dict[str, list[tuple[int, int, NodeProto]]] = defaultdict(list)
    for node in graph.nodes:
        if node.op_type == "Slice" and (bounds := slice_bounds(graph, node)) is not None:
            cuts[node.input[0]].append((*bounds, node))
    made = graph.producers()
    for source, parts in cuts.items():
        width = _projected_width(graph, made.get(source))
        parts.sort(key=lambda part: part[:2])
        if width is None or not _covers(parts, width):
            continue
        sizes = graph.constant(f"{source}/parts", np.array([end - at for at, end, _ in parts]))
        nodes = [node for *_, node in parts]
        outputs = [node.output[0] for node in nodes]
        split = helper.make_node("Split", [source, sizes], outputs, name=f"{source}/split", axis=-1)
        graph.replace(nodes[0], split)
        graph.nodes = [n for n in graph.nodes if not any(n is gone for gone in nodes)]


def slice_bounds(graph: Graph, node: NodeProto) -> tuple[int, int] | None:
    """First and last index of a Slice of the last axis, in steps of 1, if they are fixed."""
    bounds = [graph.weights.get(name) for name in node.input[1:]]
    if len(bounds) < 3 or any(bound is None or bound.size != 1 for bound in bounds):
        return None
    start, end, axis, *step = (int(np.asarray(bound).item()) for bound in bounds)
    return (start, end) if axis in LAST_AXES and step in ([], [1]) else None


def _covers(parts: list[tuple[int, int, NodeProto]], width: int) -> bool:
    ends = [0, *(end for _, end, _ in parts)]
    starts = [at for at, _, _ in parts]
    return len(parts) > 1 and starts == ends[:-1] and ends[-1] == width
