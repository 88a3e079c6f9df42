"""The same graphs on the daemon's own operators: an 8-bit memory, attended to as it lies, and the
encoder's attention within a window."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import onnx
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from exporters.conditioned.naming import DECODER, NATIVE_MEMORY, SEGMENTS
from exporters.errors import ExportError
from exporters.graph.graph import attribute
from exporters.graph.native import write_native
from nsedge.bundle.causal_lm import TOKEN_SCALE_BYTES
from nsedge.native import DOMAIN

ATTENTION = "CrossAttention"
APPEND = "CrossAppend"
WINDOW_ATTENTION = "WindowAttention"
WINDOW_HEAD_MULTIPLE = 32
"""Of the numbers of a head, for the operator."""
GELU = "Gelu"
GELU_ROWS = "GeluRows"


def write_decoder(graph: Path, target: Path) -> None:
    """Rewrite the decoder at `graph` to `target`, beside it.

    Raises:
        ExportError: something of it has no native form.
    """
    if (reason := write_native(graph, target)) is not None:
        raise ExportError(f"{graph} has no native form: {reason}")
    model = onnx.load(target, load_external_data=False)
    nodes = list(model.graph.node)
    made = {name: node for node in nodes for name in node.output}
    gathered: set[str] = set()
    for at, node in enumerate(nodes):
        if node.op_type == "MultiHeadAttention":
            gathered.update(node.input[1:3])
            nodes[at] = _cross_attention(node, [made[name].input[0] for name in node.input[1:3]])
    kept = [node for node in nodes if node.output[0] not in gathered]
    memory = {name for node in kept if node.op_type == ATTENTION for name in node.input[1:3]}
    rows = DECODER.memory.rows
    values = [
        _cached(value) if value.name in memory else _copied(value)
        for value in model.graph.input
        if value.name != rows
    ]
    _rewrite(model, kept, inputs=[*values, _segments()], outputs=model.graph.output)
    target.write_bytes(model.SerializeToString())


def write_encoder(graph: Path, target: Path) -> None:
    """Rewrite the encoder at `graph` to `target`, beside it: it writes into the memory."""
    model = onnx.load(graph, load_external_data=False)
    nodes = _attending_within(model)
    _round_after_gelu(nodes, model)
    made = {name: node for node in nodes for name in node.output}
    states, *row = model.graph.output
    turned = [made[value.name] for value in row]
    heads = [made[node.input[0]] for node in turned]
    gone = {name for node in (*turned, *heads) for name in node.output}
    kept = [node for node in nodes if node.output[0] not in gone]
    past, present = [], []
    for layer in range(len(row) // 2):
        pair = slice(2 * layer, 2 * layer + 2)
        names = _names(layer)
        count = int(row[2 * layer].type.tensor_type.shape.dim[1].dim_value)
        kept.append(_cross_append(layer, [node.input[0] for node in heads[pair]], count))
        past += [_cached(value, name) for value, name in zip(row[pair], names[:2], strict=True)]
        present += [_cached(value, name) for value, name in zip(row[pair], names[2:], strict=True)]
    inputs = [*map(_copied, model.graph.input), _segments(), *past]
    _rewrite(model, kept, inputs=inputs, outputs=[_copied(states), *present])
    model.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    target.write_bytes(model.SerializeToString())


def _attending_within(model: ModelProto) -> list[NodeProto]:
    """The nodes with attention over the joint queries, keys and values of a window, in the place of
    what splits them and attends, where the operator has heads of that width."""
    nodes: list[NodeProto] = list(model.graph.node)
    splits = {node.output[0]: node for node in nodes if node.op_type == "Split"}
    small = {one.name: one for one in model.graph.initializer}
    for node in [one for one in nodes if one.op_type == "MultiHeadAttention"]:
        split = splits[node.input[0]]
        width = int(numpy_helper.to_array(small[split.input[1]])[0])
        if width // attribute(node, "num_heads") % WINDOW_HEAD_MULTIPLE == 0:
            nodes[nodes.index(node)] = _window_attention(node, split)
            nodes.remove(split)
    return nodes


def _round_after_gelu(nodes: list[NodeProto], model: ModelProto) -> None:
    """Put our operators in the place of Gelu: with the rounding of its rows, where that follows."""
    constants = {one.name: one for one in model.graph.initializer}
    made = {name: node for node in nodes for name in node.output}
    for node in [one for one in nodes if one.op_type == "QuantizeLinear"]:
        divide = made.get(node.input[0])
        gelu = None if divide is None else made.get(divide.input[0])
        if divide is None or gelu is None or gelu.op_type != GELU:
            continue
        size = made[divide.input[1]]
        least, scale, zero = (
            float(numpy_helper.to_array(constants[name]))
            for name in (size.input[1], *node.input[1:3])
        )
        nodes[nodes.index(gelu)] = helper.make_node(
            GELU_ROWS,
            [gelu.input[0]],
            [node.output[0], size.output[0]],
            name=gelu.name,
            domain=DOMAIN,
            least=least,
            levels=1 / scale,
            zero=zero,
        )
        for gone in (made[size.input[0]], size, divide, node):
            nodes.remove(gone)
    for node in nodes:
        if node.op_type == GELU:
            node.domain = DOMAIN


def _window_attention(node: NodeProto, split: NodeProto) -> NodeProto:
    return helper.make_node(
        WINDOW_ATTENTION,
        [split.input[0]],
        list(node.output),
        name=node.name,
        domain=DOMAIN,
        num_heads=attribute(node, "num_heads"),
        scale=attribute(node, "scale"),
    )


def _names(layer: int) -> list[str]:
    """Past key and value, present key and value."""
    io = NATIVE_MEMORY
    names = (io.past_key, io.past_value, io.present_key, io.present_value)
    return [name.format(layer=layer) for name in names]


def _cross_attention(node: NodeProto, memory: list[str]) -> NodeProto:
    return helper.make_node(
        ATTENTION,
        [node.input[0], *memory, SEGMENTS],
        list(node.output),
        name=node.name,
        domain=DOMAIN,
        num_heads=attribute(node, "num_heads"),
        scale=attribute(node, "scale"),
    )


def _cross_append(layer: int, sources: list[str], heads: int) -> NodeProto:
    names = _names(layer)
    return helper.make_node(
        APPEND,
        [*sources, *names[:2], SEGMENTS],
        names[2:],
        name=f"memory.{layer}/append",
        domain=DOMAIN,
        num_heads=heads,
    )


def _segments() -> ValueInfoProto:
    return helper.make_tensor_value_info(SEGMENTS, TensorProto.INT32, ["segments_heard", 3])


def _cached(value: ValueInfoProto, name: str | None = None) -> ValueInfoProto:
    """A memory of float32 [rows, heads, frames, D] as 8-bit numbers in blocks, of any rows."""
    dims = value.type.tensor_type.shape.dim
    size = ["memories", dims[1].dim_value, "places", dims[3].dim_value + TOKEN_SCALE_BYTES]
    return helper.make_tensor_value_info(name or value.name, TensorProto.INT8, size)


def _copied(value: ValueInfoProto) -> ValueInfoProto:
    copy = ValueInfoProto()
    copy.CopyFrom(value)
    return copy


def _rewrite(
    model: ModelProto,
    nodes: Iterable[NodeProto],
    *,
    inputs: Iterable[ValueInfoProto],
    outputs: Iterable[ValueInfoProto],
) -> None:
    """Put nodes, inputs and outputs in the place of the model's, and drop weights nobody reads."""
    graph = helper.make_graph(list(nodes), model.graph.name, list(inputs), list(outputs))
    wanted = {name for node in graph.node for name in node.input}
    graph.initializer.extend(one for one in model.graph.initializer if one.name in wanted)
    model.graph.CopyFrom(graph)
