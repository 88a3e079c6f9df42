"""An ONNX graph in hand: its nodes as protobuf, its weights as arrays (mapped from the file)."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import (
    AttributeProto,
    NodeProto,
    TensorProto,
    ValueInfoProto,
    helper,
    numpy_helper,
)
from onnx.external_data_helper import ExternalDataInfo, uses_external_data

from exporters.graph.records import DATA_SUFFIX

Array = NDArray[Any]

OPSET = 18
MICROSOFT = "com.microsoft"
MARK_DOMAIN = "nsedge"
RMS_NORM_MARK = "RmsNorm"
"""A mark in traced graphs; the clean-up puts ONNX Runtime's norm in its place."""
EXTERNAL_FROM_BYTES = 1024
ALIGNMENT = 64
PAGE = 4096
IR_VERSION = 10


class Graph:
    """Nodes in topological order, inputs, outputs, and every constant as a named array."""

    def __init__(
        self,
        *,
        nodes: list[NodeProto],
        inputs: list[ValueInfoProto],
        outputs: list[ValueInfoProto],
        weights: dict[str, Array],
    ) -> None:
        self.nodes = nodes
        self.inputs = inputs
        self.outputs = outputs
        self.weights = weights

    @classmethod
    def load(cls, path: Path) -> Graph:
        """Read a model; Constant nodes become weights, external weights are mapped."""
        model = onnx.load(path, load_external_data=False)
        weights = {i.name: _array_of(i, path.parent) for i in model.graph.initializer}
        nodes = []
        for node in model.graph.node:
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                weights[node.output[0]] = _array_of(node.attribute[0].t, path.parent)
            else:
                nodes.append(node)
        return cls(
            nodes=nodes,
            inputs=list(model.graph.input),
            outputs=list(model.graph.output),
            weights=weights,
        )

    def save(self, path: Path) -> None:
        """Write the model to `path` and its larger weights, aligned, to `path`.data beside it."""
        with path.with_name(f"{path.name}{DATA_SUFFIX}").open("wb") as data:
            tensors = [_tensor_of(name, array, data) for name, array in self.weights.items()]
        graph = helper.make_graph(
            self.nodes, "decoder", self.inputs, self.outputs, initializer=tensors
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
        path.write_bytes(model.SerializeToString())

    def producers(self) -> dict[str, NodeProto]:
        """Which node makes each value."""
        return {name: node for node in self.nodes for name in node.output if name}

    def consumers(self) -> dict[str, list[NodeProto]]:
        """Which nodes read each value."""
        readers: dict[str, list[NodeProto]] = defaultdict(list)
        for node in self.nodes:
            for name in node.input:
                if name:
                    readers[name].append(node)
        return readers

    def output_names(self) -> set[str]:
        """The values that the caller gets."""
        return {output.name for output in self.outputs}

    def constant(self, name: str, array: Array) -> str:
        """Keep `array` as the weight `name`, once; the name."""
        self.weights.setdefault(name, array)
        return name

    def insert_before(self, node: NodeProto, *new: NodeProto) -> None:
        """Put `new` right before `node`."""
        at = index_of(self.nodes, node)
        self.nodes[at:at] = new

    def replace(self, node: NodeProto, *new: NodeProto) -> None:
        """Put `new` in the place of `node`."""
        at = index_of(self.nodes, node)
        self.nodes[at : at + 1] = new

    def rename_uses(self, old: str, new: str) -> None:
        """Let every reader of `old` read `new`."""
        for node in self.nodes:
            for i, name in enumerate(node.input):
                if name == old:
                    node.input[i] = new

    def prune(self) -> None:
        """Drop nodes and weights that nothing reads, and order the nodes again."""
        self._sort()
        wanted = self.output_names()
        kept = []
        for node in reversed(self.nodes):
            if wanted.intersection(node.output):
                kept.append(node)
                wanted.update(values_read(node))
        self.nodes = kept[::-1]
        self.weights = {name: array for name, array in self.weights.items() if name in wanted}

    def _sort(self) -> None:
        made = self.producers()
        order: list[NodeProto] = []
        done: set[int] = set()
        stack = [(node, False) for node in reversed(self.nodes)]
        while stack:
            node, ready = stack.pop()
            if id(node) in done:
                continue
            if ready:
                done.add(id(node))
                order.append(node)
                continue
            stack.append((node, True))
            stack.extend((made[x], False) for x in values_read(node) if x in made)
        self.nodes = order


def index_of(nodes: list[NodeProto], node: NodeProto) -> int:
    """Where this very node stands (equal nodes are not the same)."""
    return next(i for i, other in enumerate(nodes) if other is node)


def values_read(node: NodeProto) -> list[str]:
    """The values that a node reads, those that the graphs within it take from around them, too."""
    names = list(node.input)
    for part in node.attribute:
        if part.type == AttributeProto.GRAPH:
            for inner in part.g.node:
                names += values_read(inner)
            names += (output.name for output in part.g.output)
    return names


def attribute(node: NodeProto, name: str, default: Any = None) -> Any:
    """The value of a node's attribute."""
    found = next((a for a in node.attribute if a.name == name), None)
    return default if found is None else helper.get_attribute_value(found)


def _array_of(tensor: TensorProto, folder: Path) -> Array:
    if not uses_external_data(tensor):
        return numpy_helper.to_array(tensor)
    info = ExternalDataInfo(tensor)
    return np.memmap(
        folder / info.location,
        dtype=helper.tensor_dtype_to_np_dtype(tensor.data_type),
        mode="r",
        offset=info.offset or 0,
        shape=tuple(tensor.dims),
    )


def _tensor_of(name: str, array: Array, data: Any) -> TensorProto:
    if array.nbytes < EXTERNAL_FROM_BYTES:
        return numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)
    alignment = PAGE if array.nbytes >= PAGE else ALIGNMENT
    data.write(b"\0" * (-data.tell() % alignment))
    tensor = TensorProto(
        name=name,
        dims=array.shape,
        data_type=helper.np_dtype_to_tensor_dtype(array.dtype),
        data_location=TensorProto.EXTERNAL,
    )
    place = {"location": Path(data.name).name, "offset": data.tell(), "length": array.nbytes}
    for key, value in place.items():
        tensor.external_data.add(key=key, value=str(value))
    data.write(np.ascontiguousarray(array).data)
    return tensor
