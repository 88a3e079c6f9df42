"""The decoder's graph with what its alignment heads look at as a further output.

It reads the weights of the graph that it was made of, from the same file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from exporters.conditioned.native import ATTENTION
from exporters.graph.graph import MICROSOFT, attribute
from exporters.speech.naming import WEIGHTS
from nsedge.native import DOMAIN

LOOK = "CrossWeights"

Heads = Sequence[tuple[int, int]]
"""Layers and heads."""


def write_aligner(graph: Path, target: Path, heads: Heads) -> None:
    """Write the decoder at `graph`, in either form, to `target` beside it, with the weights float32
    [K, T, F] of `heads`: of each of them, in order of layer and head, of each token."""
    model = onnx.load(graph, load_external_data=False)
    adding = _Adding(model)
    for layer in sorted({layer for layer, _ in heads}):
        adding.look(layer, sorted(head for of, head in heads if of == layer))
    adding.join()
    target.write_bytes(model.SerializeToString())


class _Adding:
    def __init__(self, model: Any) -> None:
        self._graph = model.graph
        kinds = ("MultiHeadAttention", ATTENTION)
        self._attention = [node for node in self._graph.node if node.op_type in kinds]
        self._made: list[str] = []

    def look(self, layer: int, heads: list[int]) -> None:
        """Add the weights of some heads of a layer."""
        node = self._attention[layer]
        chosen = self._constant(f"{node.name}/chosen", np.array(heads, np.int32))
        made = f"{node.name}/weights"
        if node.op_type == ATTENTION:
            looking = helper.make_node(
                LOOK,
                [*node.input, chosen],
                [made],
                name=made,
                domain=DOMAIN,
                num_heads=attribute(node, "num_heads"),
                scale=attribute(node, "scale"),
            )
            self._graph.node.append(looking)
        else:
            self._graph.node.extend(self._products(node, chosen, made))
        self._made.append(made)

    def join(self) -> None:
        """Give all of them as one output."""
        name = "alignment"
        self._graph.node.append(
            helper.make_node("Concat", self._made, [WEIGHTS], name=name, axis=0)
        )
        size = ["heads", "queries", "frames"]
        self._graph.output.append(helper.make_tensor_value_info(WEIGHTS, TensorProto.FLOAT, size))

    def _products(self, node: NodeProto, chosen: str, made: str) -> list[NodeProto]:
        """The same in standard operators, of a batch of one."""
        query, keys = node.input[:2]
        heads, name = attribute(node, "num_heads"), f"{node.name}/look"
        sizes = self._constant(f"{name}/sizes", np.array([0, 0, heads, -1]))
        scale = self._constant(f"{name}/scale", np.array(attribute(node, "scale"), np.float32))
        first = self._constant(f"{name}/first", np.array([0]))
        of = {part: f"{name}/{part}" for part in ("cut", "turned", "queries", "keys", "whole")}
        steps: list[tuple[str, list[str], str, dict[str, Any]]] = [
            ("Reshape", [query, sizes], "cut", {}),
            ("Transpose", [of["cut"]], "turned", {"perm": [0, 2, 1, 3]}),
            ("Gather", [of["turned"], chosen], "queries", {"axis": 1}),
            ("Gather", [keys, chosen], "keys", {"axis": 1}),
        ]
        nodes = [
            helper.make_node(kind, inputs, [of[output]], name=of[output], **options)
            for kind, inputs, output, options in steps
        ]
        scores, scaled, whole = f"{name}/scores", f"{name}/scaled", of["whole"]
        nodes += [
            helper.make_node(
                "FusedMatMul",
                [of["queries"], of["keys"]],
                [scores],
                name=scores,
                domain=MICROSOFT,
                transB=1,
            ),
            helper.make_node("Mul", [scores, scale], [scaled], name=scaled),
            helper.make_node("Softmax", [scaled], [whole], name=whole, axis=-1),
            helper.make_node("Squeeze", [whole, first], [made], name=made),
        ]
        return nodes

    def _constant(self, name: str, array: Any) -> str:
        self._graph.initializer.append(numpy_helper.from_array(array, name))
        return name
