"""A graph for a GPU: every number that is not quantised in float16, the cache too.

Logits come out in float32, as everywhere.
"""

from __future__ import annotations

import msgspec
import numpy as np
from onnx import TensorProto, helper

from exporters.errors import Refused
from exporters.graph.graph import Graph, attribute
from nsedge.bundle.causal_lm import GraphIo, KvLayout

LARGEST = float(np.finfo(np.float16).max)
ACTIVATIONS = "accuracy_level"
"""MatMulNBits' attribute that asks for int8 activations: a GPU multiplies in float16."""


def halve(graph: Graph, *, io: GraphIo, kv: KvLayout) -> KvLayout:
    """Turn `graph` to float16 in place; the layout of its cache.

    Raises:
        Refused: a number does not fit, or positions are computed in the graph.
    """
    _refuse_positions(graph, io)
    for name, weight in graph.weights.items():
        if weight.dtype == np.float32:
            if weight.size and np.abs(weight).max() > LARGEST:
                raise Refused(f"{name} holds numbers beyond float16's {LARGEST:.0f}")
            graph.weights[name] = weight.astype(np.float16)
    for node in graph.nodes:
        kept = [a for a in node.attribute if a.name != ACTIVATIONS]
        del node.attribute[:]
        node.attribute.extend(kept)
    for value in (*graph.inputs, *graph.outputs):
        if value.name != io.logits and value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = TensorProto.FLOAT16
    _widen_logits(graph, io.logits)
    return msgspec.structs.replace(kv, dtype="float16")


def _refuse_positions(graph: Graph, io: GraphIo) -> None:
    """A position counts to thousands, where float16 has no more than whole steps."""
    casts = [n.name for n in graph.nodes if n.op_type == "Cast" and attribute(n, "to") == 1]
    if io.position_ids is not None or casts:
        raise Refused("positions or sums are computed in fp32 in the graph: no float16 form")


def _widen_logits(graph: Graph, logits: str) -> None:
    narrow = f"{logits}/float16"
    maker = graph.producers()[logits]
    maker.output[:] = [narrow if name == logits else name for name in maker.output]
    graph.nodes.append(
        helper.make_node("Cast", [narrow], [logits], name=f"{logits}/cast", to=TensorProto.FLOAT)
    )
