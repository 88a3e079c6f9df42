"""Attention of a decoder between the tokens of a picture in both directions.

GroupQueryAttention is causal. Behind each one comes a choice: where a run is told of pictures, its
queries are held to all cached keys anew, by a mask; elsewhere its own output goes on, and nothing
is computed. A run that is told of pictures is of one row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from exporters.errors import Refused
from exporters.graph.graph import MICROSOFT, Array, Graph, attribute
from exporters.graph.pack import ATTENTION
from nsedge.bundle.causal_lm import GraphIo

PREFIX = "together"
TOLD = f"{PREFIX}/is_told"
MASKS = {True: f"{PREFIX}/mask_of_window", False: f"{PREFIX}/mask"}
"""Of layers with a window, and without."""
POSITIONS = f"{PREFIX}/positions"
HIDDEN = float(np.finfo(np.float32).min)
UNKNOWN = ("softcap", "smooth_softmax")


def see_within_pictures(graph: Graph, io: GraphIo, blocks: str) -> None:
    """Give the decoder the input `blocks`, int64 [P, 2], first and last positions of pictures that
    a run's tokens are of, which see all of their own. In place; the graph is clean.

    Raises:
        Refused: its attention is of a kind that has no form here.
    """
    layers = [node for node in graph.nodes if node.op_type == ATTENTION]
    windows = {attribute(node, "local_window_size", -1) for node in layers} - {-1}
    if len(windows) > 1:
        raise Refused(f"attention over windows of several sizes, {sorted(windows)}, has no form")
    graph.inputs.append(helper.make_tensor_value_info(blocks, TensorProto.INT64, ["pictures", 2]))
    window = next(iter(windows), None)
    for node in layers:
        _choose(graph, node, _Layer.of(graph, node, io))
    graph.nodes += _told(graph, blocks)
    graph.nodes.append(_masks(io, blocks, window))
    graph.prune()


@dataclass(frozen=True, kw_only=True)
class _Layer:
    """The attention of a layer: its query, its caches after the run, and what it is made with."""

    query: str
    keys: str
    values: str
    tables: tuple[str, str] | None
    heads: int
    kv_heads: int
    width: int
    scale: float
    has_window: bool
    total: str

    @classmethod
    def of(cls, graph: Graph, node: NodeProto, io: GraphIo) -> _Layer:
        """Raises Refused."""
        inputs = [*node.input, *[""] * 12]
        odd = [name for name in UNKNOWN if attribute(node, name, 0)]
        if odd or any(inputs[9:12]) or not inputs[1]:
            raise Refused(f"attention with {', '.join(odd) or 'further inputs'} has no form here")
        cache = next(value for value in graph.inputs if value.name == inputs[3])
        width = cache.type.tensor_type.shape.dim[3].dim_value
        if attribute(node, "do_rotary", 0) and 2 * graph.weights[inputs[7]].shape[1] != width:
            raise Refused("heads that are rotated in part have no form here")
        return cls(
            query=inputs[0],
            keys=node.output[1],
            values=node.output[2],
            tables=(inputs[7], inputs[8]) if attribute(node, "do_rotary", 0) else None,
            heads=attribute(node, "num_heads"),
            kv_heads=attribute(node, "kv_num_heads"),
            width=width,
            scale=attribute(node, "scale"),
            has_window=attribute(node, "local_window_size", -1) > 0,
            total=io.total_sequence_length,
        )


class _Inner:
    """Nodes of a graph within a node, whose values have names of their own."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.nodes: list[NodeProto] = []

    def __call__(self, kind: str, *inputs: str, domain: str = "", **attributes: object) -> str:
        """What a node of that kind makes."""
        output = f"{self._name}/{len(self.nodes)}"
        made = helper.make_node(kind, inputs, [output], domain=domain, **attributes)
        self.nodes.append(made)
        return output

    def constant(self, array: Array) -> str:
        """A constant."""
        return self("Constant", value=numpy_helper.from_array(np.asarray(array)))

    def numbers(self, *numbers: int) -> str:
        """A constant int64 [n]."""
        return self.constant(np.array(numbers, np.int64))


def _choose(graph: Graph, node: NodeProto, layer: _Layer) -> None:
    """Put the choice behind a layer's attention."""
    causal, output = f"{node.output[0]}/causal", node.output[0]
    inner = _Inner(f"{PREFIX}/{node.name}/then")
    _attend(inner, layer)
    other = _Inner(f"{PREFIX}/{node.name}/else")
    other("Identity", causal)
    node.output[0] = causal
    branches = [
        helper.make_graph(
            part.nodes,
            f"{node.name}/{which}",
            [],
            [helper.make_tensor_value_info(part.nodes[-1].output[0], TensorProto.FLOAT, None)],
        )
        for which, part in (("then", inner), ("else", other))
    ]
    choice = helper.make_node(
        "If",
        [TOLD],
        [output],
        name=f"{PREFIX}/{node.name}",
        then_branch=branches[0],
        else_branch=branches[1],
    )
    graph.replace(node, node, choice)


def _attend(make: _Inner, layer: _Layer) -> str:
    """Attention of all queries to all cached keys, by the mask: [1, Q, heads * width]."""
    query, group = layer.query, layer.heads // layer.kv_heads
    if layer.tables is not None:
        query = make("RotaryEmbedding", query, POSITIONS, *layer.tables, domain=MICROSOFT)
    split = make.numbers(0, 0, layer.kv_heads, group, layer.width)
    parted = make("Transpose", make("Reshape", query, split), perm=[0, 2, 3, 1, 4])
    length = make("Reshape", make("Cast", layer.total, to=TensorProto.INT64), make.numbers(1))
    zero, axis = make.numbers(0), make.numbers(2)
    keys, values = (
        make("Unsqueeze", make("Slice", cache, zero, length, axis), axis)
        for cache in (layer.keys, layer.values)
    )
    turned = make("Transpose", keys, perm=[0, 1, 2, 4, 3])
    scale = make.constant(np.array(layer.scale, np.float32))
    scores = make("Mul", make("MatMul", parted, turned), scale)
    masked = make("Add", scores, MASKS[layer.has_window])
    found = make("MatMul", make("Softmax", masked, axis=-1), values)
    joined = make("Transpose", found, perm=[0, 3, 1, 2, 4])
    return make("Reshape", joined, make.numbers(0, 0, -1))


def _told(graph: Graph, blocks: str) -> list[NodeProto]:
    """Whether a run is told of pictures."""
    first = graph.constant(f"{PREFIX}/first", np.array(0, np.int64))
    return [
        helper.make_node("Shape", [blocks], [f"{PREFIX}/shape"]),
        helper.make_node("Gather", [f"{PREFIX}/shape", first], [f"{PREFIX}/count"]),
        helper.make_node("Greater", [f"{PREFIX}/count", first], [TOLD]),
    ]


def _masks(io: GraphIo, blocks: str, window: int | None) -> NodeProto:
    """What is added to scores, with a window and without, [Q, T], and the queries' positions
    [1, Q]; nothing of use where a run is told of no pictures."""
    make = _Inner(f"{PREFIX}/masks")
    total = make("Cast", io.total_sequence_length, to=TensorProto.INT64)
    queries = make("Gather", make("Shape", io.input_ids), make.constant(np.array(1, np.int64)))
    one, zero = (make.constant(np.array(n, np.int64)) for n in (1, 0))
    at = make("Range", make("Sub", total, queries), total, one)
    keys = make("Range", zero, total, one)
    of_query, of_key = (
        make("Unsqueeze", at, make.numbers(1)),
        make("Unsqueeze", keys, make.numbers(0)),
    )
    begins, ends = (
        make("Slice", blocks, make.numbers(n), make.numbers(n + 1), make.numbers(1)) for n in (0, 1)
    )
    within = [
        make(
            "Cast",
            make(
                "And",
                make("GreaterOrEqual", each, begins),
                make("LessOrEqual", each, ends),
            ),
            to=TensorProto.FLOAT,
        )
        for each in (make("Unsqueeze", at, make.numbers(0)), of_key)
    ]
    both = make("MatMul", make("Transpose", within[0], perm=[1, 0]), within[1])
    together = make("Greater", both, make.constant(np.array(0, np.float32)))
    causal = make("LessOrEqual", of_key, of_query)
    seen, hidden = (make.constant(np.array(n, np.float32)) for n in (0.0, HIDDEN))
    outputs = [make("Unsqueeze", at, make.numbers(0))]
    for width in (None, window):
        near = causal
        if width is not None:
            far = make("Sub", of_query, make.constant(np.array(width, np.int64)))
            near = make("And", causal, make("Greater", of_key, far))
        outputs.append(make("Where", make("Or", near, together), seen, hidden))
    other = _Inner(f"{PREFIX}/no_masks")
    nothing = [
        other.constant(np.zeros((1, 1), np.int64)),
        *(other.constant(np.zeros((1, 1), np.float32)) for _ in range(2)),
    ]
    kinds = (TensorProto.INT64, TensorProto.FLOAT, TensorProto.FLOAT)
    return helper.make_node(
        "If",
        [TOLD],
        [POSITIONS, MASKS[False], MASKS[True]],
        name=f"{PREFIX}/masks",
        then_branch=_graph(make, "then", outputs, kinds),
        else_branch=_graph(other, "else", nothing, kinds),
    )


def _graph(part: _Inner, name: str, outputs: Sequence[str], kinds: Sequence[int]) -> GraphProto:
    values = [
        helper.make_tensor_value_info(output, kind, None)
        for output, kind in zip(outputs, kinds, strict=True)
    ]
    return helper.make_graph(part.nodes, f"{PREFIX}/{name}", [], values)
