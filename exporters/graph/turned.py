"""Attention whose queries and keys the graph itself has rotated, as the daemon's operator takes it:
packed again behind the rotation, and with tables that rotate nothing."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from onnx import ModelProto, NodeProto, helper, numpy_helper

from exporters.graph.graph import attribute, index_of

ROTARY = "RotaryEmbedding"
NO_TABLE = "no_rotary_table"
POSITIONS = 1 << 24
"""Rows of a table without columns: more than any cache has places."""


def pack_turned(model: ModelProto) -> None:
    """Give every GroupQueryAttention of `model` that reads rotated queries and keys, and a value
    beside them, one packed value to read, in place."""
    nodes = list(model.graph.node)
    made = {name: node for node in nodes for name in node.output}
    turned = [node for node in nodes if _is_turned(node, made)]
    for node in turned:
        packed = f"{node.name}/packed"
        joined = helper.make_node("Concat", list(node.input[:3]), [packed], name=packed, axis=-1)
        nodes.insert(index_of(nodes, node), joined)
        node.input[0], node.input[1], node.input[2] = packed, "", ""
        node.input.extend([""] * (9 - len(node.input)))
        node.input[7] = node.input[8] = NO_TABLE
        stated = next(each for each in node.attribute if each.name == "do_rotary")
        stated.i = 1
    if turned:
        table = numpy_helper.from_array(np.empty((POSITIONS, 0), np.float32), NO_TABLE)
        model.graph.initializer.append(table)
        del model.graph.node[:]
        model.graph.node.extend(nodes)


def _is_turned(node: NodeProto, made: Mapping[str, NodeProto]) -> bool:
    if node.op_type != "GroupQueryAttention" or attribute(node, "do_rotary", 0):
        return False
    before = [made.get(name) for name in node.input[:2]]
    return all(one is not None and one.op_type == ROTARY for one in before) and bool(node.input[2])
